# SPDX-License-Identifier: Apache-2.0
"""Suites classify and classify-unseen: classification of acts by task.

An act is an annotation of the phase 'act', the main movement of a task. The embedding predicted at
its middle is compared with the sentences of all tasks in the object's color. A task's score is the
mean cosine of its paraphrases. At most 20 acts per task are chosen, evenly over the cameras.
Every task has equal weight.
"""

from __future__ import annotations

from vljepa_ros.evaluate.act_classification import (
    LISTS,
    Candidates,
    acts,
    answers_by_source,
    choose,
)
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import hidden_rows
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.statistics import harmonic

SEEN_TARGET, ORACLE_SHARE_TARGET, ORACLE_TARGET = 0.92, 0.92, 0.85
NOT_THERE = (
    'No streams of the unseen tasks: put the split `unseen` next to `test` and use `--split test`.'
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
