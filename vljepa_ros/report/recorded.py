# SPDX-License-Identifier: Apache-2.0
"""What a model sees in a recording, reduced to what a page can show.

The size of the result is bounded: at most `MAX_POINTS` points per curve and `MAX_THUMBNAILS`
thumbnails of at most `MAX_BYTES` together. Times are seconds from the start of the recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.protocols import Model, check_readable
from vljepa_ros.core.settings import Settings
from vljepa_ros.core.types import WITHHELD, Embedding, Event, Frame, Image, State, StreamKey
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.query.question import Question
from vljepa_ros.sources import Damaged, Source

SECOND_NS = 1_000_000_000
MAX_POINTS = 2000  # of a curve
MAX_THUMBNAILS = 1200  # of all cameras together
MAX_BYTES = 14_000_000  # of the thumbnails of all cameras together
THUMBNAIL = 240  # longer side in pixels
QUALITY = 60  # of the JPEG thumbnails
YES_NO = ('yes', 'no')

Curve = list[tuple[float, float]]  # time and value


@dataclass(frozen=True)
class LaneSegment:
    """Ended segment with its final text; `text` is '' if it is withheld."""

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass
class Lane:
    """One stream of embeddings: a camera, a standing prompt and a model.

    `change`: cosine distance between consecutive embeddings. `scores`: score of each watched
    statement. `answers`: probability of "yes" for each question. `decodes`: number of decoded
    texts.
    """

    camera: str
    prompt: str
    model_id: str
    segments: list[LaneSegment] = field(default_factory=list)
    change: Curve = field(default_factory=list)
    scores: dict[str, Curve] = field(default_factory=dict)
    answers: dict[str, Curve] = field(default_factory=dict)
    decodes: int = 0


@dataclass
class Reported:
    """Lanes of a recording, and thumbnails (time, JPEG) by camera; `length_s` is its length."""

    name: str
    start_ns: int
    length_s: float = 0.0
    lanes: list[Lane] = field(default_factory=list)
    thumbnails: dict[str, list[tuple[float, bytes]]] = field(default_factory=dict)


class _LaneVectors:
    """Embeddings of a lane: times, vectors, and which hops are unfamiliar."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.is_unfamiliar: list[bool] = []

    def add(self, embedding: Embedding, start_ns: int) -> None:
        self.times_s.append((embedding.stamp_ns - start_ns) / SECOND_NS)
        self.vectors.append(embedding.vector.astype(np.float16))
        self.is_unfamiliar.append(embedding.unfamiliar >= WITHHELD)

    def matrix(self) -> NDArray[np.float32]:
        """Return the vectors (N, D)."""
        return np.stack(self.vectors).astype(np.float32)


def recorded(
    model: Model,
    source: Source,
    settings: Settings | None = None,
    watches: Sequence[str] = (),
    questions: Sequence[str] = (),
    items: Iterable[Frame | Damaged] | None = None,
) -> Reported:
    """Process a recording once.

    Args:
        model: Model with both sides.
        source: The recording.
        settings: Settings of the pipeline. A question becomes one more standing prompt.
        watches: Statements whose scores are shown over time.
        questions: Yes/no questions whose answers are shown over time.
        items: Frames of the recording, for example with a progress bar; by default the source's.

    Raises:
        InputError: A statement or question is invalid, or the model cannot read it.
    """
    assert model.language is not None
    for text in watches:
        check_readable(model.language, text, 'watch')
    for text in questions:
        Question(text, YES_NO).check()
        check_readable(model.language, text, 'question')
    settings = settings or Settings()
    prompts = settings.perception.prompts
    pipeline = Pipeline(model, settings)
    pipeline.set_prompts(tuple(dict.fromkeys((*prompts, *questions))))
    found = Reported(source.name, source.start_ns)
    streams: dict[StreamKey, _LaneVectors] = {}
    events: list[Event] = []
    pictures = _Thumbnails(source)
    for item in source.items() if items is None else items:
        if isinstance(item, Damaged):
            pipeline.skip(item.source, item.stamp_ns)
            continue
        pictures.add(item)
        events += pipeline.push(item)
        for embedding in pipeline.last_embeddings:
            streams.setdefault(embedding.key, _LaneVectors()).add(embedding, source.start_ns)
            end_s = (embedding.stamp_ns - source.start_ns) / SECOND_NS
            found.length_s = max(found.length_s, end_s)
    events += pipeline.finish()
    found.thumbnails = pictures.found
    for camera in source.cameras:
        for prompt in prompts:
            key = StreamKey(camera, prompt, model.facts.model_id)
            lane = _lane(key, streams.get(key), events, source.start_ns)
            if key in streams:
                _score(lane, streams[key], model, watches)
            for question in questions:
                asked = streams.get(StreamKey(camera, question, key.model_id))
                if asked is not None:
                    lane.answers[question] = _answers(asked, model)
            found.lanes.append(lane)
    return found


def _lane(
    key: StreamKey, stream: _LaneVectors | None, events: Sequence[Event], start_ns: int
) -> Lane:
    lane = Lane(key.source, key.prompt, key.model_id)
    own = [event for event in events if event.key == key]
    lane.segments = [
        LaneSegment(
            (event.start_ns - start_ns) / SECOND_NS,
            (event.end_ns - start_ns) / SECOND_NS,
            event.text,
            float(event.confidence),
        )
        for event in own
        if event.state is State.ENDED
    ]
    lane.decodes = sum(event.state is not State.ENDED for event in own)
    if stream is not None and len(stream.vectors) > 1:
        vectors = stream.matrix()
        distance = 1.0 - np.sum(vectors[1:] * vectors[:-1], axis=1)
        lane.change = reduced(stream.times_s[1:], np.maximum(distance, 0.0))
    return lane


def _score(lane: Lane, stream: _LaneVectors, model: Model, watches: Sequence[str]) -> None:
    assert model.language is not None
    vectors = stream.matrix()
    for text in watches:
        scores = model.language.similarity(vectors, text)
        scores = np.where(stream.is_unfamiliar, 0.0, scores)
        lane.scores[text] = reduced(stream.times_s, scores)


def _answers(stream: _LaneVectors, model: Model) -> Curve:
    """Return the probability of "yes" over time; 0.5 while the answer is an abstention."""
    assert model.language is not None
    values = []
    for vector, unfamiliar in zip(stream.matrix(), stream.is_unfamiliar, strict=True):
        if unfamiliar or model.language.is_unanswerable(vector, YES_NO, 'yes'):
            values.append(0.5)
            continue
        scores = {c.text: c.score for c in model.language.rank(vector, YES_NO)}
        values.append(scores['yes'] / max(scores['yes'] + scores['no'], 1e-9))
    return reduced(stream.times_s, np.array(values))


def reduced(times_s: Sequence[float], values: NDArray[np.floating]) -> Curve:
    """Return a curve of at most `MAX_POINTS` points: each is the maximum of its time span.

    Args:
        times_s: Times (N,).
        values: Values (N,).
    """
    step = max(1, math.ceil(len(times_s) / MAX_POINTS))
    return [
        (round(times_s[i + int(np.argmax(values[i : i + step]))], 2), round(float(peak), 3))
        for i in range(0, len(times_s), step)
        for peak in [values[i : i + step].max()]
    ]


class _Thumbnails:
    """JPEG thumbnails at equal distances; every second one is dropped when there are too many."""

    def __init__(self, source: Source) -> None:
        cameras = max(1, len(source.cameras))
        self._most, self._most_bytes = max(2, MAX_THUMBNAILS // cameras), MAX_BYTES // cameras
        self._start_ns = source.start_ns
        self._every_s = dict.fromkeys(source.cameras, 0.5)
        self.found: dict[str, list[tuple[float, bytes]]] = {c: [] for c in source.cameras}

    def add(self, frame: Frame) -> None:
        """Add a frame, if it is due."""
        found, at_s = self.found[frame.source], (frame.stamp_ns - self._start_ns) / SECOND_NS
        if found and at_s - found[-1][0] < self._every_s[frame.source] - 1e-6:
            return
        found.append((round(at_s, 2), jpeg(frame.image)))
        size = sum(len(picture) for _, picture in found)
        if len(found) > self._most or (size > self._most_bytes and len(found) > 2):
            del found[1::2]
            # The camera may be slower than the distance was.
            self._every_s[frame.source] = (found[-1][0] - found[0][0]) / (len(found) - 1)


def jpeg(image: Image) -> bytes:
    """Return a thumbnail (H, W, 3) of an image as JPEG."""
    scale = min(1.0, THUMBNAIL / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return bytes(data)
