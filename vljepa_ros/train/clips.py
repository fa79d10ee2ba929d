# SPDX-License-Identifier: Apache-2.0
"""Clips for training: frames, what every tubelet shows, and prompts with their answers.

Shapes: B clips, T tubelets, F frames a tubelet, S image side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.mwstream import questions
from vljepa_ros.errors import InputError

SHIFT_PX = 5  # random shift of a clip's pictures
KINDS = {'act': 0.5, 'reach': 0.17, 'done': 0.15, 'rest': 0.08, 'dark': 0.1}
# What needs most practice is asked most: these compare the question's words with the scene.
HARD = {'doing': 4.0, 'reaching': 4.0, 'rest': 2.0, 'moving': 2.0}


@dataclass
class Clip:
    """frames (T, F, S, S, 3) uint8; one annotation a tubelet; a caption prompt; questions.

    `asked[q]` is a question with the indices of the tubelets for which its answer holds.
    """

    frames: NDArray[np.uint8]
    shown: list[Annotation]
    prompt: str
    asked: list[tuple[questions.Question, list[int]]]


class ClipSampler:
    """Draws clips so that every task and phase is met equally often."""

    def __init__(self, streams: list[Stream], tubelet_frames: int, seed: int) -> None:
        if not streams:
            raise InputError('no whole stream to train on')
        self._streams, self._per = streams, tubelet_frames
        # In memory: clips are drawn at random, and a disk would be read for each of them.
        self._frames = [np.array(stream.frames()) for stream in streams]
        self.rng = np.random.default_rng(seed)
        self._places: dict[str, dict[str, list[tuple[int, int]]]] = {}
        for s, stream in enumerate(streams):
            for a, item in enumerate(stream.annotations):
                by_task = self._places.setdefault(item.phase, {})
                by_task.setdefault(item.task, []).append((s, a))

    def draw(self, tubelets: int, question_count: int) -> Clip:
        """A clip whose newest part lies in a drawn annotation, with transitions before it."""
        kinds = [kind for kind in KINDS if kind in self._places]
        weight = np.array([KINDS[kind] for kind in kinds])
        by_task = self._places[str(self.rng.choice(kinds, p=weight / weight.sum()))]
        places = by_task[str(self.rng.choice(list(by_task)))]
        number, chosen = places[int(self.rng.integers(len(places)))]
        stream, item = self._streams[number], self._streams[number].annotations[chosen]
        length = tubelets * self._per
        end_s = self.rng.uniform(item.start + 0.2, item.end + 0.8)
        first = int(end_s * 10) - length + int(self.rng.integers(0, self._per))
        first = int(np.clip(first, 0, stream.frame_count - length))
        frames = np.asarray(self._frames[number][first : first + length])
        newest = (first + self._per * np.arange(1, tubelets + 1) - 0.5) / 10.0
        at = _annotations_at(stream.annotations, newest)
        asked = self._ask(stream.annotations, at, question_count)
        caption = questions.caption(item, self.rng, 'train')
        return Clip(
            augment(frames, self.rng).reshape(tubelets, self._per, *frames.shape[1:]),
            [stream.annotations[i] for i in at],
            caption.prompt,
            asked,
        )

    def _ask(
        self, annotations: tuple[Annotation, ...], at: list[int], count: int
    ) -> list[tuple[questions.Question, list[int]]]:
        asked = []
        for _ in range(count):
            chosen = int(self.rng.choice(sorted(set(at))))
            pool = questions.questions(annotations[chosen], self.rng)[1:]
            weight = np.array([HARD.get(question.topic, 1.0) for question in pool])
            question = pool[int(self.rng.choice(len(pool), p=weight / weight.sum()))]
            asked.append((question, [t for t, i in enumerate(at) if i == chosen]))
        return asked


def _annotations_at(annotations: tuple[Annotation, ...], times: NDArray[Any]) -> list[int]:
    starts = np.array([item.start for item in annotations])
    found = np.searchsorted(starts, times, side='right') - 1
    return [int(i) for i in found]


def augment(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One random shift, zoom, gain, contrast and tint for all frames (L, S, S, 3) of a clip."""
    size = frames.shape[1]
    zoom = rng.uniform(0.94, 1.08)
    shift = rng.uniform(-SHIFT_PX, SHIFT_PX, 2) + (1 - zoom) * size / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)
    grey = np.arange(256, dtype=np.float32)
    contrast, gain = rng.uniform(0.8, 1.2), rng.uniform(0.85, 1.15)
    tint = rng.uniform(0.94, 1.06, 3) * gain
    curve = np.clip((grey - 100) * contrast + 100, 0, 255)
    table = np.clip(curve[:, None] * tint[None], 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    table[0, :8] = np.arange(8, dtype=np.uint8)[:, None]  # black stays black: it is dark
    moved = [
        cv2.LUT(
            cv2.warpAffine(frame, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE), table
        )
        for frame in frames
    ]
    return np.stack(moved)
