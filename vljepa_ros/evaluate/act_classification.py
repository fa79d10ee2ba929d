# SPDX-License-Identifier: Apache-2.0
"""Classification of acts by task: the chosen acts, their embeddings and the candidate sentences.

An act is an annotation of the phase 'act', the main movement of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import AnnotationMoment, evenly, moments, one_an_episode
from vljepa_ros.evaluate.outcomes import Outcomes
from vljepa_ros.evaluate.probing import PROMPT, caption
from vljepa_ros.evaluate.views import Vectors, blind_answers, middle

LISTS = {'train': 'training paraphrases', 'heldout': 'held-out paraphrases'}
EPISODES = 20  # maximum per task


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


def answers_by_source(
    context: Context, found: Sequence[Act]
) -> tuple[list[Vectors], list[Vectors], list[Vectors]]:
    """Return the embeddings of the acts from the model, oracle and vision-blind baseline."""
    return (
        [act.vector for act in found],
        [context.centroid(act.annotation.meaning) for act in found],
        [blind_answers(context.vision, [PROMPT])[0]] * len(found),
    )
