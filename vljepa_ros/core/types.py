# SPDX-License-Identifier: Apache-2.0
"""Data types from camera to answer: frames, embeddings, changes, events, answers.

Times are integer nanoseconds (``_ns``). Vectors are float32 of unit norm, shape (D,). Images are
(H, W, 3) uint8, RGB. A hop is one inference step of a camera. `unfamiliar` is how unfamiliar the
scene is to the model, 0..1; from `WITHHELD` on, texts and answers are withheld. The ROS messages
of docs/design.md section 3 map one to one onto these types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Vector = NDArray[np.float32]
WITHHELD = 0.5  # texts and answers are withheld if `unfamiliar` or `unreadable` reaches this


@dataclass(frozen=True)
class Frame:
    """One camera image, (H, W, 3) uint8 RGB, with its stamp. `source` is the camera name.

    A frame does not check its values; `Pipeline.push` raises InputError if one is invalid.
    """

    stamp_ns: int
    image: Image
    source: str = 'camera'


@dataclass(frozen=True)
class Slot:
    """One slot of the sampling grid: its time `slot_ns`, and a frame with its own stamp."""

    slot_ns: int
    stamp_ns: int
    image: Image


@dataclass(frozen=True)
class StreamKey:
    """Identity of a stream: one camera, one prompt and one model."""

    source: str
    prompt: str
    model_id: str


@dataclass(frozen=True)
class Embedding:
    """Predicted answer embedding of one hop (inference step) of a stream.

    `stamp_ns`: stamp of the newest input frame. `window_start_ns`: stamp of the oldest frame in
    the attention window. `reset_count`: incremented on every state reset of the camera.
    `unfamiliar`: how unfamiliar the scene of this hop is to the model, 0..1; from `WITHHELD` on,
    texts are withheld.
    """

    stamp_ns: int
    window_start_ns: int
    key: StreamKey
    vector: Vector
    reset_count: int = 0
    unfamiliar: float = 0.0


class Reason(IntEnum):
    """Reason for a change (values equal the constants of SemanticChange.msg)."""

    FIRST = 0
    MEANING = 1
    RESET = 2
    DRIFT = 3
    END = 4


@dataclass(frozen=True)
class Segment:
    """Span of one stream in which the meaning stays the same; it may still be open."""

    segment_id: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Change:
    """One step of the segmentation of a stream.

    FIRST, MEANING and RESET open the segment `segment_id`. DRIFT reports that the text of the open
    segment would differ now, or would differ at its end; `vector` is the new vector to decode. END
    closes the stream without a new segment: `segment_id` is the closed segment. `previous` is the
    segment that this change closed, `previous_vector` its pooled vector. `score`: cosine distance
    that caused the change. `unfamiliar` and `previous_unfamiliar`: how unfamiliar the scene is to
    the model, 0..1, mean over the hops of each segment.
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
    """Reason for an abstention (values equal ABSTAIN_* of Query, TextEvent and Watch).

    If several reasons apply, the first in `ABSTAIN_PRECEDENCE` is reported.
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
    """Return the reason that comes first in `ABSTAIN_PRECEDENCE`; NONE if `reasons` is empty."""
    return min(reasons, key=ABSTAIN_PRECEDENCE.index, default=AbstainReason.NONE)


class State(IntEnum):
    """State of a text event (values equal the constants of TextEvent.msg)."""

    STARTED = 0
    UPDATED = 1
    ENDED = 2


@dataclass(frozen=True)
class Candidate:
    """Candidate answer, or alternative text of the decoder, with its score, 0..1."""

    text: str
    score: float


@dataclass(frozen=True)
class Decoded:
    """Decoded text of one vector, with its confidence (0..1) and alternatives, best first.

    `nearest`: the model has no Y-Decoder (text decoder), so the texts are the nearest sentences of
    its sentence bank.
    """

    text: str
    confidence: float
    alternatives: tuple[Candidate, ...] = ()
    nearest: bool = False


@dataclass(frozen=True)
class Event:
    """Text event: a segment of a stream with its text, when it starts, is updated, or ends.

    `end_ns` is final only if `state` is ENDED; before, it is the newest known stamp. `nearest`:
    the text is a retrieved sentence of a sentence bank, not a decoded text. `unfamiliar`: how
    unfamiliar the scene is to the model, 0..1, mean over the segment's hops; from `WITHHELD` on,
    the text is withheld: '' with confidence 0 and `abstain_reason` UNFAMILIAR.
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
    """Time span of one camera with a score, 0..1.

    It is a search result, evidence of an answer, or the window in which a watch condition fired.
    `text`: caption of the span, '' if there is none or it is withheld; for a watch, its condition.
    """

    source: str
    start_ns: int
    end_ns: int
    score: float
    text: str = ''


@dataclass(frozen=True)
class EvaluatedSpan:
    """Time span of one camera with its answer embedding for one prompt.

    `text`: text that was published for the span, or ''. `nearest`: the text is a retrieved
    sentence of a sentence bank. `unfamiliar`: how unfamiliar the scene is to the model, 0..1, mean
    over the span's hops.
    """

    start_ns: int
    end_ns: int
    vector: Vector
    text: str = ''
    nearest: bool = False
    unfamiliar: float = 0.0


class Basis(IntEnum):
    """Data that an answer is based on; the values equal the BASIS_* constants of Query.srv.

    NOW: the current visual state. FRAMES: stored frames, evaluated with the question as prompt.
    MEMORY: stored embeddings of a standing prompt.
    """

    NOW = 0
    FRAMES = 1
    MEMORY = 2


@dataclass(frozen=True)
class Answer:
    """An answer to one question; `ranked` is set if the question has candidates.

    `confidence` is the probability that the answer is right. `abstained`: do not use the answer,
    because of `abstain_reason`; UNFAMILIAR and UNREADABLE answers are withheld: '' with confidence
    0 and without ranking. `vector`: the answer embedding. `nearest`: the answer contains retrieved
    sentences of a sentence bank. `unfamiliar`: how unfamiliar the scene is to the model, 0..1,
    maximum over the spans that the answer is based on. `message`: one line that names the
    unreadable texts of an UNREADABLE answer.
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
    message: str = ''
