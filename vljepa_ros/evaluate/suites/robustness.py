# SPDX-License-Identifier: Apache-2.0
"""Suite robustness: what a worse camera costs, on a fixed part of classify and of vqa.

Clips go the way of a robot's frames: through the sampler, which lays stamps on the model's grid,
and the resizing to the model's pictures. Not part of `all`, for it takes long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.data.format import Stream
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.disturbances import DISTURBANCES, Clip, Disturbance
from vljepa_ros.evaluate.moments import Moment, in_turn
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.suites.classify import PROMPT, Act, Candidates, choose
from vljepa_ros.evaluate.suites.vqa import YES_NO, Posed, is_right, pose
from vljepa_ros.evaluate.views import Vectors, window
from vljepa_ros.stream.interfaces import Eyes
from vljepa_ros.stream.perceiver import Perceiver
from vljepa_ros.stream.settings import PerceptionSettings
from vljepa_ros.stream.types import Frame

ACTS_A_TASK, QUESTIONS = 3, 200
TOP1 = 'top-1, seen wording'


def robustness(context: Context) -> Report:
    """Top-1 of acts and yes/no under every disturbance."""
    acts = choose(context.streams, TRAIN_TASKS, ACTS_A_TASK)
    posed = some_questions(context.streams, QUESTIONS)
    candidates = Candidates(context, TRAIN_TASKS, 'train')
    rows = []
    for name in context.each(list(DISTURBANCES), 'disturbances'):
        disturb = DISTURBANCES[name]
        rows += [
            Row(name, TOP1, top1(context, candidates, acts, disturb)),
            Row(name, YES_NO, asked(context, posed, disturb)),
        ]
    return Report('robustness', tuple(rows), (f'{len(acts)} acts, {len(posed)} questions.',))


def some_questions(streams: Sequence[Stream], count: int) -> list[Posed]:
    """At most `count` questions: of every topic in turn, one with each answer."""
    posed = [p for p in pose(streams) if p.question.kind == YES_NO]
    shuffled = [posed[i] for i in np.random.default_rng(0).permutation(len(posed))]
    pairs = sorted(shuffled, key=_topic_and_answer)
    return in_turn(pairs, _topic_and_answer)[:count]


def _topic_and_answer(posed: Posed) -> tuple[str, str]:
    return posed.question.topic, posed.question.meaning


def top1(
    context: Context, candidates: Candidates, acts: Sequence[Moment], disturb: Disturbance
) -> Mean:
    """Share of acts whose task is told."""
    found = [Act(m.item, seen(context.eyes, m, [PROMPT], disturb)[0], m.stream.name) for m in acts]
    return candidates.top1(found, [act.vector for act in found]).interval()


def asked(context: Context, posed: Sequence[Posed], disturb: Disturbance) -> Mean:
    """Share of questions that are answered right."""
    right = [
        is_right(
            context, p.question, seen(context.eyes, p.moment, [p.question.prompt], disturb)[0]
        )
        for p in posed
    ]
    return mean(np.array(right, float), clusters=[p.moment.stream.name for p in posed])


def seen(eyes: Eyes, moment: Moment, prompts: Sequence[str], disturb: Disturbance) -> Vectors:
    """Answers (P, D) about a moment of a disturbed stream, by the run-time path."""
    part = window(eyes, moment.stream, moment.at_s)
    images = tuple(np.asarray(moment.stream.frames()[part]))
    stamps = tuple(int(stamp) for stamp in moment.stream.stamps_ns()[part])
    rng = np.random.default_rng(round(moment.at_s * 1000))
    clip = disturb(Clip(stamps, images), rng)
    perceiver = Perceiver(eyes, PerceptionSettings(prompts=()))
    for stamp_ns, image in zip(clip.stamps_ns, clip.images, strict=True):
        perceiver.push(Frame(stamp_ns, np.ascontiguousarray(image)))
    return perceiver.predict('', prompts).vectors
