# SPDX-License-Identifier: Apache-2.0
"""How well a model says what people said of recordings: figures to compare before and after.

Each annotation is looked at in its middle, each question at its time, by the streaming path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.protocols import Language, Model, Vision
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.data.annotation_file import meaning_of
from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.questions import answer_meaning
from vljepa_ros.evaluate.views import answers, middle


@dataclass(frozen=True)
class Marks:
    """Shares 0..1, nan where there is nothing to judge.

    `said`: of texts that are put into people's own words; `found`: of texts that are nearest to
    what is seen, among all that people said; `answered`: of questions that are answered rightly.
    """

    texts: int
    questions: int
    said: float
    found: float
    answered: float


def mark(model: Model, streams: Sequence[Stream]) -> Marks:
    """Judge a model by what people said of streams."""
    assert model.vision is not None and model.language is not None
    said, found = _texts(model.vision, model.language, streams)
    answered = [right for s in streams for right in _answered(model.vision, model.language, s)]
    return Marks(len(said), len(answered), _share(said), _share(found), _share(answered))


def _texts(
    vision: Vision, language: Language, streams: Sequence[Stream]
) -> tuple[list[bool], list[bool]]:
    """For every annotation whether it is said, and whether its meaning is found."""
    told = [(s, a) for s in streams for a in s.annotations if a.phase == 'told']
    if not told:
        return [], []
    prompts = PerceptionSettings().prompts[:1]
    vectors = np.stack([answers(vision, s, middle(a), prompts)[0] for s, a in told])
    texts = list(dict.fromkeys(a.text for _, a in told))
    nearest = [texts[i] for i in (vectors @ language.encode(texts).T).argmax(axis=1)]
    decoded = [meaning_of(d.text) for d in language.decode(vectors)]
    return (
        [meaning == a.meaning for meaning, (_, a) in zip(decoded, told, strict=True)],
        [meaning_of(text) == a.meaning for text, (_, a) in zip(nearest, told, strict=True)],
    )


def _answered(vision: Vision, language: Language, stream: Stream) -> list[bool]:
    """For every question whether its answer is right: the best candidate, or words."""
    right = []
    for question in stream.told():
        at_s = (question.start + question.end) / 2
        vector = answers(vision, stream, at_s, [question.prompt])[0]
        if question.candidates:
            text = language.rank(vector, question.candidates)[0].text
        else:
            text = language.decode(vector[None], asked=True)[0].text
        right.append(answer_meaning(text) == answer_meaning(question.answer))
    return right


def _share(right: Sequence[bool]) -> float:
    return float(np.mean(right)) if right else float('nan')
