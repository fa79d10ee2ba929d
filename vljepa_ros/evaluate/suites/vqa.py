# SPDX-License-Identifier: Apache-2.0
"""Suite vqa: yes/no and multiple-choice questions about the middle of every annotation.

Questions are worded as held-out paraphrases. Yes and no are equally frequent within each (topic,
task), so that answering without vision gives 50% of the yes/no questions. Multiple-choice
questions ask for one of the eight colors, for one of four objects that the robot manipulates, or
for one of four distractors or "none". Unanswerable questions belong to the suite calibrate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vljepa_ros.evaluate.balanced_questions import PARTS, YES_NO, is_right, questions_about
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import moments
from vljepa_ros.evaluate.outcomes import Outcomes, unique
from vljepa_ros.evaluate.probing import ask
from vljepa_ros.evaluate.questions import Posed
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.views import Vectors, blind_answers

TARGET, BLIND_TARGET = 0.88, 0.55


@dataclass(frozen=True)
class Graded:
    """Question with the correctness (0 or 1) of the answers of the model and each baseline."""

    posed: Posed
    right: dict[str, float]


def vqa(context: Context) -> Report:
    """Return the accuracy of yes/no answers and of choices, overall and by topic."""
    graded = grade(context, pose(context))
    rows = []
    for name, kinds in PARTS.items():
        part = [g for g in graded if g.posed.question.kind in kinds]
        rows += [
            _row(part, 'ours', name, TARGET),
            _row(part, 'oracle', name),
            _row(part, 'blind', name, BLIND_TARGET if name == YES_NO else None, at_most=True),
        ]
    for kind in PARTS['all']:
        for topic in sorted({g.posed.question.topic for g in graded if is_of(g, kind)}):
            part = [g for g in graded if is_of(g, kind) and g.posed.question.topic == topic]
            rows += [_row(part, who, f'{kind}: {topic}') for who in ('ours', 'oracle', 'blind')]
    note = f'{len(graded)} questions in held-out paraphrases; yes/no balanced per topic and task.'
    return Report('vqa', tuple(rows), (note,))


def pose(context: Context) -> list[Posed]:
    """Return all answerable questions about the middles of annotations, yes/no balanced."""
    concepts = context.concepts
    return questions_about(concepts, moments(context.streams, concepts.train_tasks))


def grade(context: Context, posed: Sequence[Posed]) -> list[Graded]:
    """Return graded answers of the model, the oracle and the vision-blind baseline."""
    prompts = sorted({p.question.prompt for p in posed})
    blind: dict[str, Vectors] = {}
    if prompts:
        blind = dict(zip(prompts, blind_answers(context.vision, prompts), strict=True))
    graded = []
    for item, vector in zip(posed, ask(context, posed, 'questions'), strict=True):
        answers = {
            'ours': vector,
            'oracle': context.centroid(item.question.meaning),
            'blind': blind[item.question.prompt],
        }
        right = {w: float(is_right(context, item.question, v)) for w, v in answers.items()}
        graded.append(Graded(item, right))
    return graded


def is_of(graded: Graded, kind: str) -> bool:
    """Return whether a graded question is of the kind `kind`, such as 'yes/no'."""
    return graded.posed.question.kind == kind


def _row(
    part: Sequence[Graded], who: str, what: str, target: float | None = None, at_most: bool = False
) -> Row:
    right = Outcomes(
        unique([graded.posed.id for graded in part]),
        tuple(graded.right[who] for graded in part),
        clusters=tuple(graded.posed.stream.name for graded in part),
    )
    if who == 'ours' and what in PARTS:
        return row_of(who, what, right, target, at_most)
    return Row(who, what, right.mean(), target, at_most)
