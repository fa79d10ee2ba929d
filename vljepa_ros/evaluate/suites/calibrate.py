# SPDX-License-Identifier: Apache-2.0
"""Suite calibrate: calibration of confidences, and abstention on unanswerable questions.

Results are reported by kind of answer: yes/no, choices among candidates, sentences (captions), and
open answers, which answer the same questions without candidates. Metrics are the expected
calibration error (ECE) in 15 bins of equal mass and the AUROC of confidence against correctness.
No candidate of an unanswerable question is correct: the model must abstain. Intervals resample
whole streams. `evaluate.questions` defines the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.questions import CAPTION
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.graded_answers import (
    KINDS,
    OPEN_ANSWERS,
    REASONS,
    Given,
    abstained,
    answered,
    kind_of,
    share_of,
    streams_of,
)
from vljepa_ros.evaluate.questions import Posed, pose
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import auroc, ece, redrawn
from vljepa_ros.evaluate.views import CONTEXT_S

ECE_TARGET, AUROC_TARGET = 0.05, 0.80
ABSTAINED_TARGET, LOST_TARGET = 0.85, 0.05  # abstention: unanswerable, answerable
ENOUGH = 5000  # answers per kind
DRAWS = 3  # draws of the questions about one annotation

Figure = Callable[[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]], float]


def calibrate(context: Context) -> Report:
    """Return ECE, AUROC, accuracy and abstention rates by kind of answer."""
    posed = pose_all(context)
    if not posed:
        return Report('calibrate', (), ('These streams have no annotations to ask about.',))
    given = answered(context, posed)
    rows = [row for kind in KINDS for who in given for row in confidences(who, kind, given[who])]
    rows += [row for who in given for row in abstentions(who, given[who])]
    few = [
        f'{kind}: {n}' for kind in KINDS if (n := sum(kind_of(p) == kind for p in posed)) < ENOUGH
    ]
    notes = [f'Some kinds have fewer than {ENOUGH} answers: {", ".join(few)}.'] if few else []
    return Report('calibrate', tuple(rows), tuple(notes))


def pose_all(context: Context) -> list[Posed]:
    """Return all questions; questions of the first draw are also posed without candidates."""
    rng, found, concepts = np.random.default_rng(0), list[Posed](), context.concepts
    for stream in context.streams:
        for item in stream.annotations:
            if item.task not in concepts.train_tasks or item.hidden:
                continue
            for at_s, pool in pose(concepts, item, rng, DRAWS):
                asked = [q for q in pool if q.candidates]
                open_ones = [replace(q, candidates=()) for q in asked[: len(asked) // DRAWS]]
                captions = [q for q in pool if q.kind == CAPTION]
                if at_s >= CONTEXT_S:
                    both = [*captions, *asked, *open_ones]
                    found += [Posed(stream, item, at_s, question) for question in both]
    return found


def confidences(who: str, kind: str, given: Sequence[Given]) -> list[Row]:
    """Return ECE, AUROC and accuracy of one kind of answer of the model or baseline `who`.

    The evaluated model (`ours`) also has rows for the answerable questions only.
    """
    part = [g for g in given if g.kind == kind]
    if not part:
        return []
    has_target = who == 'ours' and kind != OPEN_ANSWERS
    rows = [
        _row(who, f'{kind}: ECE', part, ece, ECE_TARGET if has_target else None, at_most=True),
        _row(who, f'{kind}: AUROC', part, auroc, AUROC_TARGET if has_target else None),
        Row(who, f'{kind}: accuracy', share_of([g.right for g in part], part)),
    ]
    some = [g for g in part if not g.reason]
    if who == 'ours' and 0 < len(some) < len(part):
        rows.append(_row(who, f'{kind}, answerable: ECE', some, ece))
        rows.append(_row(who, f'{kind}, answerable: AUROC', some, auroc))
    return rows


def abstentions(who: str, given: Sequence[Given]) -> list[Row]:
    """Return abstention rates of the model or baseline `who` by answerability of the question.

    Unanswerable questions also have a row per reason. Open answers have separate rows.
    """
    chosen = [g for g in given if g.posed.question.candidates]
    own = [g for g in given if g.kind == OPEN_ANSWERS]
    ours = who == 'ours'
    rows = []
    for reason in REASONS:
        rows += abstained(who, reason, [g for g in chosen if g.reason == reason])
    for name, part in (('', chosen), (', open answers', own)):
        targets = (ABSTAINED_TARGET, LOST_TARGET) if ours and not name else (None, None)
        unanswerable = [g for g in part if g.reason]
        answerable = [g for g in part if not g.reason]
        rows += abstained(who, f'unanswerable{name}', unanswerable, targets[0])
        rows += abstained(who, f'answerable{name}', answerable, targets[1], at_most=True)
    return rows


def _row(
    who: str,
    what: str,
    part: Sequence[Given],
    figure: Figure,
    target: float | None = None,
    at_most: bool = False,
) -> Row:
    confidence, right = np.array([g.confidence for g in part]), np.array([g.right for g in part])
    found = redrawn(lambda weight: figure(confidence, right, weight), streams_of(part))
    return Row(who, what, found.interval(), target, at_most)
