# SPDX-License-Identifier: Apache-2.0
"""The on-disk format of annotated streams that training and evaluation read.

A split is a folder with one folder a stream:

    <split>/<stream>/frames.npy         (T, S, S, 3) uint8 RGB, memory-mapped when read
    <split>/<stream>/stamps.npy         (T,) int64, nanoseconds from the stream's start
    <split>/<stream>/annotations.jsonl  one `Annotation` a line, in order; they tile the stream
    <split>/<stream>/meta.json          seed, camera, episodes; written last

A stream is written into a hidden folder and renamed when whole, so that a run can be resumed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """What is so from `start` to `end` (seconds): the meaning, and the state behind it."""

    start: float
    end: float
    meaning: str
    phase: str
    task: str = ''
    object: str = ''
    colour: str = ''
    light: bool = True
    success: bool = False


class StreamWriter:
    """Writes one stream; a context that leaves nothing behind when it fails."""

    def __init__(self, folder: Path, rate_hz: float) -> None:
        self._folder, self._rate_hz = folder, rate_hz
        self._part = folder.with_name(f'.{folder.name}.part')
        self._frames: list[NDArray[np.uint8]] = []
        self._annotations: list[Annotation] = []
        self.frame_count = 0

    def __enter__(self) -> StreamWriter:
        """Make the hidden folder, empty."""
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not finished."""
        shutil.rmtree(self._part, ignore_errors=True)

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Append frames (T, S, S, 3)."""
        self._frames.append(frames)
        self.frame_count += len(frames)

    def annotate(self, annotation: Annotation) -> None:
        """Append an annotation."""
        self._annotations.append(annotation)

    def finish(self, meta: dict[str, Any]) -> None:
        """Write everything and give the folder its name."""
        np.save(self._part / 'frames.npy', np.concatenate(self._frames))
        stamps = np.round(np.arange(self.frame_count) * 1e9 / self._rate_hz).astype(np.int64)
        np.save(self._part / 'stamps.npy', stamps)
        lines = [json.dumps(dataclasses.asdict(item)) for item in self._annotations]
        (self._part / 'annotations.jsonl').write_text('\n'.join(lines) + '\n')
        (self._part / 'meta.json').write_text(json.dumps(meta, indent=1))
        shutil.rmtree(self._folder, ignore_errors=True)
        self._part.rename(self._folder)


@dataclass(frozen=True)
class Stream:
    """One stream, read; frames are memory-mapped."""

    name: str
    frames: NDArray[np.uint8]
    stamps: NDArray[np.int64]
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]


def read_stream(folder: Path) -> Stream:
    """Read one stream. Raises InputError that names the folder and what is wrong with it."""
    try:
        frames = np.load(folder / 'frames.npy', mmap_mode='r')
        stamps = np.load(folder / 'stamps.npy')
        meta = json.loads((folder / 'meta.json').read_text())
        lines = (folder / 'annotations.jsonl').read_text().splitlines()
        annotations = tuple(Annotation(**json.loads(line)) for line in lines)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f'stream {folder.name}: {error}') from error
    if frames.ndim != 4 or frames.dtype != np.uint8 or len(frames) != len(stamps):
        raise InputError(
            f'stream {folder.name}: frames {frames.shape} {frames.dtype} do not match '
            f'{len(stamps)} stamps'
        )
    return Stream(folder.name, frames, stamps, annotations, meta)


def open_split(folder: Path) -> list[Stream]:
    """All whole streams of a split; broken ones are named in the log, counted and left out."""
    if not folder.is_dir():
        raise InputError(f'no data in {folder}: make it with `python -m vljepa_ros.data.generate`')
    streams: list[Stream] = []
    broken = 0
    for item in sorted(folder.iterdir()):
        if item.is_dir() and not item.name.startswith('.'):
            try:
                streams.append(read_stream(item))
            except InputError as error:
                broken += 1
                log.warning('skipped: %s', error)
    if broken:
        log.warning('%d of %d streams skipped', broken, broken + len(streams))
    if not streams:
        raise InputError(f'no whole stream in {folder}')
    return streams
