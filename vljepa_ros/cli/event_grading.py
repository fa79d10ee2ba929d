# SPDX-License-Identifier: Apache-2.0
"""Marks for text events against the ground truth of a sample (times in seconds from its start).

An event matches an annotation when it names the object and the action of its meaning, and begins
within `ONSET_S` of it; each counts once. Neighbours of equal meaning are one annotation.
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
from vljepa_ros.data.simulators.mwstream.meanings import is_right, sentences
from vljepa_ros.evaluate.matching import matched

ONSET_S = 1.5
DRAWS = 100  # of the blind baseline
TEXTS = 'tuple[str, ...]'
NAMES = {'float': 'finite number', 'str': 'text', TEXTS: 'list of texts'}


@dataclass(frozen=True)
class Said:
    """A text about a span."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Truth:
    """What was the case in a span, by meaning id (see data.mwstream.tasks)."""

    start: float
    end: float
    meaning: str
    sentence: str


@dataclass(frozen=True)
class Marks:
    """Shares, 0..1."""

    matched: int
    said: int
    true: int

    @property
    def precision(self) -> float:
        """Share of events that match."""
        return self.matched / self.said if self.said else 0.0

    @property
    def recall(self) -> float:
        """Share of annotations that are matched."""
        return self.matched / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.matched / (self.said + self.true) if self.said + self.true else 0.0


@dataclass(frozen=True)
class Question:
    """A question for the `query` service, asked when `at` seconds have been seen."""

    kind: str
    at: float
    prompt: str
    candidates: tuple[str, ...]
    meaning: str
    answer: str

    def is_answered_by(self, text: str) -> bool:
        """Whether an answer is right: by its meaning if it is open, else word for word."""
        if self.kind == 'open':
            return is_right(self.meaning, text, colour=False)
        return text == self.answer


Record = TypeVar('Record', Truth, Question)


def read_truth(folder: Path) -> list[Truth]:
    """A sample's annotations. Raises InputError that names the file and the key."""
    path = folder / 'ground_truth.json'
    values = _read(path)
    rows = values.get('annotations') if isinstance(values, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: no list of 'annotations', or an empty one")
    found: list[Truth] = []
    for truth in _records(path, rows, Truth):
        _check_meaning(path, truth.meaning)
        if found and found[-1].meaning == truth.meaning and found[-1].end == truth.start:
            before = found.pop()
            truth = Truth(before.start, truth.end, before.meaning, before.sentence)
        found.append(truth)
    return found


def read_questions(folder: Path) -> list[Question]:
    """A sample's questions by their times. Raises InputError that names the file and the key."""
    path = folder / 'questions.json'
    rows = _read(path)
    if not isinstance(rows, list):
        raise InputError(f'{path}: not a list of questions')
    found = _records(path, rows, Question)
    for question in found:
        if question.kind == 'open':  # others are judged word for word
            _check_meaning(path, question.meaning)
    return sorted(found, key=lambda question: question.at)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: {error}') from error


def _records(path: Path, rows: Sequence[Any], kind: type[Record]) -> list[Record]:
    """Each row as a dataclass; keys that it does not know are left out."""
    found = []
    for number, row in enumerate(rows):
        where = f'{path}, row {number}'
        if not isinstance(row, dict):
            raise InputError(f'{where}: not an object')
        found.append(kind(**{f.name: _field(where, row, f) for f in fields(kind)}))
    return found


def _field(where: str, row: dict[str, Any], field: Field[Any]) -> Any:
    """One value of a row, of the type that the dataclass says."""
    if field.name not in row:
        raise InputError(f"{where}: no '{field.name}'")
    value = row[field.name]
    if field.type == 'float' and isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    if field.type == 'str' and isinstance(value, str):
        return value
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if field.type == TEXTS and texts:
        return tuple(value)
    raise InputError(f"{where}: '{field.name}' is no {NAMES[str(field.type)]}")


def _check_meaning(path: Path, meaning: str) -> None:
    try:
        sentences(meaning)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def grade(said: Sequence[Said], truths: Sequence[Truth]) -> Marks:
    """The largest one-to-one matching of events and annotations."""
    options = [[i for i, truth in enumerate(truths) if _matches(item, truth)] for item in said]
    return Marks(matched(options), len(said), len(truths))


def _matches(said: Said, truth: Truth) -> bool:
    near = abs(said.start - truth.start) <= ONSET_S + 1e-9
    return near and is_right(truth.meaning, said.text, colour=False)


def constant(said: Sequence[Said], truths: Sequence[Truth], meaning: str) -> float:
    """F1 of one sentence, of the meaning that training has most of, at the model's own times."""
    text = sentences(meaning)[0]
    return grade([Said(s.start, s.end, text) for s in said], truths).f1


def blind(
    said: Sequence[Said], truths: Sequence[Truth], language: Language, prompt: str, seed: int = 0
) -> float:
    """Mean F1 of texts that nobody looked for, at the model's own times.

    The bag's own sentences are drawn as they rank against the prompt alone, without a picture.
    """
    candidates = sorted({truth.sentence for truth in truths})
    ranked = language.rank(language.encode([prompt])[0], candidates)
    weights = np.array([c.score for c in ranked], np.float64)
    rng, found = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        drawn = rng.choice(len(ranked), len(said), p=weights / weights.sum())
        texts = [Said(s.start, s.end, ranked[i].text) for s, i in zip(said, drawn, strict=True)]
        found.append(grade(texts, truths).f1)
    return float(np.mean(found))
