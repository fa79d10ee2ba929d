# SPDX-License-Identifier: Apache-2.0
"""Sampling of training clips: frames, labels of every tubelet, and prompts with their answers.

Shapes: B clips, T tubelets, F frames per tubelet, S image side in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import WHOLE
from vljepa_ros.data import concepts, questions
from vljepa_ros.data.format import AnnotatedQuestion, Annotation, Stream
from vljepa_ros.data.lens import is_visible
from vljepa_ros.data.questions import LabeledQuestion
from vljepa_ros.data.workspace import workspaces
from vljepa_ros.model.streaming.region_finder import within
from vljepa_ros.train.augmentation import Augmentation, inaccurate
from vljepa_ros.train.config import Clips

RATE_HZ = 10.0  # frame rate of streams without rate_hz
KINDS = {  # sampling weights of the phases that a clip may end in
    'act': 0.30,
    'reach': 0.14,
    'contact': 0.12,
    'done': 0.14,
    'rest': 0.14,
    'dark': 0.03,
    'covered': 0.03,
    'appear': 0.08,
    'gone': 0.08,
    'told': 1.0,  # annotated texts of recordings
    'question': 0.5,  # annotated questions
}
CHANGES = ('appear', 'gone')  # phases that are not visible in a clip of one tubelet
RAREST = 8.0  # upper limit of the oversampling of rare answers
ANNOTATED = 0.8  # fraction of questions that are annotated ones, if the clip has any
UNANSWERABLE = 0.2  # fraction of unanswerable questions
# Sampling weights of questions by topic. Questions that must be compared with the scene are
# difficult and are drawn more often.
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
# Targets of the state probe (see `VisionStage`) for each tubelet; NaN is unknown.
PLACES = ('object_x', 'object_y', 'gripper_x', 'gripper_y')  # in fractions of the frame
STATE = ('gripper', 'contact', 'opening', 'visible', *PLACES)


@dataclass
class Labels:
    """Labels of a clip: annotations and simulator state of its tubelets, and prompts.

    `annotations`: one per tubelet (T). `state`: (T, len(STATE)), NaN where unknown. `prompt`:
    prompt for the caption. `questions`: questions, each with the indices of the tubelets at which
    its answer is true.
    """

    annotations: list[Annotation]
    state: NDArray[np.float32]
    prompt: str
    questions: list[tuple[LabeledQuestion, list[int]]]


@dataclass
class Clip(Labels):
    """A training clip: frames (T, F, S, S, 3) uint8 and their labels."""

    frames: NDArray[np.uint8]


@dataclass
class Batch:
    """Clips of a training step: frames (B, T, F, S, S, 3) uint8, and the labels of each clip."""

    frames: Tensor
    labels: list[Labels]


@dataclass(frozen=True)
class Crops:
    """Settings for cropping frames to the workspace, with errors like a region finder's.

    `image_size`: side of the cropped image in pixels. `smallest`: minimum side of a crop, as a
    fraction of the frame.
    """

    image_size: int
    smallest: float


@dataclass(frozen=True)
class Place:
    """Range of times at which a clip may end, in seconds from the start of its stream.

    `stream`: index of the stream.
    """

    stream: int
    earliest_s: float
    latest_s: float


class ClipSampler:
    """Draws random training clips from streams.

    The phase at the end of a clip is drawn with the weights in `KINDS`. Within a phase, all tasks
    or annotated texts are equally frequent.
    """

    def __init__(
        self,
        streams: list[Stream],
        tubelet_frames: int,
        seed: int,
        crops: Crops | None = None,
    ) -> None:
        """Create a sampler.

        Args:
            streams: Streams to draw from.
            tubelet_frames: Frames per tubelet.
            seed: Seed of the random generator.
            crops: Settings for cropping to the workspace; None: frames are not cropped.

        Raises:
            InputError: There are no streams.
        """
        if not streams:
            raise InputError('cannot draw clips: there is no complete stream to train on')
        self._crops = crops
        self._regions = [_regions(stream, crops) for stream in streams]
        self._streams, self._per = streams, tubelet_frames
        self._rate_hz = float(streams[0].meta.get('rate_hz', RATE_HZ))
        self._states = [states(stream) for stream in streams]
        self.rng = np.random.default_rng(seed)
        self._concepts = concepts.of(streams)
        self._annotated = [stream.questions() for stream in streams]
        self._counts: Counter[tuple[str, str]] = Counter()
        self._places: dict[str, dict[str, list[Place]]] = {}
        for number, stream in enumerate(streams):
            for item in stream.annotations:
                if item.hidden:
                    continue
                place, kind = Place(number, item.start + 0.2, item.end + 0.8), item.phase
                own = item.task or item.meaning  # rare texts are drawn as often as frequent ones
                self._places.setdefault(kind, {}).setdefault(own, []).append(place)
            for question in self._annotated[number]:
                place = Place(number, question.start + 0.1, question.end + 0.1)
                self._places.setdefault('question', {}).setdefault('', []).append(place)

    def draw(self, tubelets: int, question_count: int) -> Clip:
        """Draw an augmented clip that ends during, or just after, a random annotation.

        Args:
            tubelets: Length of the clip in tubelets.
            question_count: Number of questions to draw.
        """
        place, length = self._place(tubelets > 1), tubelets * self._per
        stream = self._streams[place.stream]
        end_s = self.rng.uniform(place.earliest_s, place.latest_s)
        first = int(end_s * self._rate_hz) - length + int(self.rng.integers(0, self._per))
        first = int(np.clip(first, 0, stream.frame_count - length))
        first = _without_cut(stream.meta.get('shots', [0]), first, length, stream.frame_count)
        frames = np.asarray(stream.frames()[first : first + length])  # reads only these frames
        last = first + self._per * np.arange(1, tubelets + 1) - 1
        at = _annotations_at(stream.annotations, (last + 0.5) / self._rate_hz)
        annotations = [stream.annotations[i] for i in at]
        size = self._crops.image_size if self._crops else frames.shape[1]
        augmentation = Augmentation.draw(size, self.rng)
        regions = self._regions[place.stream][first : first + length]
        if self._crops:
            regions = inaccurate(regions, self._per, self._crops.smallest, self.rng)
        augmented = augmentation.apply(frames, regions, self.rng)
        return Clip(
            frames=augmented.reshape(tubelets, self._per, *augmented.shape[1:]),
            annotations=annotations,
            state=moved(self._states[place.stream][last], augmentation, regions[last - first]),
            prompt=questions.pick(questions.prompts('caption'), self.rng),
            questions=self._draw_questions(place.stream, at, last, question_count),
        )

    def batch(self, size: Clips) -> Batch:
        """Draw a batch of `size.clips` clips."""
        clips = [self.draw(size.tubelets, size.questions) for _ in range(size.clips)]
        labels = [
            Labels(clip.annotations, clip.state, clip.prompt, clip.questions) for clip in clips
        ]
        return Batch(torch.from_numpy(np.stack([clip.frames for clip in clips])), labels)

    def _place(self, changes: bool) -> Place:
        present = [kind for kind in KINDS if kind in self._places]
        kinds = present
        if not changes:
            kinds = [kind for kind in present if kind not in CHANGES] or present
        weight = np.array([KINDS[kind] for kind in kinds])
        by_task = self._places[str(self.rng.choice(kinds, p=weight / weight.sum()))]
        places = by_task[questions.pick(tuple(by_task), self.rng)]
        return places[int(self.rng.integers(len(places)))]

    def _draw_questions(
        self, number: int, at: list[int], last: NDArray[Any], count: int
    ) -> list[tuple[LabeledQuestion, list[int]]]:
        """Draw `count` questions with the tubelets at which their answers are true.

        Args:
            number: Index of the stream.
            at: Index of the annotation of each tubelet.
            last: Index of the last frame of each tubelet.
            count: Number of questions; annotated questions are preferred.
        """
        annotations, found = self._streams[number].annotations, []
        spans = [(q, self._holding(q, last)) for q in self._annotated[number]]
        valid = [(questions.as_question(q), holds) for q, holds in spans if holds]
        for _ in range(count):
            if valid and self.rng.random() < ANNOTATED:
                found.append(valid[int(self.rng.integers(len(valid)))])
                continue
            visible = {i for i in at if not annotations[i].hidden} or set(at)
            chosen = int(self.rng.choice(sorted(visible)))
            question = self._question(annotations[chosen])
            found.append((question, [t for t, i in enumerate(at) if i == chosen]))
        return found

    def _holding(self, question: AnnotatedQuestion, last: NDArray[Any]) -> list[int]:
        """Return the indices of the tubelets that overlap the time span of an annotated question.

        `last` holds the index of the last frame of each tubelet.
        """
        begin, end = (last + 1 - self._per) / self._rate_hz, (last + 1) / self._rate_hz
        return [t for t in range(len(last)) if question.start < end[t] and begin[t] < question.end]

    def _question(self, item: Annotation) -> LabeledQuestion:
        """Draw a question about an annotation, unanswerable with probability `UNANSWERABLE`."""
        pool = self._concepts.questions(item, self.rng)
        known = [q for q in pool[1:] if q.meaning != questions.UNKNOWN]
        unknown = [q for q in pool[1:] if q.meaning == questions.UNKNOWN]
        if unknown and self.rng.random() < UNANSWERABLE:
            return unknown[int(self.rng.integers(len(unknown)))]
        if not known:
            return pool[0]  # the caption is the only possible prompt
        weight = np.array([HARD.get(q.topic, 1.0) * self._rarity(q) for q in known])
        question = known[int(self.rng.choice(len(known), p=weight / weight.sum()))]
        self._counts[question.topic, question.meaning] += 1
        return question

    def _rarity(self, question: LabeledQuestion) -> float:
        """Return a sampling weight that balances the answers yes and no within a topic.

        It depends on the questions drawn so far. Most scenes allow more questions with the answer
        no, so the model would be biased towards no without these weights.
        """
        if question.kind != 'yes/no':
            return 1.0
        own = self._counts[question.topic, question.meaning]
        both = sum(self._counts[question.topic, answer] for answer in questions.YES_NO)
        return min((both + 20) / (2 * own + 20), RAREST)


def states(stream: Stream) -> NDArray[np.float32]:
    """Return the simulator state of every frame, (frames, len(STATE)) float32.

    Unknown values, and positions in frames that are dark or covered, are NaN.
    """
    stored, unknown = stream.state(), np.full(stream.frame_count, np.nan)
    found = {name: stored.get(name, unknown) for name in STATE}
    if 'light' in stored and 'cover' in stored:
        found['visible'] = is_visible(stored['light'], stored['cover'])
        for name in PLACES:
            found[name] = np.where(found['visible'], found[name], np.nan)
    return np.stack([found[name].astype(np.float32) for name in STATE], axis=1)


def _without_cut(shots: Sequence[int], first: int, length: int, frames: int) -> int:
    """Shift a clip so that it contains no cut, and return the index of its first frame.

    All frames are then in the shot of the clip's last frame. The clip is not shifted if this shot
    is shorter than the clip.

    Args:
        shots: Index of the first frame of each shot.
        first: Index of the first frame of the clip.
        length: Number of frames of the clip.
        frames: Number of frames of the stream.
    """
    shot = int(np.searchsorted(shots, first + length - 1, side='right')) - 1
    end = shots[shot + 1] if shot + 1 < len(shots) else frames
    begin = shots[shot]
    return min(max(first, begin), end - length) if end - begin >= length else first


def _regions(stream: Stream, crops: Crops | None) -> NDArray[np.float64]:
    """Return the crop region of every frame of a stream, (frames, 4).

    A region is (x, y, width, height) in fractions of the frame. It is the whole frame if `crops`
    is None or if the state of the stream does not contain the workspace.
    """
    found = workspaces(stream.state()) if crops else None
    if found is None or crops is None:
        return np.tile(np.array(WHOLE), (stream.frame_count, 1))
    return within(found[:, :2], found[:, 2:], crops.smallest)


def moved(
    state: NDArray[np.float32], change: Augmentation, regions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Map the positions in simulator states to the cropped and augmented frames.

    Args:
        state: States (frames, len(STATE)) with positions in fractions of the original frames.
        change: Augmentation of the frames.
        regions: Crop region of each frame (frames, 4).

    Returns:
        The new states; positions outside of the augmented frames are NaN.
    """
    found = state.copy()
    for x in range(STATE.index(PLACES[0]), len(STATE), 2):
        found[:, x : x + 2] = change.place(state[:, x : x + 2], regions)
    return found


def _annotations_at(annotations: tuple[Annotation, ...], times: NDArray[Any]) -> list[int]:
    starts = np.array([item.start for item in annotations])
    found = np.searchsorted(starts, times, side='right') - 1
    return [int(i) for i in found]
