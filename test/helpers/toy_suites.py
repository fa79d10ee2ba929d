# SPDX-License-Identifier: Apache-2.0
"""Toy streams with images that encode concepts, and a toy model that reads them.

The first two channels of an image encode the number of its annotation's concept. The vision side
predicts the concept's vector, or another one if the test defines a mistake. All paraphrases of a
concept have its vector. The vision-blind baseline predicts a vector of no concept.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.core.types import Candidate, Decoded
from vljepa_ros.data.format import Annotation, Stream, StreamData, read_stream, write_stream
from vljepa_ros.data.simulators.mwstream.meanings import LISTS, meanings, sentence_index, sentences
from vljepa_ros.data.simulators.mwstream.questions import answer_meanings
from vljepa_ros.data.simulators.mwstream.questions import answers as answer_wordings
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, TRAIN_TASKS, meaning_of
from vljepa_ros.evaluate.context import Context

SIZE, DIM, LENGTH_S = 8, 64, 3.0
FACTS = ModelFacts('toy-0', DIM, SIZE, 10.0, 2, 4, 7)


@cache
def names() -> list[str]:
    """Return all concepts; the number of a concept is its index."""
    return meanings(tuple(TASKS))


@cache
def known() -> dict[str, str]:
    """Map texts of captions and answers to concept ids."""
    found = {text: m for m in answer_meanings() for text in answer_wordings(m)}
    for which in LISTS:
        found |= sentence_index(which)
    return found


@cache
def direction(name: str) -> np.ndarray:
    """Return a unit vector that depends on the name only."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'little')
    vector = np.random.default_rng(seed).normal(size=DIM)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class ToyVision:
    """Reads the newest image; `mistake` maps a concept to its wrong prediction."""

    facts = FACTS

    def __init__(self, mistake: Callable[[str], str] = str, answer: str = '') -> None:
        self.mistake, self.answer, self.looks = mistake, answer, 0

    def new_state(self) -> list[Any]:
        """Return an empty state."""
        self.looks += 1
        return []

    def step(self, state: list[Any], images: Sequence[Any]) -> None:
        """Encode one tubelet."""
        state += list(images)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Accept all."""

    def predict(self, state: list[Any], prompts: Sequence[str]) -> Any:
        """Return the concept's vector, or the vector of `answer` if it is set."""
        high, low, check = (int(value) for value in state[-1][0, 0])
        readable = check == 0 and 256 * high + low < len(names())
        name = self.mistake(names()[256 * high + low]) if readable else 'blind'
        return np.stack([direction(self.answer or name)] * len(prompts))

    def unfamiliar(self, state: list[Any]) -> float:
        """Return 0: no scene is unfamiliar."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0: every text is readable."""
        return 0.0


class ToyLanguage:
    """Encodes each text as its concept."""

    facts = FACTS

    def check(self, text: str) -> None:
        """Accept all."""

    def encode(self, texts: Sequence[str]) -> Any:
        """Return the vectors of the texts' concepts, (N, D)."""
        return np.stack([direction(known().get(text, text)) for text in texts])

    def decode(self, vectors: Any, asked: bool = False) -> list[Decoded]:
        """Decode to the first paraphrase of the nearest concept."""
        table = np.stack([direction(name) for name in names()])
        best = np.argmax(vectors @ table.T, axis=1)
        return [Decoded(sentences(names()[i])[0], 1.0, ()) for i in best]

    def rank(self, vector: Any, candidates: Sequence[str]) -> list[Candidate]:
        """Rank by cosine."""
        cosine = self.encode(candidates) @ vector
        return [Candidate(candidates[i], float(cosine[i])) for i in np.argsort(-cosine)]

    def unreadable(self, text: str) -> float:
        """Return 0: no text is unreadable."""
        return 0.0

    def is_unanswerable(self, vector: Any, candidates: Sequence[str], text: str) -> bool:
        """Return False: every question is answerable."""
        return False

    def similarity(self, vectors: Any, text: str) -> Any:
        """Return the cosine."""
        return vectors @ self.encode([text])[0]


def model(vision: ToyVision | None = None) -> Model:
    """Return a toy model with both sides."""
    return Model(FACTS, vision or ToyVision(), ToyLanguage())


def context(
    streams: Sequence[Stream], vision: ToyVision | None = None, unseen: Sequence[Stream] = ()
) -> Context:
    """Return a context with the toy model and some streams."""
    return Context(model(vision), streams, unseen=unseen)


def annotation(phase: str, task: str = 'push', color: str = 'red', **more: Any) -> Annotation:
    """Return an annotation without a position in time."""
    what = TASKS[task].object
    meaning = more.pop('meaning', None) or meaning_of(task, phase, color)
    return Annotation(0, LENGTH_S, meaning, phase, task, what, color, **more)


def film(
    folder: Path,
    name: str,
    items: Sequence[Annotation],
    camera: str = 'corner',
    cameras: Sequence[dict[str, Any]] = (),
    sizes_px: Sequence[float] = (),
    side: int = SIZE,
    simulator: str = 'mwstream',
) -> Stream:
    """Return a stream of the annotations with their durations, after three seconds of rest.

    `cameras`: camera of each episode, for wide views. `sizes_px`: projected size during each of
    the items. `side`: image side in pixels. `simulator`: see `data.concepts`.
    """
    at, annotations = 0.0, list[Annotation]()
    frames: list[np.ndarray] = []
    object_size: list[float] = []
    for i, item in enumerate([annotation('rest', TRAIN_TASKS[0]), *items]):
        length = item.end - item.start
        annotations.append(
            Annotation(**{**item.__dict__, 'start': at, 'end': round(at + length, 6)})
        )
        number = names().index(item.meaning)
        image = np.zeros((side, side, 3), np.uint8)
        image[...] = (number // 256, number % 256, 0)
        frames += [image] * round(10 * length)
        object_size += [sizes_px[i - 1] if i and sizes_px else np.nan] * round(10 * length)
        at = annotations[-1].end
    stamps = np.arange(len(frames), dtype=np.int64) * 100_000_000
    meta: dict[str, Any] = {'camera': {'name': camera}, 'simulator': simulator}
    state = {}
    if cameras:
        meta = {'cameras': list(cameras), 'views': 'wide', 'simulator': simulator}
        state = {'object_size': np.array(object_size, np.float16)}
    data = StreamData(name, np.stack(frames), stamps, tuple(annotations), meta, state)
    return read_stream(write_stream(folder, data))


def die(context: Context, item: object) -> None:
    """Kill the process that runs it."""
    os._exit(1)


def wait_or_fail(context: Context, seconds: float) -> None:
    """Wait for this time; fail at once if it is 0."""
    if not seconds:
        raise InputError('bad item')
    time.sleep(seconds)
