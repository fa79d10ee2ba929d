# SPDX-License-Identifier: Apache-2.0
"""Metrics of text events against the ground truth of a sample (times in s from its start).

An event matches an annotation if it names the object and action of its concept and begins within
`ONSET_S` of it. The matching is one-to-one. Adjacent annotations of one concept are merged.
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

ONSET_S = 1.5
DRAWS = 100  # random draws of the vision-blind baseline
TEXTS = 'tuple[str, ...]'
NAMES = {'float': 'finite number', 'str': 'string', TEXTS: 'list of strings'}


@dataclass(frozen=True)
class TextSpan:
    """The text of a span."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class TrueEvent:
    """The concept of a span, as a concept id (see data.concepts)."""

    start: float
    end: float
    meaning: str
    sentence: str


@dataclass(frozen=True)
class EventMetrics:
    """Numbers of matched events, events and annotations, and the metrics that follow, 0..1."""

    matched: int
    events: int
    annotations: int

    @property
    def precision(self) -> float:
        """Share of events that match."""
        return self.matched / self.events if self.events else 0.0

    @property
    def recall(self) -> float:
        """Share of annotations that match an event."""
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
class Question:
    """A question for the `query` service, asked `at` seconds after the start of the sample."""

    kind: str
    at: float
    prompt: str
    candidates: tuple[str, ...]
    meaning: str
    answer: str

    def is_answered_by(self, text: str) -> bool:
        """Return whether an answer is correct: by its concept if open, else by equal text."""
        if self.kind == 'open':
            return concepts.named().expresses(self.meaning, text, color=False)
        return text == self.answer


Record = TypeVar('Record', TrueEvent, Question)


def read_true_events(folder: Path) -> list[TrueEvent]:
    """Read a sample's annotations. Raises InputError that names the file and the key."""
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


def read_questions(folder: Path) -> list[Question]:
    """Read a sample's questions in order of time.

    Raises:
        InputError: The file is invalid; the message names the file and the key.
    """
    path = folder / 'questions.json'
    rows = _read(path)
    if not isinstance(rows, list):
        raise InputError(f'{path}: the file does not contain a JSON list of questions')
    found = _records(path, rows, Question)
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
    """Convert each row to a dataclass; unknown keys are ignored."""
    found = []
    for number, row in enumerate(rows):
        where = f'{path}, entry {number}'
        if not isinstance(row, dict):
            raise InputError(f'{where}: the entry is not a JSON object')
        found.append(kind(**{f.name: _field(where, row, f) for f in fields(kind)}))
    return found


def _field(where: str, row: dict[str, Any], field: Field[Any]) -> Any:
    """Return one value of a row, checked against the type of the dataclass field."""
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
    """Match events and annotations one-to-one, with as many matches as possible."""
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
    """Return the F1 of a baseline that has one sentence at the times of the model's events.

    Args:
        events: Events of the model, whose times are used.
        annotations: Annotations.
        meaning: The concept whose first sentence is used.
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
    """Return the mean F1 of a vision-blind baseline at the times of the model's events.

    Its texts are drawn at random from the annotations' sentences, with the probabilities that the
    text side gives them for the prompt alone, without an image.
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
