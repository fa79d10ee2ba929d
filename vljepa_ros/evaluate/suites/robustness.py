# SPDX-License-Identifier: Apache-2.0
"""Suite robustness: accuracy under image corruptions, on a fixed part of classify and vqa.

The suite evaluates acts of every task and questions about these moments. Clips are processed as at
run time: the frame sampler places stamps on the model's time grid, and images are resized to the
model's input. The suite is not part of `all`, because it takes long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.core.types import Frame, Image
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.image_corruptions import DISTURBANCES, Clip, Disturbance
from vljepa_ros.evaluate.moments import Moment, hidden_rows, in_turn
from vljepa_ros.evaluate.outcomes import Outcomes, unique
from vljepa_ros.evaluate.probing import PROMPT
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.suites.classify import Act, Candidates, choose
from vljepa_ros.evaluate.suites.vqa import YES_NO, Posed, ask, is_right
from vljepa_ros.evaluate.views import Vectors, fitted, window
from vljepa_ros.stream.perceiver import Perceiver

ACTS_A_TASK, QUESTIONS = 3, 200
TOP1 = 'top-1, seen wording'


@dataclass(frozen=True)
class Glance:
    """One act with its questions under one image corruption."""

    disturbance: str
    act: Moment
    posed: tuple[Posed, ...]

    @property
    def prompts(self) -> list[str]:
        """Return the caption prompt and the questions."""
        return [PROMPT, *(p.question.prompt for p in self.posed)]


def robustness(context: Context) -> Report:
    """Evaluate top-1 accuracy of acts and of yes/no questions under every corruption."""
    acts = choose(context.streams, TRAIN_TASKS, ACTS_A_TASK)
    posed = some_questions(acts, QUESTIONS)
    about = [tuple(p for p in posed if _place(p.moment) == _place(act)) for act in acts]
    glances = [
        Glance(name, act, asked)
        for name in DISTURBANCES
        for act, asked in zip(acts, about, strict=True)
    ]
    found = context.map(_answers, glances, 'corrupted moments')
    candidates, rows = Candidates(context, TRAIN_TASKS, 'train'), list[Row]()
    for name in DISTURBANCES:
        seen = [
            (g, vectors)
            for g, vectors in zip(glances, found, strict=True)
            if g.disturbance == name
        ]
        shown = [Act(g.act.item, vectors[0], g.act.stream.name) for g, vectors in seen]
        right = [
            (p.moment.stream.name, is_right(context, p.question, vector))
            for g, vectors in seen
            for p, vector in zip(g.posed, vectors[1:], strict=True)
        ]
        answered = Outcomes(
            unique([p.id for g, _ in seen for p in g.posed]),
            tuple(float(told) for _, told in right),
            clusters=tuple(stream for stream, _ in right),
        )
        top1 = candidates.top1(shown, [act.vector for act in shown])
        rows += [row_of(name, TOP1, top1), row_of(name, YES_NO, answered)]
    rows += hidden_rows(context.streams, TRAIN_TASKS)
    return Report('robustness', tuple(rows), (f'{len(acts)} acts, {len(posed)} questions.',))


def some_questions(found: Sequence[Moment], count: int) -> list[Posed]:
    """Return at most `count` questions: for every topic in turn, one with each answer."""
    posed = [p for p in ask(found) if p.question.kind == YES_NO]
    shuffled = [posed[i] for i in np.random.default_rng(0).permutation(len(posed))]
    pairs = sorted(shuffled, key=_topic_and_answer)
    return in_turn(pairs, _topic_and_answer)[:count]


def shrunk(frames: NDArray[np.uint8], size: int) -> Sequence[Image]:
    """Return frames (T, S, S, 3), at most of the model's size: corruptions are in its pixels."""
    return fitted(frames, size) if frames.shape[1] > size else list(np.asarray(frames))


def _topic_and_answer(posed: Posed) -> tuple[str, str]:
    return posed.question.topic, posed.question.meaning


def _place(moment: Moment) -> tuple[str, float]:
    return moment.stream.name, moment.at_s


def _answers(context: Context, glance: Glance) -> Vectors:
    return seen(context.vision, glance.act, glance.prompts, DISTURBANCES[glance.disturbance])


def seen(vision: Vision, moment: Moment, prompts: Sequence[str], disturb: Disturbance) -> Vectors:
    """Return answers (P, D) about a moment of a corrupted stream, by the run-time path."""
    part = window(vision, moment.stream, moment.at_s)
    images = tuple(shrunk(moment.stream.frames()[part], vision.facts.image_size))
    stamps = tuple(int(stamp) for stamp in moment.stream.stamps_ns()[part])
    rng = np.random.default_rng(round(moment.at_s * 1000))
    clip = disturb(Clip(stamps, images), rng)
    perceiver = Perceiver(vision, PerceptionSettings(prompts=()))
    for stamp_ns, image in zip(clip.stamps_ns, clip.images, strict=True):
        perceiver.push(Frame(stamp_ns, np.ascontiguousarray(image)))
    return perceiver.predict('', prompts).vectors
