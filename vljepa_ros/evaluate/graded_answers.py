# SPDX-License-Identifier: Apache-2.0
"""Graded answers to questions: confidence, abstention and correctness.

The suites calibrate and transfer and the benchmark of the running stack share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.types import Decoded
from vljepa_ros.data.questions import CAPTION, UNKNOWN
from vljepa_ros.evaluate.balanced_questions import YES_NO
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import decode_all
from vljepa_ros.evaluate.probing import ask
from vljepa_ros.evaluate.questions import Posed
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.views import Vectors, blind_answers

CHOICES, SENTENCES, OPEN_ANSWERS = 'choices', 'sentences', 'open answers'
KINDS = (YES_NO, CHOICES, SENTENCES, OPEN_ANSWERS)
REASONS = ('absent', 'dark', 'covered')  # why a question is unanswerable


@dataclass(frozen=True)
class Given:
    """Graded answer to a question: its confidence, and whether it abstains or is correct."""

    posed: Posed
    confidence: float
    abstained: bool
    right: bool

    @property
    def kind(self) -> str:
        """Return the kind of the answer, one of `KINDS` (not the `kind` of the question)."""
        return kind_of(self.posed)

    @property
    def reason(self) -> str:
        """Return why the question is unanswerable, one of `REASONS`; '' if it is answerable."""
        return reason_of(self.posed)


def kind_of(posed: Posed) -> str:
    """Return the kind of a question's answer, one of `KINDS`."""
    if posed.question.kind == CAPTION:
        return SENTENCES
    if not posed.question.candidates:
        return OPEN_ANSWERS
    return YES_NO if posed.question.kind == YES_NO else CHOICES


def reason_of(posed: Posed) -> str:
    """Return the reason why a question is unanswerable, one of `REASONS`; '' if answerable."""
    if posed.question.meaning != UNKNOWN:
        return ''
    return posed.item.phase if posed.item.phase in REASONS else 'absent'


def answered(context: Context, posed: Sequence[Posed]) -> dict[str, list[Given]]:
    """Return the graded answers of the model, the oracle and the vision-blind baseline."""
    return {
        'ours': give(context, posed, ask(context, posed, 'answers')),
        'oracle': give(
            context, posed, np.stack([context.centroid(p.question.meaning) for p in posed])
        ),
        'blind': give(context, posed, _blind(context, posed)),
    }


def give(context: Context, posed: Sequence[Posed], vectors: Vectors) -> list[Given]:
    """Return the graded answers of predicted embeddings (N, D) to N questions.

    Questions with candidates are answered by the best-ranked candidate, others by decoded texts.
    """
    language = context.language
    decoded = dict[int, Decoded]()
    for kind in (SENTENCES, OPEN_ANSWERS):
        at = [i for i, p in enumerate(posed) if kind_of(p) == kind]
        texts = decode_all(context, vectors[at], kind, kind == OPEN_ANSWERS)
        decoded |= dict(zip(at, texts, strict=True))
    given = []
    for i, p in enumerate(posed):
        question = p.question
        if i in decoded:
            text, confidence = decoded[i].text, decoded[i].confidence
            right = context.concepts.expresses(question.meaning, text)
        else:
            best = language.rank(vectors[i], question.candidates)[0]
            text, confidence, right = best.text, best.score, best.text == question.answer
        unknown = language.is_unanswerable(vectors[i], question.candidates, text)
        given.append(Given(p, confidence, unknown, right))
    return given


def abstained(
    who: str, what: str, part: Sequence[Given], target: float | None = None, at_most: bool = False
) -> list[Row]:
    """Return one row, the abstention rate of the answers in `part`; no row if it is empty."""
    if not part:
        return []
    share = share_of([g.abstained for g in part], part)
    return [Row(who, f'abstained: {what}', share, target, at_most)]


def share_of(flags: Sequence[bool], part: Sequence[Given]) -> Mean:
    """Return the fraction of `flags` that are true, with the answers' streams as clusters."""
    return mean(np.array(flags, np.float64), clusters=streams_of(part))


def streams_of(part: Sequence[Given]) -> list[str]:
    """Return the stream name of each answer; streams are the units of resampling."""
    return [g.posed.stream.name for g in part]


def _blind(context: Context, posed: Sequence[Posed]) -> Vectors:
    prompts = list(dict.fromkeys(p.question.prompt for p in posed))
    seen = blind_answers(context.vision, prompts)
    return seen[[prompts.index(p.question.prompt) for p in posed]]
