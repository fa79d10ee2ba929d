# SPDX-License-Identifier: Apache-2.0
"""Annotated streams on disk, one folder a stream.

    <out>/<split>/<stream id>/
        frames.npy          (T, S, S, 3) uint8 RGB, memory-mappable; or
        frames.jpegs        the same as JPEGs, with frames.index.npy (see jpeg_frames)
        stamps.npy          (T,) int64, nanoseconds
        annotations.jsonl   one Annotation a line; they tile the stream; seconds from its start
        questions.jsonl     one Told a line: questions that people wrote; may be absent
        state.npz           (T,) arrays of the simulator's state; may be absent
        meta.json           where it comes from; frame count; "complete": true

A folder appears only when it is whole. No torch, no simulator. Every field is described in
docs/reference/data_formats.md.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import jpeg_frames
from vljepa_ros.data.atomic_folder import appearing
from vljepa_ros.data.jpeg_frames import JpegFrames

Frames = NDArray[np.uint8] | JpegFrames
Row = TypeVar('Row', 'Annotation', 'Told')
DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError)


@dataclass(frozen=True)
class Annotation:
    """What is true from `start` to `end` (seconds from the stream's start).

    `phase` is 'told' where a person wrote the text, and 'none' where nothing is known. `text`: a
    sentence that says it. `light`: whether it is on. `covered`: whether the camera is.
    `object_state`: where known and constant, else ''. `thing`: what else is there, 'blue tin'.
    `hidden`: the object of an act is not visible from the camera.
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
    covered: bool = False
    thing: str = ''
    text: str = ''
    hidden: bool = False


@dataclass(frozen=True)
class Told:
    """A question that somebody wrote; its answer holds from `start` to `end` (s, as above).

    Raises:
        InputError: no such time, or an empty text.
    """

    start: float
    end: float
    prompt: str
    answer: str
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 <= self.start < self.end < math.inf:
            raise InputError(f'a question cannot hold from {self.start:g} to {self.end:g} s')
        for text in (self.prompt, self.answer, *self.candidates):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f'the question at {self.start:g} s has an empty text: {text!r}')


@dataclass(frozen=True)
class StreamData:
    """A whole stream in memory, before it is written.

    `quality`: of the JPEGs that its frames are stored as, 1..100; 0 stores them raw.
    """

    name: str
    frames: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    quality: int = 0


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

    def frames(self) -> Frames:
        """(T, S, S, 3) uint8 RGB, read-only: memory-mapped, or decoded as they are indexed."""
        return _frames(self.folder)

    def stamps_ns(self) -> NDArray[np.int64]:
        """(T,) int64 nanoseconds."""
        return np.load(self.folder / 'stamps.npy')

    def state(self) -> dict[str, NDArray[Any]]:
        """(T,) arrays by name; none where no simulator made the stream."""
        path = self.folder / 'state.npz'
        if not path.is_file():
            return {}
        with np.load(path) as arrays:
            return dict(arrays)

    def told(self) -> tuple[Told, ...]:
        """The questions that somebody wrote, if any."""
        path = self.folder / 'questions.jsonl'
        return _rows(Told, path) if path.is_file() else ()


@dataclass(frozen=True)
class Split:
    """The whole streams of a folder, and the names of those skipped with the reason."""

    streams: tuple[Stream, ...]
    skipped: tuple[tuple[str, str], ...]


def write_stream(folder: Path, data: StreamData) -> Path:
    """Write one stream below `folder`; returns where. Whole or not at all.

    Raises:
        OutputError: it cannot be written there, for lack of space for example.
    """
    final = folder / data.name
    with appearing(final) as partial:
        _fill(partial, data)
    return final


def read_stream(folder: Path) -> Stream:
    """Open one stream.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    try:
        meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
        annotations = _rows(Annotation, folder / 'annotations.jsonl')
        frames = _frames(folder)
        stream = Stream(folder, len(np.load(folder / 'stamps.npy')), annotations, meta)
        _check(stream, frames)
        _check_tiling(annotations)
        stream.told()
    except (InputError, zipfile.BadZipFile, zlib.error, *DAMAGE) as error:
        raise InputError(f'stream {folder.name}: {error}') from None
    return stream


def open_split(folder: Path) -> Split:
    """All whole streams that lie in `folder`, by name; the others are named in `skipped`.

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


def _fill(folder: Path, data: StreamData) -> None:
    if data.quality:
        jpeg_frames.write(folder, data.frames, data.quality)
    else:
        _save(folder / 'frames.npy', data.frames)
    _save(folder / 'stamps.npy', data.stamps_ns)
    if data.state:
        np.savez_compressed(folder / 'state.npz', **data.state)  # type: ignore[arg-type]
    _write_lines(folder / 'annotations.jsonl', data.annotations)
    if data.told:
        _write_lines(folder / 'questions.jsonl', data.told)
    meta = {**data.meta, 'frame_count': len(data.frames), 'complete': True}
    (folder / 'meta.json').write_text(json.dumps(meta) + '\n', encoding='utf-8')


def _frames(folder: Path) -> Frames:
    if (folder / jpeg_frames.INDEX).is_file():
        return JpegFrames(folder)
    return np.load(folder / 'frames.npy', mmap_mode='r')


def _save(path: Path, array: NDArray[Any]) -> None:
    """As np.save, which does not notice that the disk is full where the last block is lost."""
    array = np.ascontiguousarray(array)
    with path.open('wb') as stream:
        npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(array))
        stream.write(array.data)


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    lines = [json.dumps(asdict(row)) + '\n' for row in rows]
    path.write_text(''.join(lines), encoding='utf-8')


def _rows(kind: type[Row], path: Path) -> tuple[Row, ...]:
    """One row a line; keys that are not known here are left out."""
    known = {f.name for f in fields(kind)}
    rows = []
    for line in path.read_text(encoding='utf-8').splitlines():
        values = {k: v for k, v in json.loads(line).items() if k in known}
        if 'candidates' in values:
            values['candidates'] = tuple(values['candidates'])
        rows.append(kind(**values))
    return tuple(rows)


def _check(stream: Stream, frames: Frames) -> None:
    meta, count, shape = stream.meta, stream.frame_count, frames.shape
    if meta.get('complete') is not True:
        raise InputError('not complete')
    if len(shape) != 4 or shape[0] != count or shape[3] != 3 or frames.dtype != np.uint8:
        raise InputError(f'frames {shape} {frames.dtype} do not match {count} stamps')
    if meta.get('frame_count') != count:
        raise InputError(f'{count} stamps, but its meta says {meta.get("frame_count")} frames')
    for name, values in stream.state().items():
        if len(values) != count:
            raise InputError(f'{len(values)} values of {name} for {count} frames')


def _check_tiling(annotations: Sequence[Annotation]) -> None:
    at = 0.0
    for annotation in annotations:
        if abs(annotation.start - at) > 1e-6 or not annotation.start < annotation.end:
            raise InputError(f'annotations do not tile it at {at:.1f} s')
        at = annotation.end
