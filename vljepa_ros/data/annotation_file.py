# SPDX-License-Identifier: Apache-2.0
"""Annotation files: what people say of a recording, one JSON object a line.

    {"start": 0.0, "end": 2.5, "text": "the robot opens the drawer"}
    {"time": 1.2, "prompt": "Is the drawer open?", "answer": "no", "candidates": ["yes", "no"]}

Times are seconds from the recording's start. "candidates" may be absent; "source" may name the one
camera that a line is about. Texts do not overlap, camera by camera. What `vljepa annotate --json`
prints is such a file, to be edited. docs/reference/data_formats.md says more.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import check_text

TINY_S = 1e-6  # times that differ by less are the same
SAID, ASKED = ('start', 'end', 'text'), ('time', 'prompt', 'answer')
# What `vljepa annotate` says beside them: passed over.
ANNOTATED = ('segment', 'confidence', 'nearest', 'abstained', 'abstain_reason')


class AnnotationError(InputError):
    """A line of an annotation file that cannot be used; says which, and why."""


@dataclass(frozen=True)
class Line:
    """What all lines have: a number from 1, a time in seconds, a camera or '' for all."""

    number: int
    start: float
    end: float
    source: str

    def is_about(self, camera: str) -> bool:
        """Whether it says something of this camera."""
        return self.source in ('', camera)


@dataclass(frozen=True)
class Said(Line):
    """A text that is true from `start` to `end`."""

    text: str


@dataclass(frozen=True)
class Asked(Line):
    """A question with its answer at one moment: `start` and `end` are the same."""

    prompt: str
    answer: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class AnnotationFile:
    """The lines of one file, in the order of their times."""

    path: Path
    said: tuple[Said, ...]
    asked: tuple[Asked, ...]

    def check_fits(self, length_s: float, cameras: Collection[str]) -> None:
        """Whether a recording has all that lines speak of. Raises AnnotationError."""
        for line in (*self.said, *self.asked):
            if line.source and line.source not in cameras:
                self.fail(line, f'no camera {line.source!r} (cameras: {", ".join(cameras)})')
            if line.end > length_s + TINY_S:
                self.fail(line, f'{line.end:g} s is after the end ({length_s:g} s)')

    def fail(self, line: Line, message: str) -> None:
        """Raise AnnotationError that names the line."""
        raise AnnotationError(f'{self.path}:{line.number}: {message}')


def read_annotations(path: Path) -> AnnotationFile:
    """Read and check a file, as far as that goes without the recording.

    Raises:
        AnnotationError: it is not there, holds nothing, or a line is wrong.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise AnnotationError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f'{path}: is no UTF-8 text (byte {error.start})') from error
    lines = []
    for number, row in enumerate(text.split('\n'), 1):  # splitlines() would split within texts
        try:
            values = json.loads(row) if row.strip() else None
            lines += [] if values is None or _is_withheld(values) else [_line(number, values)]
        except json.JSONDecodeError as error:
            reason = f'is no JSON: {error.msg} at column {error.colno}'
            raise AnnotationError(f'{path}:{number}: {reason}') from error
        except (InputError, ValueError, RecursionError) as error:
            raise AnnotationError(f'{path}:{number}: {error}') from error
    if not lines:
        raise AnnotationError(f'{path}: holds no annotation')
    lines.sort(key=lambda line: (line.start, line.number))
    said = tuple(line for line in lines if isinstance(line, Said))
    found = AnnotationFile(path, said, tuple(line for line in lines if isinstance(line, Asked)))
    for camera in sorted({line.source for line in said}):
        _check_apart(found, [line for line in said if line.is_about(camera)])
    return found


def default_path(source: Path) -> Path:
    """The annotation file beside a recording: `run.jsonl` for run.mp4, `bag.jsonl` for bag/."""
    path = Path(os.path.abspath(source))
    return path.with_name(f'{path.name}.jsonl') if path.is_dir() else path.with_suffix('.jsonl')


def meaning_of(text: str) -> str:
    """The meaning id of a text: the same for texts that differ in case, spaces or a full stop."""
    return 'say:' + ' '.join(text.lower().split()).removesuffix('.').rstrip()


def _check_apart(file: AnnotationFile, said: Iterable[Said]) -> None:
    before: Said | None = None
    for line in said:
        if before and line.start < before.end - TINY_S:
            file.fail(line, f'overlaps line {before.number} ({before.start:g}..{before.end:g} s)')
        before = line


def _is_withheld(values: Any) -> bool:
    """Whether it is a segment that `vljepa annotate` found unfamiliar, without a text yet."""
    return (
        isinstance(values, dict) and values.get('abstained') is True and values.get('text') == ''
    )


def _line(number: int, values: Any) -> Line:
    """One line. Raises InputError that says what is wrong with it."""
    if not isinstance(values, dict):
        raise InputError('is no JSON object')
    is_said = values.keys().isdisjoint((*ASKED, 'candidates'))
    needed, more = (SAID, ('source', *ANNOTATED)) if is_said else (ASKED, ('candidates', 'source'))
    for key in values:
        if key not in (*needed, *more):
            raise InputError(f'unknown key {key!r} (known here: {", ".join((*needed, *more))})')
    for key in needed:
        if key not in values:
            raise InputError(f'{key!r} is missing')
    source = _text(values, 'source') if 'source' in values else ''
    if not is_said:
        return _asked(number, values, source)
    start, end, text = _time(values, 'start'), _time(values, 'end'), _text(values, 'text')
    if end - start <= TINY_S:
        raise InputError(f'end ({end:g}) is not after start ({start:g})')
    if meaning_of(text) == 'say:':
        raise InputError('text is empty')
    return Said(number, start, end, source, text)


def _asked(number: int, values: dict[str, Any], source: str) -> Asked:
    time, prompt, answer = _time(values, 'time'), _text(values, 'prompt'), _text(values, 'answer')
    given = values.get('candidates', [])
    if not isinstance(given, list):
        raise InputError('candidates is no list of texts')
    candidates = tuple(check_text(text, 'candidate', may_be_empty=False) for text in given)
    if candidates and answer not in candidates:
        raise InputError(f'answer {answer!r} is none of the candidates')
    return Asked(number, time, time, source, prompt, answer, candidates)


def _text(values: dict[str, Any], key: str) -> str:
    return check_text(values[key], key, may_be_empty=False)


def _time(values: dict[str, Any], key: str) -> float:
    value = values[key]
    if type(value) not in (int, float):
        raise InputError(f'{key} ({value!r}) is no number')
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise InputError(f'{key} is not finite')
    if seconds < 0:
        raise InputError(f'{key} ({seconds:g}) is before the start')
    return seconds
