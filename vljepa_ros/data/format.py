# SPDX-License-Identifier: Apache-2.0
"""Annotated streams on disk, one folder a stream.

    <out>/<split>/<stream id>/
        frames.npy          (T, S, S, 3) uint8 RGB, memory-mappable
        stamps.npy          (T,) int64, nanoseconds
        annotations.jsonl   one Annotation a line; they tile the stream; seconds from its start
        meta.json           seeds, camera offsets, what was drawn; frame count; "complete": true

A folder appears only when it is whole (it is renamed into place). No torch, no simulator.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.errors import InputError


@dataclass(frozen=True)
class Annotation:
    """What is true from `start` to `end` (seconds from the stream's start).

    `light`: whether it is on. `object_state`: where known and constant, else ''.
    """

    start: float
    end: float
    meaning: str
    phase: str
    task: str
    object: str
    colour: str
    light: bool = True
    object_state: str = ''
    success: bool = False
    episode: int = 0


@dataclass(frozen=True)
class StreamData:
    """A whole stream in memory, before it is written."""

    name: str
    frames: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Stream:
    """A stream on disk; its frames stay there until they are asked for."""

    folder: Path
    frame_count: int
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        """The stream's id."""
        return self.folder.name

    def frames(self) -> NDArray[np.uint8]:
        """(T, S, S, 3) uint8 RGB, memory-mapped, read-only."""
        return np.load(self.folder / 'frames.npy', mmap_mode='r')

    def stamps_ns(self) -> NDArray[np.int64]:
        """(T,) int64 nanoseconds."""
        return np.load(self.folder / 'stamps.npy')


@dataclass(frozen=True)
class Split:
    """The whole streams of a folder, and the names of those skipped with the reason."""

    streams: tuple[Stream, ...]
    skipped: tuple[tuple[str, str], ...]


def write_stream(folder: Path, data: StreamData) -> Path:
    """Write one stream below `folder`; returns where. Whole or not at all."""
    final = folder / data.name
    partial = folder / f'.{data.name}.{os.getpid()}'
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / 'frames.npy', data.frames)
    np.save(partial / 'stamps.npy', data.stamps_ns)
    lines = [json.dumps(asdict(a)) + '\n' for a in data.annotations]
    (partial / 'annotations.jsonl').write_text(''.join(lines), encoding='utf-8')
    meta = {**data.meta, 'frame_count': len(data.frames), 'complete': True}
    (partial / 'meta.json').write_text(json.dumps(meta) + '\n', encoding='utf-8')
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final


def read_stream(folder: Path) -> Stream:
    """Open one stream.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    try:
        meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
        text = (folder / 'annotations.jsonl').read_text(encoding='utf-8')
        annotations = tuple(_annotation(json.loads(line)) for line in text.splitlines())
        shape = np.load(folder / 'frames.npy', mmap_mode='r').shape
        stamps = np.load(folder / 'stamps.npy')
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InputError(f'stream {folder.name}: {error}') from None
    stream = Stream(folder, len(stamps), annotations, meta)
    _check(stream, shape)
    return stream


def open_split(folder: Path) -> Split:
    """All whole streams of `folder`, by name; the others are named in `skipped`.

    Raises:
        InputError: `folder` does not exist.
    """
    if not folder.is_dir():
        raise InputError(f'no such folder of streams: {folder}')
    streams, skipped = [], []
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != '.'):
        try:
            streams.append(read_stream(path))
        except InputError as error:
            skipped.append((path.name, str(error)))
    return Split(tuple(streams), tuple(skipped))


def _annotation(values: dict[str, Any]) -> Annotation:
    known = {f.name for f in fields(Annotation)}
    return Annotation(**{k: v for k, v in values.items() if k in known})


def _check(stream: Stream, shape: tuple[int, ...]) -> None:
    name, count = stream.name, stream.frame_count
    if stream.meta.get('complete') is not True:
        raise InputError(f'stream {name}: not complete')
    if len(shape) != 4 or shape[0] != count or shape[3] != 3:
        raise InputError(f'stream {name}: frames {shape} do not match {count} stamps')
    if stream.meta.get('frame_count') != count:
        raise InputError(
            f'stream {name}: {count} stamps, but its meta says '
            f'{stream.meta.get("frame_count")} frames'
        )
    at = 0.0
    for annotation in stream.annotations:
        if abs(annotation.start - at) > 1e-6 or annotation.end <= annotation.start:
            raise InputError(f'stream {name}: annotations do not tile it at {at:.1f} s')
        at = annotation.end
