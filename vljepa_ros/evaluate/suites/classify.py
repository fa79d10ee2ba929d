# SPDX-License-Identifier: Apache-2.0
"""Suites classify and classify-unseen: which task's act is going on?

The embedding in the middle of every act against all tasks' sentences in the object's colour. A
task's score is the mean cosine of its wordings. Every task weighs the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.data.mwstream.tasks import TASKS, TEST_TASKS, TRAIN_TASKS, meaning_of
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.views import CONTEXT_S, Vectors, answers, blind_answers, middle

PROMPT = 'What is going on?'  # of the held-out wordings
WORDINGS = {'train': 'seen wording', 'heldout': 'held-out wording'}
SEEN_MARK, ORACLE_SHARE_MARK, ORACLE_MARK = 0.92, 0.92, 0.85


@dataclass(frozen=True)
class Act:
    """One act, and what the eyes answered in its middle."""

    annotation: Annotation
    vector: Vectors


def acts(context: Context, tasks: Sequence[str]) -> list[Act]:
    """All acts of `tasks` with enough before them to look at."""
    return [
        Act(item, answers(context.eyes, stream, middle(item), [PROMPT])[0])
        for stream in context.watched(f'acts of {len(tasks)} tasks')
        for item in stream.annotations
        if item.phase == 'act' and item.task in tasks and middle(item) >= CONTEXT_S
    ]


class Candidates:
    """The sentences of tasks, by colour and list of wordings; embedded once."""

    def __init__(self, context: Context, tasks: Sequence[str], which: str) -> None:
        self._context, self.tasks, self._which = context, tuple(tasks), which
        self._texts: dict[str, list[Vectors]] = {}

    def guess(self, act: Act, vector: Vectors) -> str:
        """The task whose sentences are nearest to `vector`."""
        colour = act.annotation.colour
        if colour not in self._texts:
            self._texts[colour] = [
                self._context.language.encode(sentences(meaning_of(t, 'act', colour), self._which))
                for t in self.tasks
            ]
        scores = [float((texts @ vector).mean()) for texts in self._texts[colour]]
        return self.tasks[int(np.argmax(scores))]

    def top1(self, found: Sequence[Act], vectors: Sequence[Vectors]) -> Mean:
        """Share of right guesses."""
        right = [
            self.guess(act, vector) == act.annotation.task
            for act, vector in zip(found, vectors, strict=True)
        ]
        return mean(np.array(right, float), [act.annotation.task for act in found])


def classify(context: Context) -> Report:
    """Top-1 of the training tasks, in seen and in held-out wordings."""
    found = acts(context, TRAIN_TASKS)
    blind = [blind_answers(context.eyes, [PROMPT])[0]] * len(found)
    oracle = [context.centre(act.annotation.meaning) for act in found]
    rows = []
    for which, name in WORDINGS.items():
        candidates = Candidates(context, TRAIN_TASKS, which)
        ours, best = (
            candidates.top1(found, [a.vector for a in found]),
            candidates.top1(found, oracle),
        )
        seen = which == 'train'
        mark = SEEN_MARK if seen else ORACLE_SHARE_MARK * best.value
        rows.append(Row('ours', f'top-1, {name}', ours, mark))
        rows.append(Row('oracle', f'top-1, {name}', best, None if seen else ORACLE_MARK))
        rows.append(Row('blind', f'top-1, {name}', candidates.top1(found, blind)))
    return Report('classify', tuple(rows), (f'{len(TRAIN_TASKS)} tasks, macro-averaged.',))


def classify_unseen(context: Context) -> Report:
    """Top-1 of the five tasks that training never had."""
    unseen, seen = acts(context, TEST_TASKS), acts(context, TRAIN_TASKS)
    if not unseen:
        return Report('classify-unseen', (), ('These streams show none of the unseen tasks.',))
    everything = Candidates(context, tuple(TASKS), 'train')
    among_five = Candidates(context, TEST_TASKS, 'train')
    vectors = [act.vector for act in unseen]
    oracle = [context.centre(act.annotation.meaning) for act in unseen]
    wide, known = everything.top1(unseen, vectors), everything.top1(seen, [a.vector for a in seen])
    both = 2 * wide.value * known.value / max(wide.value + known.value, 1e-9)
    return Report(
        'classify-unseen',
        (
            Row('ours', 'unseen tasks among all 50', wide),
            Row('ours', 'seen tasks among all 50', known),
            Row('ours', 'harmonic mean of both', Mean(both, both, both, wide.count + known.count)),
            Row('ours', 'unseen tasks among the 5', among_five.top1(unseen, vectors)),
            Row('oracle', 'unseen tasks among the 5', among_five.top1(unseen, oracle)),
        ),
    )
