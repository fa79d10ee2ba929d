# SPDX-License-Identifier: Apache-2.0
"""Interfaces between the streaming core and a model: its vision side and its text side.

`vljepa_ros.model` implements these with torch; tests pass small numpy fakes.
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

SHOWN_CHARACTERS = 60  # length limit of a text that an error message quotes


@dataclass(frozen=True)
class ModelFacts:
    """Constants of a model. A tubelet (one hop) has `tubelet_frames` frames."""

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
        """Name of the model: `model_id` without its hashes."""
        return model_name(self.model_id)

    @property
    def frame_period_ns(self) -> int:
        """Period of the sampling grid."""
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
    """Strip the hashes from a model id: 'small-0a1b2c3d-4e5f6071' -> 'small'."""
    return re.sub(r'(-[0-9a-f]{8})+(-causal)?$', '', model_id)


class Vision(Protocol):
    """X-Encoder and Predictor. States are independent; only one thread may use it at a time."""

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model."""
        ...

    def new_state(self) -> Any:
        """Return empty caches for one camera."""
        ...

    def step(self, state: Any, images: Sequence[Image]) -> None:
        """Advance `state` by one tubelet: `tubelet_frames` images of (S, S, 3) uint8 RGB."""
        ...

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if `predict` would. Runs no inference; callable from any thread."""
        ...

    def predict(self, state: Any, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Predict answer embeddings from the visual state.

        Args:
            state: Caches of one camera, advanced by `step`.
            prompts: P prompts.

        Returns:
            Answer embeddings (P, D), unit norm.

        Raises:
            InputError: A prompt is not text or too long, or `state` has no step yet.
        """
        ...

    def unfamiliar(self, state: Any) -> float:
        """Return how unfamiliar the scene of the newest hop is to the model, 0..1.

        0.5 is the fitted threshold: at or above it, answers are withheld. Models without a
        detector return 0.0.
        """
        ...


class Language(Protocol):
    """Y-Encoder and Y-Decoder."""

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model; `model_id` equals the vision side's."""
        ...

    def check(self, text: str) -> None:
        """Raise InputError if `encode` would. Runs no inference; callable from any thread."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return text embeddings (N, D), unit norm.

        Raises:
            InputError: A text is empty or too long.
        """
        ...

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Decode vectors to texts of bounded length.

        Args:
            vectors: Predicted vectors (N, D).
            asked: The vectors answer a question, so the confidence uses the calibration that was
                fitted on questions.
        """
        ...

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Rank candidates by calibrated score, best first; ties keep their order.

        A score is the probability that the candidate is the answer. The scores sum to at most 1;
        the remainder is the probability that the question cannot be answered.
        """
        ...

    def unreadable(self, text: str) -> float:
        """Return how unreadable a text is to the model, 0..1.

        0.5 is the fitted threshold: at or above it, answers are withheld. Models without a
        detector return 0.0.

        Raises:
            InputError: `encode` would raise it.
        """
        ...

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Decide whether a question is unanswerable, so that the answer is an abstention.

        Args:
            vector: Predicted answer embedding (D,).
            candidates: Candidates of the question; may be empty.
            text: The best candidate, or the decoded text if there are no candidates.
        """
        ...

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Return calibrated scores (N,), 0..1, of predicted vectors (N, D) for one text."""
        ...


def check_readable(language: Language, text: str, what: str) -> str:
    """Return `text` if the model can encode and read it.

    Args:
        language: Text side of the model.
        text: The text to check.
        what: Name of the text for the error message.

    Raises:
        InputError: The text cannot be encoded, or the model cannot read it.
    """
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
    """Vision side and text side of one model; a side that the process does not need is None."""

    facts: ModelFacts
    vision: Vision | None = None
    language: Language | None = None
