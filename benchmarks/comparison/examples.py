# SPDX-License-Identifier: Apache-2.0
"""Training examples of all arms, in the same order: windows of features, prompts and answers.

Windows and prompts are drawn by one random generator and the answers' paraphrases by another.
Therefore runs with the same seed have equal examples for all arms, and runs with one paraphrase
differ from those with all paraphrases only in the texts of the answers.

Shapes: B windows, W tubelets, N tokens, D width of the X-Encoder, P prompts per window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Annotation, open_split
from vljepa_ros.data.questions import UNKNOWN, LabeledQuestion
from vljepa_ros.data.simulators.mwstream.meanings import meanings, sentences
from vljepa_ros.data.simulators.mwstream.questions import answer_meanings, answers, questions
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.train.clips import HARD, KINDS

TUBELET_S = 0.2  # two frames at 10 frames/s

Wordings = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Recording:
    """Annotations and features (T, N, D) of a stream."""

    annotations: tuple[Annotation, ...]
    features: NDArray[np.float16]

    def window(self, newest: int, tubelets: int) -> NDArray[np.float16]:
        """Return the features of `tubelets` tubelets up to the `newest`."""
        return np.asarray(self.features[newest + 1 - tubelets : newest + 1])

    def at(self, newest: int) -> Annotation:
        """Return the annotation at the end of a tubelet."""
        starts = [item.start for item in self.annotations]
        return self.annotations[int(np.searchsorted(starts, (newest + 0.75) * TUBELET_S)) - 1]


@dataclass(frozen=True)
class Batch:
    """Windows (B, W, N, D) with P consecutive prompts and answers each (B * P in total)."""

    visual: Tensor
    prompts: list[str]
    answers: list[str]


def recordings(split: Path, features: Path, count: int | None = None) -> list[Recording]:
    """Open the first `count` streams of a split with their features.

    Raises:
        InputError: there are no complete streams, or features are missing.
    """
    found = []
    for stream in open_split(split).streams[:count]:
        path = features / f'{stream.name}.npy'
        if not path.is_file():
            raise InputError(f'{path} is missing: run benchmarks.comparison.neutral first')
        found.append(Recording(stream.annotations, np.load(path, mmap_mode='r')))
    if not found:
        raise InputError(f'no complete stream in {split}')
    return found


def wordings(which: str) -> dict[str, tuple[str, ...]]:
    """Map every concept of the training answers to its texts: the first one or all."""
    captions = meanings(TRAIN_TASKS, held_out_colors=False)
    found = {m: sentences(m) for m in captions} | {m: answers(m) for m in answer_meanings(False)}
    return found if which == 'all' else {name: texts[:1] for name, texts in found.items()}


class Examples:
    """Draws batches with fixed fractions of phases, uniformly over tasks within a phase."""

    def __init__(
        self,
        streams: Sequence[Recording],
        texts: Wordings,
        tubelets: int,
        question_count: int,
        seed: int,
    ) -> None:
        self._streams, self._texts = streams, texts
        self._tubelets, self._questions = tubelets, question_count
        self._rng, self._words = (np.random.default_rng([seed, part]) for part in (0, 1))
        self._places: dict[str, dict[str, list[tuple[int, Annotation]]]] = {}
        for number, stream in enumerate(streams):
            for item in stream.annotations:
                if item.meaning in texts and item.phase in KINDS:
                    by_task = self._places.setdefault(item.phase, {})
                    by_task.setdefault(item.task, []).append((number, item))
        self._kinds = list(self._places)
        weight = np.array([KINDS[kind] for kind in self._kinds])
        self._share = weight / weight.sum()

    def draw(self, count: int) -> Batch:
        """Draw `count` windows, each with a caption prompt and questions."""
        windows, prompts, said = list[NDArray[np.float16]](), list[str](), list[str]()
        while len(windows) < count:
            stream, newest = self._place()
            item = stream.at(newest)
            if (
                item.meaning not in self._texts
            ):  # a neighboring annotation with a held-out combination
                continue
            windows.append(stream.window(newest, self._tubelets))
            for question in self._ask(item):
                prompts.append(question.prompt)
                said.append(str(self._words.choice(self._texts[question.meaning])))
        return Batch(torch.from_numpy(np.stack(windows)).float(), prompts, said)

    def _place(self) -> tuple[Recording, int]:
        """Draw a stream and the newest tubelet of a window in it."""
        by_task = self._places[str(self._rng.choice(self._kinds, p=self._share))]
        places = by_task[str(self._rng.choice(list(by_task)))]
        number, item = places[int(self._rng.integers(len(places)))]
        stream = self._streams[number]
        first = item.start + TUBELET_S
        at_s = self._rng.uniform(first, max(first, item.end))
        newest = int(at_s / TUBELET_S) - 1
        return stream, int(np.clip(newest, self._tubelets - 1, len(stream.features) - 1))

    def _ask(self, item: Annotation) -> list[LabeledQuestion]:
        """Return the caption question and answerable questions; hard ones occur more often."""
        pool = questions(item, self._rng)
        known = [q for q in pool[1:] if q.meaning != UNKNOWN and q.meaning in self._texts]
        weight = np.array([HARD.get(q.topic, 1.0) for q in known])
        chosen = self._rng.choice(len(known), self._questions, p=weight / weight.sum())
        return [pool[0], *(known[i] for i in chosen)]
