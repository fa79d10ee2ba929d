# SPDX-License-Identifier: Apache-2.0
"""Metrics of an arm on one split: captions, classification of acts among 45 tasks, and yes/no.

Moments are the middles of annotations with prompts in held-out paraphrases, as in the suites of
`vljepa evaluate`. For captions, each concept without its color has equal weight; for acts, each
task has equal weight.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.comparison.arms import Arm, EmbeddingArm
from benchmarks.comparison.examples import TUBELET_S, Recording
from benchmarks.comparison.settings import Settings
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import YES_NO, LabeledQuestion
from vljepa_ros.data.simulators.mwstream.meanings import is_right, sentences
from vljepa_ros.data.simulators.mwstream.questions import prompts, questions
from vljepa_ros.data.simulators.mwstream.tasks import COLOR_NAMES, TRAIN_TASKS, meaning_of
from vljepa_ros.evaluate.cider import Cider

BATCH = 64
REFERENCES = 5  # reference paraphrases of a caption for CIDEr-D
PROMPT = prompts('caption', 'heldout')[0]
# Weights for choosing learning rates; CIDEr-D (at most 10) separates arms at chance level.
CHOSEN_BY = {'right': 1.0, 'top1_seen': 1.0, 'yes_no': 1.0, 'cider': 0.1}
LISTS = {'top1_seen': 'train', 'top1_heldout': 'heldout'}

Marks = dict[str, float]


@dataclass(frozen=True)
class QuestionMoment:
    """Middle of an annotation with its question."""

    stream: Recording
    newest: int
    item: Annotation
    prompt: str = PROMPT
    answer: str = ''


def candidates(colour: str, which: str) -> tuple[str, ...]:
    """Return one sentence per task for an object of this color."""
    return tuple(sentences(meaning_of(task, 'act', colour), which)[0] for task in TRAIN_TASKS)


def candidate_texts() -> list[str]:
    """Return all texts that an arm must be able to score."""
    acts = [t for which in LISTS.values() for c in COLOR_NAMES for t in candidates(c, which)]
    return [*acts, *YES_NO]


class Judge:
    """Evaluates arms on the same moments of a split."""

    def __init__(
        self, streams: Sequence[Recording], settings: Settings, bank: Sequence[str]
    ) -> None:
        """Select the moments; `bank` has the training sentences that D chooses from."""
        rng, self._tubelets, self._bank = np.random.default_rng(0), settings.tubelets, list(bank)
        moments = list(self._moments(streams))
        self._captions = _sample(moments, settings.captions, rng)
        self._acts = list[QuestionMoment]()
        for task in TRAIN_TASKS:
            own = [m for m in moments if (m.item.task, m.item.phase) == (task, 'act')]
            self._acts += _sample(own, settings.acts, rng)
        self._yes_no = _sample_pairs(_question_pairs(moments, rng), settings.yes_no, rng)
        self._references = [sentences(m.item.meaning)[:REFERENCES] for m in self._captions]
        self._cider = Cider(self._references)
        self._bank_vectors: Tensor | None = None

    def _moments(self, streams: Sequence[Recording]) -> list[QuestionMoment]:
        found = []
        for stream in streams:
            for item in stream.annotations:
                newest = int((item.start + item.end) / 2 / TUBELET_S) - 1
                if item.task in TRAIN_TASKS and newest + 1 >= self._tubelets:
                    found.append(QuestionMoment(stream, newest, item))
        return found

    @torch.inference_mode()
    def judge(self, arm: Arm) -> Marks:
        """Compute all metrics of an arm."""
        return self._caption_metrics(
            arm.say(self._answers(arm, self._captions))
        ) | self._choice_metrics(arm)

    @torch.inference_mode()
    def recall(self, arm: EmbeddingArm, marks: Marks) -> Marks:
        """Compute D's metrics from those of its `arm`, whose text embeddings are frozen."""
        if self._bank_vectors is None:
            self._bank_vectors = arm.encode(self._bank)
        nearest = (self._answers(arm, self._captions) @ self._bank_vectors.T).argmax(dim=1)
        return marks | self._caption_metrics([self._bank[i] for i in nearest.tolist()])

    def _choice_metrics(self, arm: Arm) -> Marks:
        seen, found = self._answers(arm, self._acts), Marks()
        for name, which in LISTS.items():
            scores = arm.score(seen, [candidates(m.item.colour, which) for m in self._acts])
            right = [
                TRAIN_TASKS[int(score.argmax())] == m.item.task
                for score, m in zip(scores, self._acts, strict=True)
            ]
            found[name] = macro(right, [m.item.task for m in self._acts])
        scores = arm.score(self._answers(arm, self._yes_no), [YES_NO] * len(self._yes_no))
        answers = [YES_NO[int(score.argmax())] for score in scores]
        right = [text == m.answer for text, m in zip(answers, self._yes_no, strict=True)]
        return found | {'yes_no': float(np.mean(right))}

    def _caption_metrics(self, texts: Sequence[str]) -> Marks:
        pairs = list(zip(texts, self._captions, strict=True))
        cider = [self._cider.score(t, r) for t, r in zip(texts, self._references, strict=True)]
        return {
            'right': self._macro([is_right(m.item.meaning, text) for text, m in pairs]),
            'cider': self._macro(cider),
        }

    def _macro(self, values: Sequence[float]) -> float:
        return macro(values, [_without_color(m.item.meaning) for m in self._captions])

    def _answers(self, arm: Arm, moments: Sequence[QuestionMoment]) -> Tensor:
        found = []
        for start in range(0, len(moments), BATCH):
            part = moments[start : start + BATCH]
            shown = np.stack([m.stream.window(m.newest, self._tubelets) for m in part])
            found.append(arm.see(torch.from_numpy(shown).float(), [m.prompt for m in part]))
        return torch.cat(found)


def _without_color(meaning: str) -> str:
    return meaning.rpartition(':')[0] or meaning


def macro(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Return the mean of the groups' means."""
    parts: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        parts.setdefault(group, []).append(value)
    return float(np.mean([np.mean(part) for part in parts.values()]))


def score(marks: Marks) -> float:
    """Return the score for choosing learning rates."""
    return sum(weight * marks[name] for name, weight in CHOSEN_BY.items())


def _sample(
    moments: Sequence[QuestionMoment], count: int, rng: np.random.Generator
) -> list[QuestionMoment]:
    return [moments[i] for i in rng.permutation(len(moments))[:count]]


def _question_pairs(
    moments: Sequence[QuestionMoment], rng: np.random.Generator
) -> list[tuple[QuestionMoment, QuestionMoment]]:
    """Pair questions with the answers yes and no, of the same topic and task."""
    groups: dict[tuple[str, str], dict[str, list[QuestionMoment]]] = {}
    for m in moments:
        for q in questions(m.item, rng, 'heldout'):
            if q.kind == 'yes/no' and q.answer in YES_NO:
                group = groups.setdefault((q.topic, m.item.task), {a: [] for a in YES_NO})
                group[q.answer].append(_ask(m, q))
    shuffled = [
        [_sample(group[a], len(group[a]), rng) for a in YES_NO] for group in groups.values()
    ]
    return [pair for yes, no in shuffled for pair in zip(yes, no, strict=False)]


def _ask(moment: QuestionMoment, question: LabeledQuestion) -> QuestionMoment:
    return QuestionMoment(
        moment.stream, moment.newest, moment.item, question.prompt, question.answer
    )


def _sample_pairs(
    pairs: Sequence[tuple[QuestionMoment, QuestionMoment]], count: int, rng: np.random.Generator
) -> list[QuestionMoment]:
    return [m for i in rng.permutation(len(pairs))[: count // 2] for m in pairs[i]]
