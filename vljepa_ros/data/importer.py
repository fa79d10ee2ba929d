# SPDX-License-Identifier: Apache-2.0
"""Conversion of recordings with annotation files to streams, for `vljepa data import`.

Frames are processed as at run time: a `StampFilter` checks their stamps, a `FrameSampler` assigns
them to slots of a time grid, and `fit` crops and scales them. Frame k of a stream is slot k of
its grid. A gap without images that is longer than `MAX_GAP_NS` starts a new stream.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.core.images import fit
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.core.types import Frame, Image
from vljepa_ros.data.annotation_file import (
    TINY_S,
    AnnotationFile,
    Line,
    QuestionLine,
    TextLine,
    meaning_of,
)
from vljepa_ros.data.format import AnnotatedQuestion, Annotation, StreamData, write_stream
from vljepa_ros.sources import Damaged, Source
from vljepa_ros.stream.frame_sampler import FrameSampler
from vljepa_ros.stream.stamp_filter import StampFilter

MAX_GAP_NS = PerceptionSettings().max_gap_ns
RATES_HZ, SIZES = (0.1, 1000.0), (8, 1024)


@dataclass(frozen=True)
class Grid:
    """Sampling of a recording: frame rate in Hz, and width and height of the images in pixels.

    Raises:
        InputError: a value is out of range.
    """

    rate_hz: float = 10.0
    size: int = 96

    def __post_init__(self) -> None:
        """Check that rate and size are in range. Raises InputError."""
        if not RATES_HZ[0] <= self.rate_hz <= RATES_HZ[1]:
            raise InputError('rate ({:g}) is not in {:g}..{:g}'.format(self.rate_hz, *RATES_HZ))
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise InputError('size ({}) is not in {}..{}'.format(self.size, *SIZES))

    @property
    def period_ns(self) -> int:
        """Return the time between two frames in nanoseconds."""
        return round(1e9 / self.rate_hz)


@dataclass
class Take:
    """Consecutive frames of one camera, one grid period apart, from the stamp `start_ns` on."""

    camera: str
    start_ns: int
    frames: list[Image] = field(default_factory=list)


class CameraSampler:
    """Sampler of one camera's images. It divides the frames into takes, which have no gap."""

    def __init__(self, name: str, grid: Grid) -> None:
        self._name, self._grid = name, grid
        self._stamp_filter = StampFilter(MAX_GAP_NS)
        self._sampler = FrameSampler(grid.period_ns, MAX_GAP_NS)
        self._reset_count = 0
        self.takes: list[Take] = []
        self.stamps_ns: list[int] = []

    def push(self, item: Frame | Damaged) -> str:
        """Add the next image; return a warning about its stamp, or ''.

        Raises:
            InputError: the stamp jumps back by `MAX_GAP_NS` or more, so that times from the start
                are ambiguous.
        """
        if isinstance(item, Damaged):
            return self._stamp_filter.admit(item.stamp_ns).message
        decision = self._stamp_filter.admit(item.stamp_ns, item.image.shape[:2])
        if not decision.accepted:
            return decision.message
        if decision.reset_count != self._reset_count:
            self._sampler.reset()
            self._reset_count = decision.reset_count
        if self.stamps_ns and item.stamp_ns <= self.stamps_ns[-1]:
            back_s = (self.stamps_ns[-1] - item.stamp_ns) / 1e9
            raise InputError(
                f'{self._name}: after {len(self.stamps_ns)} images the stamp jumps back by '
                f'{back_s:.3f} s; split the recording there'
            )
        self.stamps_ns.append(item.stamp_ns)
        for slot in self._sampler.push(item.stamp_ns, fit(item.image, self._grid.size)):
            self._keep(slot.slot_ns, slot.image)
        return decision.message

    def _keep(self, slot_ns: int, image: Image) -> None:
        newest = self.takes[-1] if self.takes else None
        period_ns = self._grid.period_ns
        if newest is None or slot_ns != newest.start_ns + len(newest.frames) * period_ns:
            newest = Take(self._name, slot_ns)
            self.takes.append(newest)
        newest.frames.append(image)

    @property
    def end_ns(self) -> int:
        """Return the end of the last frame in nanoseconds.

        The last frame lasts for the mean interval between the camera's images, but at least for
        one grid period.
        """
        first, last = self.stamps_ns[0], self.stamps_ns[-1]
        step_ns = (last - first) // max(1, len(self.stamps_ns) - 1)
        return last + max(step_ns, self._grid.period_ns)


class RecordingConverter:
    """Converter of one recording and its annotation file to streams."""

    def __init__(self, source: Source, grid: Grid) -> None:
        self._source, self._grid = source, grid
        self._cameras: dict[str, CameraSampler] = {}

    def push(self, item: Frame | Damaged) -> str:
        """Add the next image; return a warning about its stamp, or ''.

        Raises:
            InputError: the stamp jumps back by `MAX_GAP_NS` or more.
        """
        if item.source not in self._cameras:
            self._cameras[item.source] = CameraSampler(item.source, self._grid)
        return self._cameras[item.source].push(item)

    def streams(self, file: AnnotationFile) -> list[StreamData]:
        """Return one annotated stream for every take of every camera.

        A take is a run of frames without a gap.

        Raises:
            AnnotationError: a line names an absent camera or a time without recorded images.
        """
        cameras = [camera for camera in self._cameras.values() if camera.takes]
        end_ns = max(camera.end_ns for camera in cameras)
        file.check_fits((end_ns - self._source.start_ns) / 1e9, self._source.cameras)
        takes = [take for camera in cameras for take in camera.takes]
        for line in (*file.texts, *file.questions):
            if not any(self._applies(take, line) for take in takes):
                file.fail(line, 'no image was recorded at that time')
        return [self._stream(take, takes, file) for take in takes]

    def _applies(self, take: Take, line: Line) -> bool:
        """Return whether a line applies to the take's camera and overlaps the take in time."""
        offset_s, length_s = self._place(take)
        start, end = line.start - offset_s, line.end - offset_s
        begun = start > -TINY_S if isinstance(line, QuestionLine) else end > TINY_S
        return line.is_about(take.camera) and begun and start < length_s - TINY_S

    def _place(self, take: Take) -> tuple[float, float]:
        """Return a take's start, relative to the recording's start, and its length in seconds."""
        length_ns = len(take.frames) * self._grid.period_ns
        return (take.start_ns - self._source.start_ns) / 1e9, length_ns / 1e9

    def _stream(self, take: Take, takes: Sequence[Take], file: AnnotationFile) -> StreamData:
        offset_s, length_s = self._place(take)
        texts = [line for line in file.texts if line.is_about(take.camera)]
        questions = [a for a in file.questions if self._applies(take, a)]
        count = len(take.frames)
        return StreamData(
            self._name(take, takes),
            np.stack(take.frames),
            take.start_ns + self._grid.period_ns * np.arange(count, dtype=np.int64),
            tile(texts, offset_s, length_s),
            self._meta(take, offset_s),
            questions=tuple(
                to_question(line, offset_s, self._grid.period_ns / 1e9) for line in questions
            ),
        )

    def _name(self, take: Take, takes: Sequence[Take]) -> str:
        """Return the id of a take's stream: the recording's name, and camera and number if needed.

        The camera's name is added if the recording has several cameras, the take's number if the
        camera has several takes.
        """
        path = Path(os.path.abspath(self._source.path))
        stem = path.name if path.is_dir() else path.stem
        parts = [re.sub(r'[^\w.-]+', '_', stem).lstrip('.') or 'stream']
        if len(self._source.cameras) > 1:
            parts.append(take.camera)
        own = [other for other in takes if other.camera == take.camera]
        if len(own) > 1:
            parts.append(str(own.index(take) + 1))
        return '-'.join(parts)

    def _meta(self, take: Take, offset_s: float) -> dict[str, Any]:
        names: Mapping[str, str] = getattr(self._source, 'names', {})  # for a bag: topic -> camera
        topics = [topic for topic, name in names.items() if name == take.camera]
        return {
            'source': self._source.name,
            'path': str(self._source.path.resolve()),
            'camera': take.camera,
            'topic': topics[0] if topics else '',
            'rate_hz': self._grid.rate_hz,
            'offset_s': offset_s,
        }


def tile(texts: Iterable[TextLine], offset_s: float, length_s: float) -> tuple[Annotation, ...]:
    """Return annotations that cover a take (run of frames) without gaps.

    The phase is 'told' where a text is annotated, otherwise 'none'.

    Args:
        texts: Annotated texts, sorted by time.
        offset_s: Start of the take in seconds from the start of the recording.
        length_s: Length of the take in seconds.
    """
    found: list[Annotation] = []
    at = 0.0
    for line in texts:
        start = max(round(line.start - offset_s, 9), at)
        end = min(round(line.end - offset_s, 9), length_s)
        if end - start <= TINY_S:
            continue
        if start - at > TINY_S:
            found.append(Annotation(at, start, '', 'none', '', '', ''))
            at = start
        found.append(
            Annotation(at, end, meaning_of(line.text), 'told', '', '', '', text=line.text)
        )
        at = end
    if length_s - at > TINY_S:
        found.append(Annotation(at, length_s, '', 'none', '', '', ''))
    return tuple(found)


def to_question(line: QuestionLine, offset_s: float, period_s: float) -> AnnotatedQuestion:
    """Convert a line of an annotation file to a question that is valid for one frame period.

    Args:
        line: Question with its time in seconds from the start of the recording.
        offset_s: Start of the take in seconds from the start of the recording.
        period_s: Frame period in seconds.
    """
    start = max(round(line.start - offset_s, 9), 0.0)
    end = round(start + period_s, 9)
    return AnnotatedQuestion(start, end, line.prompt, line.answer, line.candidates)


def write_all(folder: Path, streams: Sequence[StreamData]) -> list[str]:
    """Write the streams of one recording and return their names.

    They replace all streams that were imported before from the same cameras of the same path.

    Raises:
        InputError: another folder has the name of a stream; no stream is written.
        OutputError: a stream cannot be written, or an earlier one cannot be removed.
    """
    for stream in streams:
        _check_free(folder / stream.name, stream.meta['path'])
    names = [write_stream(folder, stream).name for stream in streams]
    cameras = {(stream.meta['path'], stream.meta['camera']) for stream in streams}
    for other in [path for path in folder.iterdir() if path.name[0] != '.']:
        meta = _meta(other)
        if other.name not in names and (meta.get('path'), meta.get('camera')) in cameras:
            _remove(other)
    return names


def _check_free(folder: Path, path: str) -> None:
    """Raise InputError if `folder` exists and is not a stream imported from `path`."""
    if folder.exists() and _meta(folder).get('path') != path:
        raise InputError(
            f'{folder} already exists and was not imported from {path}: remove or rename it'
        )


def _meta(folder: Path) -> dict[str, Any]:
    """Return the content of a stream's meta.json; empty if `folder` is not a stream."""
    try:
        meta = json.loads((folder / 'meta.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f'{folder}: cannot remove an earlier import: {error}') from error
