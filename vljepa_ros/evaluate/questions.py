# SPDX-License-Identifier: Apache-2.0
"""Questions about moments of annotated streams, for fitting and evaluating confidences.

Captions are requested with each held-out prompt at one quarter, half and three quarters of an
annotation. Questions of all other kinds, including unanswerable ones, are posed at its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.questions import CAPTION, LabeledQuestion, prompts
from vljepa_ros.evaluate.views import middle


@dataclass(frozen=True)
class Posed:
    """Question about a moment of a stream.

    `at_s`: seconds from the start of the stream. `item`: annotation at this time.
    """

    stream: Stream
    item: Annotation
    at_s: float
    question: LabeledQuestion

    @property
    def id(self) -> str:
        """Return the question's id; questions that differ only in their candidates share it."""
        return f'{self.stream.name}@{self.at_s:.3f} {self.question.prompt}'


def by_moment(posed: Sequence[Posed]) -> dict[tuple[str, float], list[int]]:
    """Return the indices in `posed`, grouped by moment (stream name, seconds)."""
    found: dict[tuple[str, float], list[int]] = {}
    for i, item in enumerate(posed):
        found.setdefault((item.stream.name, item.at_s), []).append(i)
    return found


def pose(
    concepts: ConceptSet, item: Annotation, rng: np.random.Generator, draws: int = 1
) -> list[tuple[float, list[LabeledQuestion]]]:
    """Return questions about an annotation as pairs (seconds, questions), sorted by time.

    All questions except captions are drawn `draws` times. The result is empty if the annotation
    has no caption.
    """
    caption = concepts.caption(item, rng, 'heldout')
    if not caption.answer:
        return []
    captions = [replace(caption, prompt=prompt) for prompt in prompts(CAPTION, 'heldout')]
    asked = list(captions)
    for _ in range(draws):
        asked += [q for q in concepts.questions(item, rng, 'heldout') if q.kind != CAPTION]
    quarter = (item.end - item.start) / 4
    return [
        (item.start + quarter, captions),
        (middle(item), asked),
        (item.end - quarter, captions),
    ]
