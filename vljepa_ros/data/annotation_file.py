# SPDX-License-Identifier: Apache-2.0
"""Annotation files: texts and questions about a recording, one JSON object per line.

    {"start": 0.0, "end": 2.5, "text": "the robot opens the drawer"}
    {"time": 1.2, "prompt": "Is the drawer open?", "answer": "no", "candidates": ["yes", "no"]}

Times are seconds from the recording's start. Two keys are optional: "candidates" lists possible
answers, and "source" names the camera that the line applies to (all cameras if absent). Texts of
one camera must not overlap. `vljepa annotate --json` prints such a file as a starting point for
editing. See docs/reference/data_formats.md.
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

TINY_S = 1e-6  # smaller differences between times are ignored
TEXT_KEYS, QUESTION_KEYS = ('start', 'end', 'text'), ('time', 'prompt', 'answer')
# Further keys in the output of `vljepa annotate`, which are ignored here.
ANNOTATED = ('segment', 'confidence', 'nearest', 'abstained', 'abstain_reason')


class AnnotationError(InputError):
    """Error in an annotation file; the message names the file, the reason and usually the line."""


@dataclass(frozen=True)
class Line:
    """Fields of every line of an annotation file.

    Attributes:
        number: Line number in the file, from 1.
        start: Start in seconds from the recording's start.
        end: End in seconds from the recording's start.
        source: Camera that the line applies to, or '' for all cameras.
    """

    number: int
    start: float
    end: float
    source: str

    def is_about(self, camera: str) -> bool:
        """Return whether the line applies to `camera`."""
        return self.source in ('', camera)


@dataclass(frozen=True)
class TextLine(Line):
    """Line with a text that describes the recording from `start` to `end`."""

    text: str


@dataclass(frozen=True)
class QuestionLine(Line):
    """Line with a question and its answer at one point in time, so that `start` equals `end`."""

    prompt: str
    answer: str
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class AnnotationFile:
    """Parsed annotation file: its text lines and its question lines, both sorted by time."""

    path: Path
    texts: tuple[TextLine, ...]
    questions: tuple[QuestionLine, ...]

    def check_fits(self, length_s: float, cameras: Collection[str]) -> None:
        """Check that every line lies within a recording and that its camera exists.

        Args:
            length_s: Length of the recording in seconds.
            cameras: Names of the recording's cameras.

        Raises:
            AnnotationError: a line names another camera, or ends after the recording.
        """
        for line in (*self.texts, *self.questions):
            if line.source and line.source not in cameras:
                self.fail(line, f'unknown camera {line.source!r} (known: {", ".join(cameras)})')
            if line.end > length_s + TINY_S:
                self.fail(
                    line, f'{line.end:g} s is after the end ({length_s:g} s) of the recording'
                )

    def fail(self, line: Line, message: str) -> None:
        """Raise AnnotationError with the file name, the line number and `message`."""
        raise AnnotationError(f'{self.path}:{line.number}: {message}')


def read_annotations(path: Path) -> AnnotationFile:
    """Read an annotation file and check whatever can be checked without the recording.

    Raises:
        AnnotationError: the file cannot be read or has no annotation, a line is invalid, or two
            texts of one camera overlap.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except OSError as error:
        raise AnnotationError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f'{path}: byte {error.start} is not valid UTF-8') from error
    lines = []
    for number, row in enumerate(text.split('\n'), 1):  # splitlines() would split within texts
        try:
            values = json.loads(row) if row.strip() else None
            lines += [] if values is None or _is_withheld(values) else [_line(number, values)]
        except json.JSONDecodeError as error:
            reason = f'not valid JSON: {error.msg} at column {error.colno}'
            raise AnnotationError(f'{path}:{number}: {reason}') from error
        except (InputError, ValueError, RecursionError) as error:
            raise AnnotationError(f'{path}:{number}: {error}') from error
    if not lines:
        raise AnnotationError(f'{path}: the file contains no annotation')
    lines.sort(key=lambda line: (line.start, line.number))
    texts = tuple(line for line in lines if isinstance(line, TextLine))
    found = AnnotationFile(
        path, texts, tuple(line for line in lines if isinstance(line, QuestionLine))
    )
    for camera in sorted({line.source for line in texts}):
        _check_apart(found, [line for line in texts if line.is_about(camera)])
    return found


def default_path(source: Path) -> Path:
    """Return the default annotation file of a recording, such as run.jsonl for run.mp4.

    For a bag folder `bag/`, it is bag.jsonl beside the folder.
    """
    path = Path(os.path.abspath(source))
    return path.with_name(f'{path.name}.jsonl') if path.is_dir() else path.with_suffix('.jsonl')


def meaning_of(text: str) -> str:
    """Return the concept id of an annotated text: 'say:' followed by the normalized text.

    Texts that differ only in case, spaces or a final period have the same id.
    """
    return 'say:' + ' '.join(text.lower().split()).removesuffix('.').rstrip()


def _check_apart(file: AnnotationFile, texts: Iterable[TextLine]) -> None:
    before: TextLine | None = None
    for line in texts:
        if before and line.start < before.end - TINY_S:
            file.fail(
                line,
                f'{line.start:g}..{line.end:g} s overlaps line {before.number} '
                f'({before.start:g}..{before.end:g} s)',
            )
        before = line


def _is_withheld(values: Any) -> bool:
    """Return whether `values` is a line of `vljepa annotate` whose text was withheld."""
    return (
        isinstance(values, dict) and values.get('abstained') is True and values.get('text') == ''
    )


def _line(number: int, values: Any) -> Line:
    """Convert the decoded JSON of one line to a `Line`. Raises InputError if it is invalid."""
    if not isinstance(values, dict):
        raise InputError('the line is not a JSON object')
    is_text = values.keys().isdisjoint((*QUESTION_KEYS, 'candidates'))
    needed, more = (
        (TEXT_KEYS, ('source', *ANNOTATED))
        if is_text
        else (QUESTION_KEYS, ('candidates', 'source'))
    )
    for key in values:
        if key not in (*needed, *more):
            raise InputError(f'unknown key {key!r} (known keys: {", ".join((*needed, *more))})')
    for key in needed:
        if key not in values:
            raise InputError(f'required key {key!r} is missing')
    source = _text(values, 'source') if 'source' in values else ''
    if not is_text:
        return _question(number, values, source)
    start, end, text = _time(values, 'start'), _time(values, 'end'), _text(values, 'text')
    if end - start <= TINY_S:
        raise InputError(f'end ({end:g}) is not after start ({start:g})')
    if meaning_of(text) == 'say:':
        raise InputError(f'text {text!r} contains no words')
    return TextLine(number, start, end, source, text)


def _question(number: int, values: dict[str, Any], source: str) -> QuestionLine:
    time, prompt, answer = _time(values, 'time'), _text(values, 'prompt'), _text(values, 'answer')
    given = values.get('candidates', [])
    if not isinstance(given, list):
        raise InputError(f'candidates ({given!r:.40}) is not a list of texts')
    candidates = tuple(check_text(text, 'candidate', may_be_empty=False) for text in given)
    if candidates and answer not in candidates:
        raise InputError(f'answer {answer!r} is not one of the candidates {list(candidates)}')
    return QuestionLine(number, time, time, source, prompt, answer, candidates)


def _text(values: dict[str, Any], key: str) -> str:
    return check_text(values[key], key, may_be_empty=False)


def _time(values: dict[str, Any], key: str) -> float:
    value = values[key]
    if type(value) not in (int, float):
        raise InputError(f'{key} ({value!r}) is not a number')
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise InputError(f'{key} ({seconds}) is not finite')
    if seconds < 0:
        raise InputError(f'{key} ({seconds:g}) is before the start (0 s) of the recording')
    return seconds
