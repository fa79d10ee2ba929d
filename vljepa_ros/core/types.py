# SPDX-License-Identifier: Apache-2.0
"""The values that flow from camera to answer: frames, embeddings, changes, events, answers.

Times are integer nanoseconds (``_ns``). Vectors are float32 of unit norm, shape (D,). Images are
(H, W, 3) uint8, RGB. The ROS messages of docs/design.md section 3 map one to one onto
these values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Vector = NDArray[np.float32]
EVER_NS = 2**62  # later than any stamp
WITHHELD = 0.5  # `unfamiliar` and `unreadable` from which on text and answers are withheld


@dataclass(frozen=True)
class Frame:
    """One camera picture. `source` names the camera."""

    stamp_ns: int
    image: Image
    source: str = 'camera'


@dataclass(frozen=True)
class Slot:
    """One slot of the time grid: its time and its frame with the frame's own stamp."""

    slot_ns: int
    stamp_ns: int
    image: Image


@dataclass(frozen=True)
class StreamKey:
    """What makes two embeddings comparable and adjacent: same camera, same prompt, same model."""

    source: str
    prompt: str
    model_id: str


@dataclass(frozen=True)
class Embedding:
    """The predicted answer embedding of one hop; `stamp_ns` is its newest input frame's.

    `reset_count` is incremented on every state reset of the camera. `unfamiliar`: 0..1, how far
    the scene of this hop is from what the model knows; from `WITHHELD` on it does not know it.
    """

    stamp_ns: int
    window_start_ns: int
    key: StreamKey
    vector: Vector
    reset_count: int = 0
    unfamiliar: float = 0.0


class Reason(IntEnum):
    """Why a change was published (values equal the constants of SemanticChange.msg)."""

    FIRST = 0
    MEANING = 1
    RESET = 2
    DRIFT = 3
    END = 4


@dataclass(frozen=True)
class Segment:
    """A finished or running stretch of one stream."""

    segment_id: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Change:
    """One step of the segmentation of a stream.

    FIRST, MEANING, RESET open `segment_id`; DRIFT says that its words would differ now, or at its
    end, of which `vector` is then; END closes the stream (no new segment: `segment_id` is the
    closed one's). `previous` is the segment that this change closed, with its pooled vector.
    `unfamiliar` and `previous_unfamiliar` are means over the hops of these segments, 0..1.
    """

    stamp_ns: int
    key: StreamKey
    session_id: str
    segment_id: int
    segment_start_ns: int
    score: float
    reason: Reason
    vector: Vector
    previous: Segment | None = None
    previous_vector: Vector | None = None
    unfamiliar: float = 0.0
    previous_unfamiliar: float = 0.0


class AbstainReason(IntEnum):
    """Why an answer or a text is withheld (values equal ABSTAIN_* of Query, TextEvent and Watch).

    If several apply, the first of `ABSTAIN_PRECEDENCE` is given.
    """

    NONE = 0
    LOW_CONFIDENCE = 1
    UNANSWERABLE = 2
    UNFAMILIAR = 3
    UNREADABLE = 4
    NOT_SEEN = 5


ABSTAIN_PRECEDENCE = (
    AbstainReason.UNREADABLE,
    AbstainReason.NOT_SEEN,
    AbstainReason.UNFAMILIAR,
    AbstainReason.UNANSWERABLE,
    AbstainReason.LOW_CONFIDENCE,
    AbstainReason.NONE,
)


def first_reason(reasons: Iterable[AbstainReason]) -> AbstainReason:
    """The one that takes precedence; NONE if there are none."""
    return min(reasons, key=ABSTAIN_PRECEDENCE.index, default=AbstainReason.NONE)


class State(IntEnum):
    """Life of a text event (values equal the constants of TextEvent.msg)."""

    STARTED = 0
    UPDATED = 1
    ENDED = 2


@dataclass(frozen=True)
class Candidate:
    """A text and its score, 0..1."""

    text: str
    score: float


@dataclass(frozen=True)
class Decoded:
    """The Y-Decoder's words for one vector, best first; confidence 0..1.

    `nearest`: the model has no decoder, and these are the nearest sentences of its bank.
    """

    text: str
    confidence: float
    alternatives: tuple[Candidate, ...] = ()
    nearest: bool = False


@dataclass(frozen=True)
class Event:
    """A stretch of a stream in words. Until ENDED, `end_ns` is the newest stamp known.

    `nearest`: the text is the nearest sentence of a bank, not the model's own words.
    `unfamiliar`: 0..1, mean over the segment's hops; from `WITHHELD` on the text is withheld: ''
    with confidence 0, and `abstain_reason` UNFAMILIAR.
    """

    stamp_ns: int
    key: StreamKey
    session_id: str
    segment_id: int
    start_ns: int
    end_ns: int
    state: State
    text: str
    confidence: float
    alternatives: tuple[Candidate, ...] = ()
    nearest: bool = False
    unfamiliar: float = 0.0
    abstain_reason: AbstainReason = AbstainReason.NONE

    @property
    def abstained(self) -> bool:
        """Whether the text is withheld."""
        return self.abstain_reason is not AbstainReason.NONE


@dataclass(frozen=True)
class Moment:
    """A span of one source that a search or an answer points at."""

    source: str
    start_ns: int
    end_ns: int
    score: float
    text: str = ''


@dataclass(frozen=True)
class Seen:
    """A stretch of one source, and what it says to one prompt.

    `text`: what was said of it before, '' for nothing; `nearest`: by a sentence bank.
    `unfamiliar`: 0..1, mean over its hops.
    """

    start_ns: int
    end_ns: int
    vector: Vector
    text: str = ''
    nearest: bool = False
    unfamiliar: float = 0.0


class Basis(IntEnum):
    """What an answer rests on (values equal the constants of Query.srv)."""

    NOW = 0
    FRAMES = 1
    MEMORY = 2


@dataclass(frozen=True)
class Answer:
    """An answer to one question; `ranked` is filled when candidates were given.

    `confidence` is the probability that the answer is right. `abstained`: do not act on it, for
    `abstain_reason`; UNFAMILIAR and UNREADABLE answers are withheld: '' with confidence 0 and
    nothing ranked. `nearest`: of a sentence bank, not (all) the model's own words. `unfamiliar`:
    0..1, the highest of the spans that it rests on.
    """

    answer: str
    confidence: float
    abstained: bool
    stamp_ns: int
    model_id: str
    vector: Vector | None = None
    ranked: tuple[Candidate, ...] = ()
    evidence: tuple[Moment, ...] = field(default=())
    basis: Basis = Basis.NOW
    nearest: bool = False
    abstain_reason: AbstainReason = AbstainReason.NONE
    unfamiliar: float = 0.0
