# SPDX-License-Identifier: Apache-2.0
"""Clips for training: frames, what every tubelet shows, and prompts with their answers.

Shapes: B clips, T tubelets, F frames a tubelet, S image side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.data.format import Annotation, Stream, Told
from vljepa_ros.data.mwstream import questions
from vljepa_ros.data.mwstream.cover import COVERED_ABOVE, DARK_BELOW
from vljepa_ros.errors import InputError
from vljepa_ros.train.config import Clips

RATE_HZ = 10.0  # of streams that do not say
SHIFT, TURN_DEG = 0.07, 9.0  # random shift (share of the size) and turn of a clip, at most
ZOOM = (0.78, 1.3)
STRETCHED, LETTERBOXED = 0.25, 0.12  # shares of the clips
DAMAGED = 0.3  # share of the clips that a poor camera took
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
STATE = ('gripper', 'contact', 'opening', 'visible')


@dataclass
class Labels:
    """Of a clip: an annotation and a state (4,) a tubelet; a caption prompt; questions.

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
        return Clip(
            frames=augment(frames, self.rng).reshape(tubelets, self._per, *frames.shape[1:]),
            shown=shown,
            state=self._states[place.stream][last],
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
    """(T, 4) what `STATE` names at every frame; nan where the stream does not say."""
    told, unknown = stream.state(), np.full(stream.frame_count, np.nan)
    found = {name: told.get(name, unknown) for name in STATE}
    if 'light' in told and 'cover' in told:
        found['visible'] = (told['light'] > DARK_BELOW) & (told['cover'] < COVERED_ABOVE)
    return np.stack([found[name].astype(np.float32) for name in STATE], axis=1)


def _annotations_at(annotations: tuple[Annotation, ...], times: NDArray[Any]) -> list[int]:
    starts = np.array([item.start for item in annotations])
    found = np.searchsorted(starts, times, side='right') - 1
    return [int(i) for i in found]


def augment(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Vary how a clip's frames (L, S, S, 3) were filmed, the same way in all of them.

    One random shift, turn, zoom, stretch, letterbox, gain, contrast and tint; then, for some, the
    damage of a poor camera.
    """
    size = frames.shape[1]
    matrix, table, bars = _warp(size, rng), _curve(rng), _letterbox(size, rng)
    moved = [
        cv2.LUT(
            cv2.warpAffine(frame, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE), table
        )
        for frame in frames
    ]
    for frame in moved:
        frame[bars] = 0
    if rng.random() < DAMAGED:
        moved = damaged(moved, rng)
    return np.stack(moved)


def _warp(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) of a shift, turn, zoom and stretch around the middle."""
    angle = np.radians(rng.uniform(-TURN_DEG, TURN_DEG))
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    stretch = np.ones(2)
    if rng.random() < STRETCHED:  # wide pictures squeezed into squares, and a few upright ones
        stretch[int(rng.random() < 0.8)] = rng.uniform(1.0, 1.8)
    c, s = np.cos(angle), np.sin(angle)
    linear = zoom * np.diag(stretch) @ np.array([[c, s], [-s, c]])
    middle = np.full(2, (size - 1) / 2)
    shift = middle - linear @ middle + rng.uniform(-SHIFT, SHIFT, 2) * size
    return np.column_stack([linear, shift])


def _curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """(1, 256, 3) of a gain, contrast and tint."""
    gray = np.arange(256, dtype=np.float32)
    contrast, gain = rng.uniform(0.8, 1.2), rng.uniform(0.85, 1.15)
    tint = rng.uniform(0.94, 1.06, 3) * gain
    curve = np.clip((gray - 100) * contrast + 100, 0, 255)
    table = np.clip(curve[:, None] * tint[None], 0, 255).astype(np.uint8)[None]
    table[0, :8] = np.arange(8, dtype=np.uint8)[:, None]  # black stays black: it is dark
    return table


def _letterbox(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(S, S) where black bars are; for most clips nowhere."""
    mask = np.zeros((size, size), bool)
    if rng.random() < LETTERBOXED:
        bar = round(size * rng.uniform(0.04, 0.22))
        mask[:bar] = mask[size - bar :] = True
        if rng.random() < 0.2:
            mask = mask.T
    return mask


def _resized(frame: Any, size: int) -> Any:
    how = cv2.INTER_AREA if size < frame.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(frame, (size, size), interpolation=how)


def damaged(frames: list[Any], rng: np.random.Generator) -> list[Any]:
    """What poor cameras and links do to pictures (S, S, 3): blur, coarseness, JPEG, grain."""
    size = frames[0].shape[0]
    how = int(rng.integers(4))
    if how == 0:
        sigma = float(rng.uniform(0.4, 1.3))
        return [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]
    if how == 1:
        small = int(size * rng.uniform(0.2, 0.9))
        return [_resized(_resized(f, small), size) for f in frames]
    if how == 2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 70))]
        small = int(size * rng.uniform(0.45, 1.0))
        less = [_resized(f, small) for f in frames]
        coded = [cv2.imdecode(cv2.imencode('.jpg', f, quality)[1], 1) for f in less]
        return [_resized(f, size) for f in coded]
    strength = float(rng.uniform(3.0, 14.0))
    grain = rng.normal(0.0, strength, (len(frames), *frames[0].shape))
    dark = np.array([f.mean() < 8 for f in frames])  # black stays black
    return [
        f if d else np.clip(f + g + 0.5, 0, 255).astype(np.uint8)
        for f, g, d in zip(frames, grain, dark, strict=True)
    ]
