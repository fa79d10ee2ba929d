# SPDX-License-Identifier: Apache-2.0
"""Questions about annotations for fitting and evaluating confidences, and their correctness.

Captions are requested at the quarters of an annotation with each held-out prompt. Questions of
every kind, unanswerable ones included, are posed at its middle.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.simulators.mwstream.meanings import is_right
from vljepa_ros.data.simulators.mwstream.questions import (
    Question,
    answer_meaning,
    answers,
    caption,
    prompts,
    questions,
)
from vljepa_ros.evaluate.views import middle

CAPTION = 'caption'


def pose(
    item: Annotation, rng: np.random.Generator, draws: int = 1
) -> list[tuple[float, list[Question]]]:
    """Return (seconds, questions) sorted by time; empty for an annotation without a concept.

    Questions with candidates are drawn `draws` times.
    """
    said = caption(item, rng, 'heldout')
    if not said.answer:
        return []
    captions = [replace(said, prompt=prompt) for prompt in prompts(CAPTION, 'heldout')]
    asked = list(captions)
    for _ in range(draws):
        asked += [q for q in questions(item, rng, 'heldout') if q.kind != CAPTION]
    quarter = (item.end - item.start) / 4
    return [
        (item.start + quarter, captions),
        (middle(item), asked),
        (item.end - quarter, captions),
    ]


def says(question: Question, text: str) -> bool:
    """Return whether `text` is a correct answer to the question."""
    if question.meaning.startswith('say:'):  # annotated by a person
        return answer_meaning(text) == question.meaning
    if question.kind == CAPTION:
        return is_right(question.meaning, text)
    return text in answers(question.meaning)
