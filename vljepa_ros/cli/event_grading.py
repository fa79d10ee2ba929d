# SPDX-License-Identifier: Apache-2.0
"""Metrics of text events against the ground truth of a sample recording.

An event matches an annotation if its text expresses the annotated concept, apart from colors, and
if the two begin within `ONSET_S` of each other. The matching is one-to-one. Adjacent annotations
of the same concept are merged. Times are in seconds from the start of the recording.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Language
from vljepa_ros.data import concepts
from vljepa_ros.evaluate.matching import matched

ONSET_S = 1.5  # maximum difference between the start times of an event and its annotation
DRAWS = 100  # random draws of the vision-blind baseline
TEXTS = 'tuple[str, ...]'
NAMES = {'float': 'finite number', 'str': 'string', TEXTS: 'list of strings'}


@dataclass(frozen=True)
class TextSpan:
    """A text event: its start and end in seconds, and its text."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class TrueEvent:
    """An annotation: start and end in seconds, concept id (see `data.concepts`), and sentence."""

    start: float
    end: float
    meaning: str
    sentence: str


@dataclass(frozen=True)
class EventMetrics:
    """Counts of matched events, of events and of annotations, with metrics from 0 to 1."""

    matched: int
    events: int
    annotations: int

    @property
    def precision(self) -> float:
        """Fraction of events that match an annotation; 0 without events."""
        return self.matched / self.events if self.events else 0.0

    @property
    def recall(self) -> float:
        """Fraction of annotations that match an event; 0 without annotations."""
        return self.matched / self.annotations if self.annotations else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return (
            2 * self.matched / (self.events + self.annotations)
            if self.events + self.annotations
            else 0.0
        )


@dataclass(frozen=True)
class TimedQuestion:
    """A question for the service `query`, asked `at` seconds after the start of the recording.

    `kind`: 'open', 'yes/no' or 'candidates'. `meaning`: concept id of the expected answer.
    `answer`: text of the expected answer.
    """

    kind: str
    at: float
    prompt: str
    candidates: tuple[str, ...]
    meaning: str
    answer: str

    def is_answered_by(self, text: str) -> bool:
        """Return whether `text` is a correct answer.

        The answer to an open question must express the concept, apart from colors. Other answers
        must equal the expected text.
        """
        if self.kind == 'open':
            return concepts.named().expresses(self.meaning, text, color=False)
        return text == self.answer


Record = TypeVar('Record', TrueEvent, TimedQuestion)


def read_true_events(folder: Path) -> list[TrueEvent]:
    """Read ground_truth.json of a sample; adjacent annotations of the same concept are merged.

    Raises:
        InputError: The file is invalid; the message names the file and the key.
    """
    path = folder / 'ground_truth.json'
    values = _read(path)
    rows = values.get('annotations') if isinstance(values, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: 'annotations' is missing, empty or not a list")
    found: list[TrueEvent] = []
    for truth in _records(path, rows, TrueEvent):
        _check_meaning(path, truth.meaning)
        if found and found[-1].meaning == truth.meaning and found[-1].end == truth.start:
            before = found.pop()
            truth = TrueEvent(before.start, truth.end, before.meaning, before.sentence)
        found.append(truth)
    return found


def read_questions(folder: Path) -> list[TimedQuestion]:
    """Read questions.json of a sample and sort the questions by time.

    Raises:
        InputError: The file is invalid; the message names the file and the key.
    """
    path = folder / 'questions.json'
    rows = _read(path)
    if not isinstance(rows, list):
        raise InputError(f'{path}: the file does not contain a JSON list of questions')
    found = _records(path, rows, TimedQuestion)
    for question in found:
        if question.kind == 'open':  # other answers are compared as text
            _check_meaning(path, question.meaning)
    return sorted(found, key=lambda question: question.at)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: {error}') from error


def _records(path: Path, rows: Sequence[Any], kind: type[Record]) -> list[Record]:
    """Convert parsed JSON objects to instances of a dataclass; unknown keys are ignored.

    Args:
        path: File of the objects, for error messages.
        rows: Parsed JSON objects.
        kind: Dataclass.

    Raises:
        InputError: A row is no object, or a key is missing or has a value of another type.
    """
    found = []
    for number, row in enumerate(rows):
        where = f'{path}, entry {number}'
        if not isinstance(row, dict):
            raise InputError(f'{where}: the entry is not a JSON object')
        found.append(kind(**{f.name: _field(where, row, f) for f in fields(kind)}))
    return found


def _field(where: str, row: dict[str, Any], field: Field[Any]) -> Any:
    """Return the value of a dataclass field from a JSON object.

    Args:
        where: File and row, for error messages.
        row: The JSON object.
        field: The dataclass field.

    Raises:
        InputError: The key is missing, or its value has another type than the field.
    """
    if field.name not in row:
        raise InputError(f"{where}: the key '{field.name}' is missing")
    value = row[field.name]
    if field.type == 'float' and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if field.type == 'str' and isinstance(value, str):
        return value
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if field.type == TEXTS and texts:
        return tuple(value)
    raise InputError(f"{where}: '{field.name}' is not a {NAMES[str(field.type)]}")


def _check_meaning(path: Path, meaning: str) -> None:
    try:
        concepts.named().sentences(meaning)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def grade(events: Sequence[TextSpan], annotations: Sequence[TrueEvent]) -> EventMetrics:
    """Return the metrics of events for the largest one-to-one matching with the annotations."""
    options = [
        [i for i, truth in enumerate(annotations) if _matches(item, truth)] for item in events
    ]
    return EventMetrics(matched(options), len(events), len(annotations))


def _matches(event: TextSpan, truth: TrueEvent) -> bool:
    near = abs(event.start - truth.start) <= ONSET_S + 1e-9
    return near and concepts.named().expresses(truth.meaning, event.text, color=False)


def constant_text_f1(
    events: Sequence[TextSpan], annotations: Sequence[TrueEvent], meaning: str
) -> float:
    """Return the F1 of a baseline that replaces the text of every event by the same sentence.

    Args:
        events: Events of the model.
        annotations: Ground truth.
        meaning: Concept id; its first sentence is used.
    """
    text = concepts.named().sentences(meaning)[0]
    return grade([TextSpan(s.start, s.end, text) for s in events], annotations).f1


def vision_blind_f1(
    events: Sequence[TextSpan],
    annotations: Sequence[TrueEvent],
    language: Language,
    prompt: str,
    seed: int = 0,
) -> float:
    """Return the mean F1 of a vision-blind baseline that replaces event texts by random sentences.

    The sentences are drawn from the annotations. Their probabilities are the scores that the text
    side computes from the text embedding of the prompt, without an image.

    Args:
        events: Events of the model.
        annotations: Ground truth.
        language: Text side of the model.
        prompt: Standing prompt of the events.
        seed: Seed of the random draws.
    """
    candidates = sorted({truth.sentence for truth in annotations})
    ranked = language.rank(language.encode([prompt])[0], candidates)
    weights = np.array([c.score for c in ranked], np.float64)
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        drawn = rng.choice(len(ranked), len(events), p=weights / weights.sum())
        pairs = zip(events, drawn, strict=True)
        texts = [TextSpan(s.start, s.end, ranked[i].text) for s, i in pairs]
        found.append(grade(texts, annotations).f1)
    return float(np.mean(found))
