# SPDX-License-Identifier: Apache-2.0
"""What the streaming core needs from a model: eyes beside the camera, language anywhere.

`vljepa_ros.model` implements these with torch; tests hand the core small numpy fakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import WITHHELD, Candidate, Decoded, Image, Vector

SHOWN_CHARACTERS = 60  # of a text in an error


@dataclass(frozen=True)
class ModelFacts:
    """What a model is and how it samples time. A tubelet (a hop) is `tubelet_frames` frames."""

    model_id: str
    embedding_dim: int
    image_size: int
    rate_hz: float
    tubelet_frames: int
    window_tubelets: int
    receptive_tubelets: int
    device: str = 'cpu'
    dtype: str = 'float32'

    @property
    def name(self) -> str:
        """The model's name: `model_id` without its hashes."""
        return model_name(self.model_id)

    @property
    def frame_period_ns(self) -> int:
        """Spacing of the sampling grid."""
        return round(1e9 / self.rate_hz)

    @property
    def hop_ns(self) -> int:
        """Time between two embeddings."""
        return self.tubelet_frames * self.frame_period_ns

    @property
    def window_ns(self) -> int:
        """Length of the attention window."""
        return self.window_tubelets * self.hop_ns


def model_name(model_id: str) -> str:
    """Strip the hashes from a model id: 'small-0a1b2c3d-4e5f6071' is of 'small'."""
    return re.sub(r'(-[0-9a-f]{8})+(-causal)?$', '', model_id)


class Vision(Protocol):
    """X-Encoder and Predictor. States are independent; one thread uses an Eyes at a time."""

    @property
    def facts(self) -> ModelFacts:
        """The model's constants."""
        ...

    def new_state(self) -> Any:
        """Empty caches for one camera."""
        ...

    def step(self, state: Any, images: Sequence[Image]) -> None:
        """Advance `state` by one tubelet: `tubelet_frames` images of (S, S, 3) uint8 RGB."""
        ...

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError where `predict` would. It computes nothing, and any thread may ask."""
        ...

    def predict(self, state: Any, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Answer embeddings (P, D), unit norm, of the prompts over what `state` has seen.

        Raises InputError on a prompt that is not text or too long, and before the first step.
        """
        ...

    def unfamiliar(self, state: Any) -> float:
        """How far the newest hop's scene is from what the model knows, 0..1.

        0.5 is the fitted threshold: at or above it answers are withheld. Models without a detector
        return 0.0.
        """
        ...


class Language(Protocol):
    """Y-Encoder and Y-Decoder."""

    @property
    def facts(self) -> ModelFacts:
        """The model's constants; `model_id` equals the eyes'."""
        ...

    def check(self, text: str) -> None:
        """Raise InputError where `encode` would. It computes nothing, and any thread may ask."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Text embeddings (N, D), unit norm. Raises InputError on an empty or huge text."""
        ...

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Words for each of (N, D) predicted vectors, bounded in length.

        `asked`: they answer a question, and so does what their confidence was fitted on.
        """
        ...

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Candidates with calibrated scores, best first; ties keep their order.

        A score is the probability that the candidate is the answer. What they lack to a sum of 1
        is the probability that nobody can tell.
        """
        ...

    def unreadable(self, text: str) -> float:
        """How far a text is from what the model can read, 0..1.

        0.5 is the fitted threshold: at or above it answers are withheld. Models without a detector
        return 0.0. Raises InputError where `encode` would.
        """
        ...

    def cannot_tell(self, vector: Vector, candidates: Sequence[str], said: str) -> bool:
        """Whether so much speaks for it that nobody can tell that the answer is an abstention.

        `said`: the best candidate, or the words of `decode` where there are no candidates.
        """
        ...

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Calibrated 0..1 scores (N,) of predicted vectors against one text (search, watch)."""
        ...


def check_readable(language: Language, text: str, what: str) -> str:
    """Return `text`; InputError if it cannot be embedded, or the model cannot read it."""
    language.check(text)
    if language.unreadable(text) >= WITHHELD:
        raise InputError(
            f"{what}: model '{language.facts.name}' cannot read '{_shortened(text)}'; "
            'use plain English words'
        )
    return text


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f'{text[:SHOWN_CHARACTERS]}...'


@dataclass(frozen=True)
class Model:
    """Both halves of one model; a process that needs only one leaves the other None."""

    facts: ModelFacts
    vision: Vision | None = None
    language: Language | None = None
