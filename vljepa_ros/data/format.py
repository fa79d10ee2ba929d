# SPDX-License-Identifier: Apache-2.0
"""Format of annotated streams on disk, with one folder per stream.

    <out>/<split>/<stream id>/
        frames.npy          (T, S, S, 3) uint8 RGB, memory-mappable; or
        frames.jpegs        the same frames as JPEGs, with frames.index.npy (see jpeg_frames)
        stamps.npy          (T,) int64, nanoseconds
        annotations.jsonl   one Annotation per line; they cover the stream without gaps
        questions.jsonl     one AnnotatedQuestion per line, written by people; optional
        state.npz           arrays (T, ...) of the simulator's state; optional
        meta.json           origin of the stream; frame count; "complete": true

A folder appears only when it is complete. This module needs neither torch nor a simulator. Every
field is described in docs/reference/data_formats.md.
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
Row = TypeVar('Row', 'Annotation', 'AnnotatedQuestion')
DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError)


@dataclass(frozen=True)
class Annotation:
    """Text and labels that are true for one interval of a stream.

    Attributes:
        start: Start in seconds from the stream's start.
        end: End in seconds from the stream's start.
        meaning: Concept id, or '' if the interval is not annotated.
        phase: Phase of the simulated task, or 'dark' or 'covered'. In recordings, 'told' if a
            person wrote the text, and 'none' if the interval is not annotated.
        task: Name of the simulated task, or ''.
        object: Name of the object that the robot manipulates, or ''.
        colour: Color of this object, or ''.
        light: False if the scene is dark or the camera is covered.
        object_state: State of the object, such as 'open'; '' if it is unknown or changes.
        success: Whether the task has just succeeded (phase 'done').
        episode: Number of the simulated episode in the stream, from 0.
        covered: Whether the camera is covered.
        thing: Color and name of a distractor in the scene, such as 'blue tin', or ''.
        text: Sentence that describes the interval, or '' if it is not annotated.
        hidden: Whether the object is mostly outside the image or occluded (phase 'act' only).
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
class AnnotatedQuestion:
    """Question written by a person, whose answer is true from `start` to `end`.

    Times are seconds from the stream's start. `candidates` lists possible answers, if any.

    Raises:
        InputError: the times are invalid, or a text is empty.
    """

    start: float
    end: float
    prompt: str
    answer: str
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the times and the texts. Raises InputError."""
        if not 0 <= self.start < self.end < math.inf:
            raise InputError(f'invalid time span of a question: {self.start:g}..{self.end:g} s')
        for text in (self.prompt, self.answer, *self.candidates):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f'the question at {self.start:g} s has an empty text: {text!r}')


@dataclass(frozen=True)
class StreamData:
    """Complete stream in memory, before it is written (see the module's docstring).

    `quality` is the JPEG quality of the stored frames, from 1 to 100; 0 stores raw frames.
    """

    name: str
    frames: NDArray[np.uint8]
    stamps_ns: NDArray[np.int64]
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    questions: tuple[AnnotatedQuestion, ...] = ()
    quality: int = 0


@dataclass(frozen=True)
class Stream:
    """Stream on disk; frames, stamps, state and questions are read from files on each call."""

    folder: Path
    frame_count: int
    annotations: tuple[Annotation, ...]
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the stream's id, which is the name of its folder."""
        return self.folder.name

    def frames(self) -> Frames:
        """Return the frames (T, S, S, 3) uint8 RGB: memory-mapped, or decoded when indexed."""
        return _frames(self.folder)

    def stamps_ns(self) -> NDArray[np.int64]:
        """Return the stamps of the frames: (T,) int64 nanoseconds."""
        return np.load(self.folder / 'stamps.npy')

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the simulator's state as arrays (T, ...) by name; empty for a recording."""
        path = self.folder / 'state.npz'
        if not path.is_file():
            return {}
        with np.load(path) as arrays:
            return dict(arrays)

    def questions(self) -> tuple[AnnotatedQuestion, ...]:
        """Return the questions that people wrote about the stream; may be empty."""
        path = self.folder / 'questions.jsonl'
        return _rows(AnnotatedQuestion, path) if path.is_file() else ()


@dataclass(frozen=True)
class Split:
    """Complete streams of a folder; `skipped` has the name of each other folder and the reason."""

    streams: tuple[Stream, ...]
    skipped: tuple[tuple[str, str], ...]


def write_stream(folder: Path, data: StreamData) -> Path:
    """Write one stream to a new folder in `folder` atomically and return the new folder's path.

    Raises:
        OutputError: the stream cannot be written, for example because the disk is full.
    """
    final = folder / data.name
    with appearing(final) as partial:
        _fill(partial, data)
    return final


def read_stream(folder: Path) -> Stream:
    """Open one stream and check its files. Frames are read later.

    Raises:
        InputError: a file is missing, damaged or inconsistent with the others.
    """
    try:
        meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
        annotations = _rows(Annotation, folder / 'annotations.jsonl')
        frames = _frames(folder)
        stream = Stream(folder, len(np.load(folder / 'stamps.npy')), annotations, meta)
        _check(stream, frames)
        _check_tiling(annotations)
        stream.questions()
    except (InputError, zipfile.BadZipFile, zlib.error, *DAMAGE) as error:
        raise InputError(f'stream {folder.name}: {error}') from None
    return stream


def open_split(folder: Path) -> Split:
    """Open all complete streams in `folder`, sorted by name, and list the others as skipped.

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
    if data.questions:
        _write_lines(folder / 'questions.jsonl', data.questions)
    meta = {**data.meta, 'frame_count': len(data.frames), 'complete': True}
    (folder / 'meta.json').write_text(json.dumps(meta) + '\n', encoding='utf-8')


def _frames(folder: Path) -> Frames:
    if (folder / jpeg_frames.INDEX).is_file():
        return JpegFrames(folder)
    return np.load(folder / 'frames.npy', mmap_mode='r')


def _save(path: Path, array: NDArray[Any]) -> None:
    """Save an array as .npy and report a full disk, which np.save may miss in the last block."""
    array = np.ascontiguousarray(array)
    with path.open('wb') as stream:
        npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(array))
        stream.write(array.data)


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    lines = [json.dumps(asdict(row)) + '\n' for row in rows]
    path.write_text(''.join(lines), encoding='utf-8')


def _rows(kind: type[Row], path: Path) -> tuple[Row, ...]:
    """Read a JSON Lines file into dataclass instances of type `kind`; ignore unknown keys."""
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
        raise InputError("the stream is not complete: 'complete' in meta.json is not true")
    if len(shape) != 4 or shape[0] != count or shape[3] != 3 or frames.dtype != np.uint8:
        raise InputError(
            f'the frames have shape {shape} and dtype {frames.dtype}, '
            f'but must be ({count}, H, W, 3) and uint8'
        )
    if meta.get('frame_count') != count:
        raise InputError(
            f'the stream has {count} stamps, but frame_count in meta.json is '
            f'{meta.get("frame_count")}'
        )
    for name, values in stream.state().items():
        if len(values) != count:
            raise InputError(f'the state has {len(values)} values of {name} for {count} frames')


def _check_tiling(annotations: Sequence[Annotation]) -> None:
    at = 0.0
    for annotation in annotations:
        if abs(annotation.start - at) > 1e-6 or not annotation.start < annotation.end:
            raise InputError(f'the annotations have a gap or an overlap at {at:.1f} s')
        at = annotation.end
