# SPDX-License-Identifier: Apache-2.0
"""Metrics of a model on annotated recordings, for comparison before and after fine-tuning.

The model predicts the text of each annotation in the middle of its time span, and the answer to
each question at the time of the question. Frames are streamed to it as at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.protocols import Language, Model, Vision
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.data.annotation_file import meaning_of
from vljepa_ros.data.format import Stream
from vljepa_ros.data.questions import answer_concept
from vljepa_ros.evaluate.views import answers, middle


@dataclass(frozen=True)
class AnnotationMetrics:
    """Accuracies, 0..1, on annotated texts and questions; NaN if there are none.

    `texts`, `questions`: number of annotated texts and of questions. `said`: fraction of the
    annotations whose decoded text is correct. `found`: fraction of the annotations whose text is
    the nearest to the prediction among all annotated texts. `answered`: fraction of the questions
    that are answered correctly. The names are keys in tuning.json and in the output of `--json`.
    """

    texts: int
    questions: int
    said: float
    found: float
    answered: float


def evaluate_annotations(model: Model, streams: Sequence[Stream]) -> AnnotationMetrics:
    """Evaluate a model on the annotated texts and questions of streams."""
    assert model.vision is not None and model.language is not None
    decoded, found = _texts(model.vision, model.language, streams)
    answered = [ok for s in streams for ok in _answered(model.vision, model.language, s)]
    return AnnotationMetrics(
        len(decoded), len(answered), _share(decoded), _share(found), _share(answered)
    )


def _texts(
    vision: Vision, language: Language, streams: Sequence[Stream]
) -> tuple[list[bool], list[bool]]:
    """Return for each annotation whether the decoded text, and the retrieved text, is correct.

    The retrieved text is the annotated text whose embedding is nearest to the prediction.
    """
    annotated = [(s, a) for s in streams for a in s.annotations if a.phase == 'told']
    if not annotated:
        return [], []
    prompts = PerceptionSettings().prompts[:1]
    vectors = np.stack([answers(vision, s, middle(a), prompts)[0] for s, a in annotated])
    texts = list(dict.fromkeys(a.text for _, a in annotated))
    nearest = [texts[i] for i in (vectors @ language.encode(texts).T).argmax(axis=1)]
    decoded = [meaning_of(d.text) for d in language.decode(vectors)]
    return (
        [meaning == a.meaning for meaning, (_, a) in zip(decoded, annotated, strict=True)],
        [meaning_of(text) == a.meaning for text, (_, a) in zip(nearest, annotated, strict=True)],
    )


def _answered(vision: Vision, language: Language, stream: Stream) -> list[bool]:
    """Return for each question of a stream whether the model's answer is correct.

    The answer is the best candidate or, for questions without candidates, the decoded text.
    """
    correct = []
    for question in stream.questions():
        at_s = (question.start + question.end) / 2
        vector = answers(vision, stream, at_s, [question.prompt])[0]
        if question.candidates:
            text = language.rank(vector, question.candidates)[0].text
        else:
            text = language.decode(vector[None], asked=True)[0].text
        correct.append(answer_concept(text) == answer_concept(question.answer))
    return correct


def _share(correct: Sequence[bool]) -> float:
    return float(np.mean(correct)) if correct else float('nan')
