# SPDX-License-Identifier: Apache-2.0
"""Streams whose pictures say what is true, eyes that read it, and a language of meaning ids.

A picture's first two channels are the number of its annotation's meaning. The eyes predict the
meaning's vector, or another's where a test says that they mistake it; a text's vector is that of
its meaning, whatever its wording. The blind predict no meaning's vector.
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
    """All meanings; a meaning's number is its place."""
    return meanings(tuple(TASKS))


@cache
def known() -> dict[str, str]:
    """Text -> meaning id, of captions and of answers."""
    found = {text: m for m in answer_meanings() for text in answer_wordings(m)}
    for which in LISTS:
        found |= sentence_index(which)
    return found


@cache
def direction(name: str) -> np.ndarray:
    """A unit vector that depends on the name only."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'little')
    vector = np.random.default_rng(seed).normal(size=DIM)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


class ToyVision:
    """Read the newest picture; `mistake` says what they take a meaning for."""

    facts = FACTS

    def __init__(self, mistake: Callable[[str], str] = str, answer: str = '') -> None:
        self.mistake, self.answer, self.looks = mistake, answer, 0

    def new_state(self) -> list[Any]:
        """Nothing seen."""
        self.looks += 1
        return []

    def step(self, state: list[Any], images: Sequence[Any]) -> None:
        """See."""
        state += list(images)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """All are fine."""

    def predict(self, state: list[Any], prompts: Sequence[str]) -> Any:
        """The meaning's vector, or `answer`'s if there is one, whatever the prompt."""
        high, low, check = (int(value) for value in state[-1][0, 0])
        readable = check == 0 and 256 * high + low < len(names())
        name = self.mistake(names()[256 * high + low]) if readable else 'blind'
        return np.stack([direction(self.answer or name)] * len(prompts))

    def unfamiliar(self, state: list[Any]) -> float:
        """No scene is."""
        return 0.0


class ToyLanguage:
    """Texts are their meanings."""

    facts = FACTS

    def check(self, text: str) -> None:
        """All are fine."""

    def encode(self, texts: Sequence[str]) -> Any:
        """(N, D)."""
        return np.stack([direction(known().get(text, text)) for text in texts])

    def decode(self, vectors: Any, asked: bool = False) -> list[Decoded]:
        """The first wording of the nearest meaning."""
        table = np.stack([direction(name) for name in names()])
        best = np.argmax(vectors @ table.T, axis=1)
        return [Decoded(sentences(names()[i])[0], 1.0, ()) for i in best]

    def rank(self, vector: Any, candidates: Sequence[str]) -> list[Candidate]:
        """By cosine."""
        cosine = self.encode(candidates) @ vector
        return [Candidate(candidates[i], float(cosine[i])) for i in np.argsort(-cosine)]

    def unreadable(self, text: str) -> float:
        """No text is."""
        return 0.0

    def cannot_tell(self, vector: Any, candidates: Sequence[str], said: str) -> bool:
        """It always can."""
        return False

    def similarity(self, vectors: Any, text: str) -> Any:
        """Cosine."""
        return vectors @ self.encode([text])[0]


def model(vision: ToyVision | None = None) -> Model:
    """A toy of both halves."""
    return Model(FACTS, vision or ToyVision(), ToyLanguage())


def context(
    streams: Sequence[Stream], vision: ToyVision | None = None, unseen: Sequence[Stream] = ()
) -> Context:
    """A toy on some streams."""
    return Context(model(vision), streams, unseen=unseen)


def annotation(phase: str, task: str = 'push', colour: str = 'red', **more: Any) -> Annotation:
    """An annotation that lies nowhere yet."""
    what = TASKS[task].object
    meaning = more.pop('meaning', None) or meaning_of(task, phase, colour)
    return Annotation(0, LENGTH_S, meaning, phase, task, what, colour, **more)


def film(
    folder: Path,
    name: str,
    items: Sequence[Annotation],
    camera: str = 'corner',
    cameras: Sequence[dict[str, Any]] = (),
    sizes_px: Sequence[float] = (),
    side: int = SIZE,
) -> Stream:
    """A stream of the annotations, each as long as it says, after three seconds of rest.

    `cameras`: of each episode, for the wide views. `sizes_px`: the projected size during each of
    the items. `side`: of the pictures.
    """
    at, said = 0.0, list[Annotation]()
    frames: list[np.ndarray] = []
    object_size: list[float] = []
    for i, item in enumerate([annotation('rest', TRAIN_TASKS[0]), *items]):
        length = item.end - item.start
        said.append(Annotation(**{**item.__dict__, 'start': at, 'end': round(at + length, 6)}))
        number = names().index(item.meaning)
        picture = np.zeros((side, side, 3), np.uint8)
        picture[...] = (number // 256, number % 256, 0)
        frames += [picture] * round(10 * length)
        object_size += [sizes_px[i - 1] if i and sizes_px else np.nan] * round(10 * length)
        at = said[-1].end
    stamps = np.arange(len(frames), dtype=np.int64) * 100_000_000
    meta: dict[str, Any] = {'camera': {'name': camera}}
    state = {}
    if cameras:
        meta = {'cameras': list(cameras), 'views': 'wide'}
        state = {'object_size': np.array(object_size, np.float16)}
    data = StreamData(name, np.stack(frames), stamps, tuple(said), meta, state)
    return read_stream(write_stream(folder, data))


def die(context: Context, item: object) -> None:
    """What kills a process that it runs in."""
    os._exit(1)


def wait_or_fail(context: Context, seconds: float) -> None:
    """Takes so long, and fails at once where that is no time."""
    if not seconds:
        raise InputError('bad item')
    time.sleep(seconds)
