# SPDX-License-Identifier: Apache-2.0
"""Suite vqa: yes/no questions and choices in held-out wordings, about the middle of annotations.

Yes and no are balanced within each (topic, task), so that no rule without a look does better than
half; choices are among the eight colours, and among four objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream.questions import Question, questions
from vljepa_ros.data.mwstream.questions import answers as wordings
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import mean
from vljepa_ros.evaluate.views import CONTEXT_S, Vectors, answers, blind_answers, centre, middle

MARK, BLIND_MARK = 0.88, 0.55
YES_NO, CHOICES = 'yes/no', ('colour', 'object')


@dataclass(frozen=True)
class Asked:
    """A question about an annotation, with the eyes' answer."""

    annotation: Annotation
    question: Question
    vector: Vectors


def vqa(context: Context) -> Report:
    """Accuracy of yes/no and of choices."""
    asked = ask(context)
    prompts = sorted({a.question.prompt for a in asked})
    blind = dict(zip(prompts, blind_answers(context.eyes, prompts), strict=True))
    rows = []
    for name, kinds in ((YES_NO, (YES_NO,)), ('choices', CHOICES), ('all', (YES_NO, *CHOICES))):
        part = [a for a in asked if a.question.kind in kinds]
        marks = (MARK, BLIND_MARK) if name == YES_NO else (MARK, None)
        ours = [is_right(context, a.question, a.vector) for a in part]
        oracle = [is_right(context, a.question, truth(context, a.question)) for a in part]
        unseen = [is_right(context, a.question, blind[a.question.prompt]) for a in part]
        rows += [
            Row('ours', name, mean(np.array(ours, float)), marks[0]),
            Row('oracle', name, mean(np.array(oracle, float))),
            Row('blind', name, mean(np.array(unseen, float)), marks[1], at_most=True),
        ]
    for topic in sorted({a.question.topic for a in asked if a.question.topic}):
        part = [a for a in asked if a.question.topic == topic]
        right = [is_right(context, a.question, a.vector) for a in part]
        rows.append(Row('ours', f'yes/no: {topic}', mean(np.array(right, float))))
    return Report('vqa', tuple(rows), ('Held-out wordings of all questions.',))


def ask(context: Context) -> list[Asked]:
    """All balanced questions with answers."""
    rng, asked = np.random.default_rng(0), list[Asked]()
    for stream in context.watched('questions'):
        for item in stream.annotations:
            if middle(item) < CONTEXT_S or item.task not in TRAIN_TASKS:
                continue
            pool = [q for q in questions(item, rng, 'heldout') if q.kind in (YES_NO, *CHOICES)]
            vectors = answers(context.eyes, stream, middle(item), [q.prompt for q in pool])
            asked += [Asked(item, q, v) for q, v in zip(pool, vectors, strict=True)]
    return balanced(asked, rng)


def balanced(asked: list[Asked], rng: np.random.Generator) -> list[Asked]:
    """As many yes as no of each (topic, task); all of the choices."""
    kept = [a for a in asked if a.question.kind != YES_NO]
    groups: dict[tuple[str, str], dict[str, list[Asked]]] = {}
    for a in asked:
        if a.question.kind == YES_NO:
            group = groups.setdefault((a.question.topic, a.annotation.task), {'yes': [], 'no': []})
            group[a.question.answer].append(a)
    for group in groups.values():
        count = min(len(found) for found in group.values())
        for found in group.values():
            kept += [found[i] for i in rng.permutation(len(found))[:count]]
    return kept


def is_right(context: Context, question: Question, vector: Vectors) -> bool:
    """Whether the best candidate is the answer."""
    return context.language.rank(vector, question.candidates)[0].text == question.answer


def truth(context: Context, question: Question) -> Vectors:
    """What an oracle predicts: the centre of the answer's wordings."""
    return centre(context.language.encode(wordings(question.meaning)))
