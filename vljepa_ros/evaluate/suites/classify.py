# SPDX-License-Identifier: Apache-2.0
"""Suites classify and classify-unseen: classification of acts by task.

An act is an annotation of the phase 'act', the main movement of a task. The embedding predicted at
its middle is compared with the sentences of all tasks in the object's color. A task's score is the
mean cosine of its paraphrases. At most 20 acts per task are chosen, evenly over the cameras.
Every task has equal weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import (
    AnnotationMoment,
    evenly,
    hidden_rows,
    moments,
    one_an_episode,
)
from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.probing import PROMPT, caption
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.statistics import harmonic
from vljepa_ros.evaluate.views import Vectors, blind_answers, middle

LISTS = {'train': 'training paraphrases', 'heldout': 'held-out paraphrases'}
EPISODES = 20  # maximum per task
SEEN_TARGET, ORACLE_SHARE_TARGET, ORACLE_TARGET = 0.92, 0.92, 0.85
NOT_THERE = (
    'No streams of the unseen tasks: put the split `unseen` next to `test` and use `--split test`.'
)


@dataclass(frozen=True)
class Act:
    """Act with the embedding (D,) predicted at its middle, and the name of its stream."""

    annotation: Annotation
    vector: Vectors
    stream: str = ''

    @property
    def id(self) -> str:
        """Return an id of the act that does not depend on the model."""
        return f'{self.stream}@{middle(self.annotation):.3f}'


def acts(context: Context, tasks: Sequence[str], streams: Sequence[Stream] = ()) -> list[Act]:
    """Return the chosen acts of `tasks` with predicted embeddings, computed once per context.

    `streams` defaults to the streams of the context.
    """

    def look() -> list[Act]:
        return see(context, choose(streams or context.streams, tasks))

    return context.once(f'acts of {" ".join(tasks)}', look)


def see(context: Context, chosen: Sequence[AnnotationMoment]) -> list[Act]:
    """Return the acts at `chosen` moments with the embeddings predicted by the model."""
    seen = caption(context, chosen, 'acts')
    return [Act(m.item, v, m.stream.name) for m, v in zip(chosen, seen, strict=True)]


def choose(
    streams: Sequence[Stream], tasks: Sequence[str], limit: int | None = EPISODES
) -> list[AnnotationMoment]:
    """Return the middles of at most `limit` acts per task (None: all), evenly over cameras."""
    found = one_an_episode(moments(streams, tasks, ('act',)))
    return [
        moment
        for task in tasks
        for moment in evenly(m for m in found if m.item.task == task)[:limit]
    ]


class Candidates:
    """Classifier of acts by the text embeddings of `tasks`, which are cached per color.

    `which`: list of paraphrases, 'train' or 'heldout'.
    """

    def __init__(self, context: Context, tasks: Sequence[str], which: str) -> None:
        self._context, self.tasks, self._which = context, tuple(tasks), which
        self._texts: dict[str, list[Vectors]] = {}

    def guess(self, act: Act, vector: Vectors) -> str:
        """Return the task whose sentences, in the act's color, are nearest to `vector`."""
        color = act.annotation.colour
        if color not in self._texts:
            concepts, encode = self._context.concepts, self._context.language.encode
            self._texts[color] = [
                encode(concepts.sentences(concepts.concept(task, 'act', color), self._which))
                for task in self.tasks
            ]
        scores = [float((texts @ vector).mean()) for texts in self._texts[color]]
        return self.tasks[int(np.argmax(scores))]

    def top1(self, found: Sequence[Act], vectors: Sequence[Vectors]) -> Outcomes:
        """Return whether each act is classified correctly (1 or 0); tasks have equal weight."""
        right = [
            float(self.guess(act, vector) == act.annotation.task)
            for act, vector in zip(found, vectors, strict=True)
        ]
        return Outcomes(
            tuple(act.id for act in found),
            tuple(right),
            tuple(act.annotation.task for act in found),
            tuple(act.stream for act in found),
        )


def classify(context: Context) -> Report:
    """Return top-1 accuracy on the training tasks, for training and held-out paraphrases."""
    tasks = context.concepts.train_tasks
    found = acts(context, tasks)
    seen, oracle, blind = answers_by_source(context, found)
    rows = []
    for which, name in LISTS.items():
        candidates = Candidates(context, tasks, which)
        what, is_seen = f'top-1, {name}', which == 'train'
        best = candidates.top1(found, oracle).mean()
        target = SEEN_TARGET if is_seen else ORACLE_SHARE_TARGET * best.value
        rows += [
            row_of('ours', what, candidates.top1(found, seen), target),
            Row('oracle', what, best, None if is_seen else ORACLE_TARGET),
            row_of('blind', what, candidates.top1(found, blind)),
        ]
    rows += hidden_rows(context.streams, tasks)
    shown = len({act.annotation.task for act in found})
    note = f'{len(found)} actions of {shown} of {len(tasks)} tasks; all tasks have equal weight.'
    return Report('classify', tuple(rows), (note,))


def answers_by_source(
    context: Context, found: Sequence[Act]
) -> tuple[list[Vectors], list[Vectors], list[Vectors]]:
    """Return the embeddings of the acts from the model, oracle and vision-blind baseline."""
    return (
        [act.vector for act in found],
        [context.centroid(act.annotation.meaning) for act in found],
        [blind_answers(context.vision, [PROMPT])[0]] * len(found),
    )


def classify_unseen(context: Context) -> Report:
    """Return top-1 accuracy on the five tasks that are absent from training."""
    streams, concepts = context.unseen or context.streams, context.concepts
    tasks = concepts.test_tasks
    if not choose(streams, tasks):
        return Report('classify-unseen', (), (NOT_THERE,))
    unseen, known = acts(context, tasks, streams), acts(context, concepts.train_tasks)
    everything = Candidates(context, concepts.tasks, 'train')
    five = Candidates(context, tasks, 'train')
    ours, oracle, blind = answers_by_source(context, unseen)
    wide, seen = everything.top1(unseen, ours), everything.top1(known, [a.vector for a in known])
    rows = (
        row_of('ours', 'unseen tasks among all 50', wide),
        row_of('oracle', 'unseen tasks among all 50', everything.top1(unseen, oracle)),
        row_of('blind', 'unseen tasks among all 50', everything.top1(unseen, blind)),
        row_of('ours', 'seen tasks among all 50', seen),
        Row('ours', 'harmonic mean of both', harmonic(wide.draws(), seen.draws())),
        row_of('ours', 'unseen tasks among the 5', five.top1(unseen, ours)),
        row_of('oracle', 'unseen tasks among the 5', five.top1(unseen, oracle)),
        row_of('blind', 'unseen tasks among the 5', five.top1(unseen, blind)),
        *hidden_rows(streams, tasks),
    )
    note = f'{len(unseen)} actions of {len(tasks)} unseen tasks; candidates: training paraphrases.'
    return Report('classify-unseen', rows, (note,))
