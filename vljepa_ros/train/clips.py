# SPDX-License-Identifier: Apache-2.0
"""Clips for training: frames, what every tubelet shows, and prompts with their answers.

Shapes: B clips, T tubelets, F frames a tubelet, S image side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Annotation, Stream, Told
from vljepa_ros.data.simulators.mwstream import questions
from vljepa_ros.data.simulators.mwstream.cover import COVERED_ABOVE, DARK_BELOW
from vljepa_ros.train.augmentation import Augmentation
from vljepa_ros.train.config import Clips

RATE_HZ = 10.0  # of streams that do not say
KINDS = {
    'act': 0.30,
    'reach': 0.14,
    'contact': 0.12,
    'done': 0.14,
    'rest': 0.14,
    'dark': 0.03,
    'covered': 0.03,
    'appear': 0.08,
    'gone': 0.08,
    'told': 1.0,  # by people, in recordings
    'asked': 0.5,
}
CHANGES = ('appear', 'gone')  # a clip of one tubelet does not show them
RAREST = 8.0  # how much more likely a rare answer is drawn, at most
TOLD = 0.8  # share of what people asked, where they asked something
UNANSWERABLE = 0.2  # share of the questions
# What needs most practice is asked most: these compare the question's words with the scene.
HARD = {
    'doing': 4.0,
    'state': 3.5,
    'present': 3.5,
    'reaching': 3.0,
    'finished': 3.0,
    'thing': 2.0,
    'colour': 1.5,
    'rest': 1.5,
    'moving': 2.5,
    'covered': 1.0,
    'light': 0.5,
}
# What the state head learns of each tubelet, and is dropped at export; nan is unknown.
PLACES = ('object_x', 'object_y', 'gripper_x', 'gripper_y')  # fractions of the frame
STATE = ('gripper', 'contact', 'opening', 'visible', *PLACES)


@dataclass
class Labels:
    """Of a clip: an annotation and a state (len(STATE),) a tubelet; a caption prompt; questions.

    `asked[q]` is a question with the indices of the tubelets for which its answer holds.
    """

    shown: list[Annotation]
    state: NDArray[np.float32]
    prompt: str
    asked: list[tuple[questions.Question, list[int]]]


@dataclass
class Clip(Labels):
    """Labels with their frames (T, F, S, S, 3) uint8."""

    frames: NDArray[np.uint8]


@dataclass
class Batch:
    """The clips of a step: frames (B, T, F, S, S, 3) uint8, and labels (B)."""

    frames: Tensor
    labels: list[Labels]


@dataclass(frozen=True)
class Place:
    """Where clips may end: in which stream, and from when to when (s)."""

    stream: int
    earliest_s: float
    latest_s: float


class ClipSampler:
    """Draws clips so that every task and phase, or what people said, is met equally often."""

    def __init__(self, streams: list[Stream], tubelet_frames: int, seed: int) -> None:
        if not streams:
            raise InputError('no whole stream to train on')
        self._streams, self._per = streams, tubelet_frames
        self._rate_hz = float(streams[0].meta.get('rate_hz', RATE_HZ))
        self._states = [states(stream) for stream in streams]
        self.rng = np.random.default_rng(seed)
        self._told = [stream.told() for stream in streams]
        self._asked: Counter[tuple[str, str]] = Counter()
        self._places: dict[str, dict[str, list[Place]]] = {}
        for number, stream in enumerate(streams):
            for item in stream.annotations:
                if item.hidden:
                    continue
                place, kind = Place(number, item.start + 0.2, item.end + 0.8), item.phase
                own = item.task or item.meaning  # what people say rarely is met as often
                self._places.setdefault(kind, {}).setdefault(own, []).append(place)
            for asked in self._told[number]:
                place = Place(number, asked.start + 0.1, asked.end + 0.1)
                self._places.setdefault('asked', {}).setdefault('', []).append(place)

    def draw(self, tubelets: int, question_count: int) -> Clip:
        """A clip whose newest part lies in a drawn annotation, with transitions before it."""
        place, length = self._place(tubelets > 1), tubelets * self._per
        stream = self._streams[place.stream]
        end_s = self.rng.uniform(place.earliest_s, place.latest_s)
        first = int(end_s * self._rate_hz) - length + int(self.rng.integers(0, self._per))
        first = int(np.clip(first, 0, stream.frame_count - length))
        frames = np.asarray(stream.frames()[first : first + length])  # mapped: as much as is read
        last = first + self._per * np.arange(1, tubelets + 1) - 1
        at = _annotations_at(stream.annotations, (last + 0.5) / self._rate_hz)
        shown = [stream.annotations[i] for i in at]
        change = Augmentation.draw(frames.shape[1], self.rng)
        changed = change.apply(frames, self.rng)
        return Clip(
            frames=changed.reshape(tubelets, self._per, *frames.shape[1:]),
            shown=shown,
            state=moved(self._states[place.stream][last], change),
            prompt=questions.pick(questions.prompts('caption'), self.rng),
            asked=self._ask(place.stream, at, last, question_count),
        )

    def batch(self, size: Clips) -> Batch:
        """As many clips as a step takes."""
        clips = [self.draw(size.tubelets, size.questions) for _ in range(size.clips)]
        labels = [Labels(clip.shown, clip.state, clip.prompt, clip.asked) for clip in clips]
        return Batch(torch.from_numpy(np.stack([clip.frames for clip in clips])), labels)

    def _place(self, changes: bool) -> Place:
        there = [kind for kind in KINDS if kind in self._places]
        kinds = there if changes else [kind for kind in there if kind not in CHANGES] or there
        weight = np.array([KINDS[kind] for kind in kinds])
        by_task = self._places[str(self.rng.choice(kinds, p=weight / weight.sum()))]
        places = by_task[questions.pick(tuple(by_task), self.rng)]
        return places[int(self.rng.integers(len(places)))]

    def _ask(
        self, number: int, at: list[int], last: NDArray[Any], count: int
    ) -> list[tuple[questions.Question, list[int]]]:
        """`count` questions with the tubelets where they hold; what people asked goes first."""
        annotations, asked = self._streams[number].annotations, []
        told = [(q, self._holding(q, last)) for q in self._told[number]]
        held = [(as_question(q), holds) for q, holds in told if holds]
        for _ in range(count):
            if held and self.rng.random() < TOLD:
                asked.append(held[int(self.rng.integers(len(held)))])
                continue
            visible = {i for i in at if not annotations[i].hidden} or set(at)
            chosen = int(self.rng.choice(sorted(visible)))
            question = self._question(annotations[chosen])
            asked.append((question, [t for t, i in enumerate(at) if i == chosen]))
        return asked

    def _holding(self, asked: Told, last: NDArray[Any]) -> list[int]:
        """The tubelets that show some of a question's time; `last` is each one's last frame."""
        begin, end = (last + 1 - self._per) / self._rate_hz, (last + 1) / self._rate_hz
        return [t for t in range(len(last)) if asked.start < end[t] and begin[t] < asked.end]

    def _question(self, item: Annotation) -> questions.Question:
        """A question about an annotation; a share of them is unanswerable."""
        pool = questions.questions(item, self.rng)
        known = [q for q in pool[1:] if q.meaning != questions.UNKNOWN]
        unknown = [q for q in pool[1:] if q.meaning == questions.UNKNOWN]
        if unknown and self.rng.random() < UNANSWERABLE:
            return unknown[int(self.rng.integers(len(unknown)))]
        if not known:
            return pool[0]  # nothing but the caption can be asked
        weight = np.array([HARD.get(q.topic, 1.0) * self._rarity(q) for q in known])
        question = known[int(self.rng.choice(len(known), p=weight / weight.sum()))]
        self._asked[question.topic, question.meaning] += 1
        return question

    def _rarity(self, question: questions.Question) -> float:
        """How much rarer an answer is than the other one of its topic, so far, in what was asked.

        Most scenes have more to deny than to affirm: unbalanced, a model learns to say no.
        """
        if question.kind != 'yes/no':
            return 1.0
        own = self._asked[question.topic, question.meaning]
        both = sum(self._asked[question.topic, said] for said in questions.YES_NO)
        return min((both + 20) / (2 * own + 20), RAREST)


def as_question(told: Told) -> questions.Question:
    """A question that somebody wrote."""
    meaning = questions.answer_meaning(told.answer)
    return questions.Question(told.prompt, told.answer, meaning, 'told', told.candidates)


def states(stream: Stream) -> NDArray[np.float32]:
    """(T, len(STATE)) what `STATE` names at every frame; nan where it is unknown or unseen."""
    told, unknown = stream.state(), np.full(stream.frame_count, np.nan)
    found = {name: told.get(name, unknown) for name in STATE}
    if 'light' in told and 'cover' in told:
        found['visible'] = (told['light'] > DARK_BELOW) & (told['cover'] < COVERED_ABOVE)
        for name in PLACES:
            found[name] = np.where(found['visible'], found[name], np.nan)
    return np.stack([found[name].astype(np.float32) for name in STATE], axis=1)


def moved(state: NDArray[np.float32], change: Augmentation) -> NDArray[np.float32]:
    """Rows of `states` for frames that were changed: things are at other places."""
    found = state.copy()
    for x in range(STATE.index(PLACES[0]), len(STATE), 2):
        found[:, x : x + 2] = change.place(state[:, x : x + 2])
    return found


def _annotations_at(annotations: tuple[Annotation, ...], times: NDArray[Any]) -> list[int]:
    starts = np.array([item.start for item in annotations])
    found = np.searchsorted(starts, times, side='right') - 1
    return [int(i) for i in found]
