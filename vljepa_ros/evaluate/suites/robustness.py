# SPDX-License-Identifier: Apache-2.0
"""Suite robustness: accuracy under image corruptions, on a fixed subset of classify and vqa.

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
from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.evaluate.act_classification import Act, Candidates, choose
from vljepa_ros.evaluate.balanced_questions import YES_NO, is_right, questions_about
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.image_corruptions import CORRUPTIONS, Corruption, StampedClip
from vljepa_ros.evaluate.moments import AnnotationMoment, hidden_rows, in_turn
from vljepa_ros.evaluate.outcomes import Outcomes, unique
from vljepa_ros.evaluate.probing import PROMPT
from vljepa_ros.evaluate.questions import Posed, by_moment
from vljepa_ros.evaluate.report import Report, Row, row_of
from vljepa_ros.evaluate.views import Vectors, fitted, window
from vljepa_ros.stream.perceiver import Perceiver

ACTS_A_TASK, QUESTIONS = 3, 200
TOP1 = 'top-1, training paraphrases'


@dataclass(frozen=True)
class CorruptedAct:
    """Act under one image corruption, with the questions about its middle."""

    corruption: str
    act: AnnotationMoment
    posed: tuple[Posed, ...]

    @property
    def prompts(self) -> list[str]:
        """Return the caption prompt and the prompts of all questions."""
        return [PROMPT, *(p.question.prompt for p in self.posed)]


def robustness(context: Context) -> Report:
    """Return top-1 accuracy of acts and yes/no accuracy under every corruption."""
    tasks = context.concepts.train_tasks
    acts = choose(context.streams, tasks, ACTS_A_TASK)
    posed = some_questions(context.concepts, acts, QUESTIONS)
    about = by_moment(posed)
    corrupted = [
        CorruptedAct(
            name, act, tuple(posed[i] for i in about.get((act.stream.name, act.at_s), ()))
        )
        for name in CORRUPTIONS
        for act in acts
    ]
    found = context.map(_answers, corrupted, 'corrupted moments')
    candidates, rows = Candidates(context, tasks, 'train'), list[Row]()
    for name in CORRUPTIONS:
        seen = [
            (c, vectors)
            for c, vectors in zip(corrupted, found, strict=True)
            if c.corruption == name
        ]
        shown = [Act(c.act.item, vectors[0], c.act.stream.name) for c, vectors in seen]
        right = [
            (p.stream.name, is_right(context, p.question, vector))
            for c, vectors in seen
            for p, vector in zip(c.posed, vectors[1:], strict=True)
        ]
        answered = Outcomes(
            unique([p.id for c, _ in seen for p in c.posed]),
            tuple(float(is_correct) for _, is_correct in right),
            clusters=tuple(stream for stream, _ in right),
        )
        top1 = candidates.top1(shown, [act.vector for act in shown])
        rows += [row_of(name, TOP1, top1), row_of(name, YES_NO, answered)]
    rows += hidden_rows(context.streams, tasks)
    return Report('robustness', tuple(rows), (f'{len(acts)} actions, {len(posed)} questions.',))


def some_questions(
    concepts: ConceptSet, found: Sequence[AnnotationMoment], count: int
) -> list[Posed]:
    """Return at most `count` random yes/no questions, round-robin over topics and answers."""
    posed = [p for p in questions_about(concepts, found) if p.question.kind == YES_NO]
    shuffled = [posed[i] for i in np.random.default_rng(0).permutation(len(posed))]
    pairs = sorted(shuffled, key=_topic_and_answer)
    return in_turn(pairs, _topic_and_answer)[:count]


def shrunk(frames: NDArray[np.uint8], size: int) -> Sequence[Image]:
    """Return frames (T, S, S, 3) as images, reduced to `size` pixels if they are larger."""
    return fitted(frames, size) if frames.shape[1] > size else list(np.asarray(frames))


def _topic_and_answer(posed: Posed) -> tuple[str, str]:
    return posed.question.topic, posed.question.meaning


def _answers(context: Context, item: CorruptedAct) -> Vectors:
    return seen(context.vision, item.act, item.prompts, CORRUPTIONS[item.corruption])


def seen(
    vision: Vision, moment: AnnotationMoment, prompts: Sequence[str], corrupt: Corruption
) -> Vectors:
    """Return the answer embeddings (P, D) at a moment of a corrupted stream, as at run time."""
    part = window(vision, moment.stream, moment.at_s)
    images = tuple(shrunk(moment.stream.frames()[part], vision.facts.image_size))
    stamps = tuple(int(stamp) for stamp in moment.stream.stamps_ns()[part])
    rng = np.random.default_rng(round(moment.at_s * 1000))
    clip = corrupt(StampedClip(stamps, images), rng)
    perceiver = Perceiver(vision, PerceptionSettings(prompts=()))
    for stamp_ns, image in zip(clip.stamps_ns, clip.images, strict=True):
        perceiver.push(Frame(stamp_ns, np.ascontiguousarray(image)))
    return perceiver.predict('', prompts).vectors
