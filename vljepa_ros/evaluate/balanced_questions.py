# SPDX-License-Identifier: Apache-2.0
"""Answerable questions about annotations, with yes and no equally frequent.

Yes and no are balanced within each (topic, task), so that answering without vision gives 50% of
the yes/no questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.questions import UNKNOWN, LabeledQuestion
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import AnnotationMoment
from vljepa_ros.evaluate.questions import Posed
from vljepa_ros.evaluate.views import Vectors

YES_NO, CHOICES = 'yes/no', ('colour', 'object', 'thing')
PARTS = {YES_NO: (YES_NO,), 'choices': CHOICES, 'all': (YES_NO, *CHOICES)}


def questions_about(concepts: ConceptSet, found: Sequence[AnnotationMoment]) -> list[Posed]:
    """Return the answerable questions about the moments `found`, with yes and no balanced."""
    rng = np.random.default_rng(0)
    return balanced(
        [
            Posed(moment.stream, moment.item, moment.at_s, question)
            for moment in found
            for question in concepts.questions(moment.item, rng, 'heldout')
            if question.kind in PARTS['all'] and question.meaning != UNKNOWN
        ],
        rng,
    )


def balanced(posed: Sequence[Posed], rng: np.random.Generator) -> list[Posed]:
    """Return all multiple-choice questions and a balanced selection of yes/no questions.

    The selection is random and has as many answers yes as no for each topic and task. The order is
    kept.
    """
    groups: dict[tuple[str, str], dict[str, list[int]]] = {}
    kept: list[int] = []
    for i, item in enumerate(posed):
        if item.question.kind != YES_NO:
            kept.append(i)
            continue
        name = (item.question.topic, item.item.task)
        groups.setdefault(name, {'yes': [], 'no': []})[item.question.meaning].append(i)
    for group in groups.values():
        count = min(len(found) for found in group.values())
        for found in group.values():
            kept += rng.permutation(found)[:count].tolist()
    return [posed[i] for i in sorted(kept)]


def is_right(context: Context, question: LabeledQuestion, vector: Vectors) -> bool:
    """Return whether the best-ranked candidate for `vector` is the correct answer."""
    return context.language.rank(vector, question.candidates)[0].text == question.answer
