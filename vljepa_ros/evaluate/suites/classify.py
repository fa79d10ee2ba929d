# SPDX-License-Identifier: Apache-2.0
"""Suites classify and classify-unseen: which task's act is going on?

The embedding in the middle of an act against all tasks' sentences in the object's colour, at most
20 episodes a task, evenly over the cameras. A task's score is the mean cosine of its wordings.
Every task weighs the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.data.mwstream.tasks import TASKS, TEST_TASKS, TRAIN_TASKS, meaning_of
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.looking import PROMPT, caption
from vljepa_ros.evaluate.moments import Moment, evenly, moments, one_an_episode
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Draws, draws, harmonic
from vljepa_ros.evaluate.views import Vectors, blind_answers

WORDINGS = {'train': 'seen wording', 'heldout': 'held-out wording'}
EPISODES = 20  # of a task, at most
SEEN_MARK, ORACLE_SHARE_MARK, ORACLE_MARK = 0.92, 0.92, 0.85
NOT_THERE = (
    'No streams of the unseen tasks: they lie in the split `unseen`, beside `test`, '
    'and are read with `--split test`.'
)


@dataclass(frozen=True)
class Act:
    """One act, the stream it is from, and what the eyes answered in its middle."""

    annotation: Annotation
    vector: Vectors
    stream: str = ''


def acts(context: Context, tasks: Sequence[str], streams: Sequence[Stream] = ()) -> list[Act]:
    """The chosen acts of `tasks` in `streams` (none given: the context's), seen."""

    def look() -> list[Act]:
        chosen = choose(streams or context.streams, tasks)
        seen = caption(context, chosen, f'acts of {len(tasks)} tasks')
        return [Act(m.item, v, m.stream.name) for m, v in zip(chosen, seen, strict=True)]

    return context.once(f'acts of {" ".join(tasks)}', look)


def choose(streams: Sequence[Stream], tasks: Sequence[str], limit: int = EPISODES) -> list[Moment]:
    """At most `limit` acts of each task."""
    found = one_an_episode(moments(streams, tasks, ('act',)))
    return [
        moment
        for task in tasks
        for moment in evenly(m for m in found if m.item.task == task)[:limit]
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

    def top1(self, found: Sequence[Act], vectors: Sequence[Vectors]) -> Draws:
        """Share of right guesses."""
        right = [
            float(self.guess(act, vector) == act.annotation.task)
            for act, vector in zip(found, vectors, strict=True)
        ]
        return draws(right, [a.annotation.task for a in found], [a.stream for a in found])


def classify(context: Context) -> Report:
    """Top-1 of the training tasks, in seen and in held-out wordings."""
    found = acts(context, TRAIN_TASKS)
    seen, oracle, blind = speakers(context, found)
    rows = []
    for which, name in WORDINGS.items():
        candidates = Candidates(context, TRAIN_TASKS, which)
        what, is_seen = f'top-1, {name}', which == 'train'
        best = candidates.top1(found, oracle).interval()
        mark = SEEN_MARK if is_seen else ORACLE_SHARE_MARK * best.value
        rows += [
            Row('ours', what, candidates.top1(found, seen).interval(), mark),
            Row('oracle', what, best, None if is_seen else ORACLE_MARK),
            Row('blind', what, candidates.top1(found, blind).interval()),
        ]
    shown = len({act.annotation.task for act in found})
    note = f'{len(found)} acts of {shown} of {len(TRAIN_TASKS)} tasks, every task the same weight.'
    return Report('classify', tuple(rows), (note,))


def speakers(
    context: Context, found: Sequence[Act]
) -> tuple[list[Vectors], list[Vectors], list[Vectors]]:
    """What the eyes, an oracle and the blind answer about acts."""
    return (
        [act.vector for act in found],
        [context.centre(act.annotation.meaning) for act in found],
        [blind_answers(context.eyes, [PROMPT])[0]] * len(found),
    )


def classify_unseen(context: Context) -> Report:
    """Top-1 of the five tasks that training never had."""
    streams = context.unseen or context.streams
    if not choose(streams, TEST_TASKS):
        return Report('classify-unseen', (), (NOT_THERE,))
    unseen, known = acts(context, TEST_TASKS, streams), acts(context, TRAIN_TASKS)
    everything = Candidates(context, tuple(TASKS), 'train')
    five = Candidates(context, TEST_TASKS, 'train')
    ours, oracle, blind = speakers(context, unseen)
    wide, seen = everything.top1(unseen, ours), everything.top1(known, [a.vector for a in known])
    rows = (
        Row('ours', 'unseen tasks among all 50', wide.interval()),
        Row('oracle', 'unseen tasks among all 50', everything.top1(unseen, oracle).interval()),
        Row('blind', 'unseen tasks among all 50', everything.top1(unseen, blind).interval()),
        Row('ours', 'seen tasks among all 50', seen.interval()),
        Row('ours', 'harmonic mean of both', harmonic(wide, seen)),
        Row('ours', 'unseen tasks among the 5', five.top1(unseen, ours).interval()),
        Row('oracle', 'unseen tasks among the 5', five.top1(unseen, oracle).interval()),
        Row('blind', 'unseen tasks among the 5', five.top1(unseen, blind).interval()),
    )
    note = f'{len(unseen)} acts of {len(TEST_TASKS)} unseen tasks, training wordings.'
    return Report('classify-unseen', rows, (note,))
