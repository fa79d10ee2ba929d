# SPDX-License-Identifier: Apache-2.0
"""Interfaces between the streaming core and a model: its vision side and its text side.

`vljepa_ros.model` implements these protocols with torch; tests implement small NumPy fakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.text import quoted
from vljepa_ros.core.types import WITHHELD, Candidate, Decoded, Image, Vector

SHOWN_TEXTS = 5  # maximum number of unreadable texts that a message names


@dataclass(frozen=True)
class ModelFacts:
    """Constants of a model: id, sizes, sampling rate in Hz, device and dtype.

    A tubelet is the group of `tubelet_frames` frames that one hop (inference step) adds.
    `window_tubelets` is the length of the attention window, `receptive_tubelets` the length of the
    receptive field: the newest tubelets that an embedding can depend on.
    """

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
        """Time between two sampled frames, in nanoseconds."""
        return round(1e9 / self.rate_hz)

    @property
    def hop_ns(self) -> int:
        """Time between two embeddings, in nanoseconds."""
        return self.tubelet_frames * self.frame_period_ns

    @property
    def window_ns(self) -> int:
        """Length of the attention window, in nanoseconds."""
        return self.window_tubelets * self.hop_ns


def model_name(model_id: str) -> str:
    """Strip the hashes from a model id: 'small-0a1b2c3d-4e5f6071' -> 'small'."""
    return re.sub(r'(-[0-9a-f]{8})+(-causal)?$', '', model_id)


class Vision(Protocol):
    """Vision side of a model: the X-Encoder (video) and the Predictor (answer embeddings).

    Only one thread may use it at a time. The states of different cameras are independent.
    """

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model."""
        ...

    def new_state(self) -> Any:
        """Return the initial state of one camera: empty caches."""
        ...

    def step(self, state: Any, images: Sequence[Image]) -> None:
        """Advance the state of one camera by one tubelet.

        `images` are `tubelet_frames` images (S, S, 3), uint8 RGB, S = `image_size`.
        """
        ...

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if `predict` would reject the prompts.

        Runs no inference; callable from any thread.
        """
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

    def unreadable(self, prompt: str) -> float:
        """Return how unreadable a prompt is to the model, 0..1; equals `Language.unreadable`.

        Runs no inference; callable from any thread.
        """
        ...


class Language(Protocol):
    """Text side of a model: Y-Encoder (text to embedding) and Y-Decoder (embedding to text)."""

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model; `model_id` is the same as on the vision side."""
        ...

    def check(self, text: str) -> None:
        """Raise InputError if `encode` would reject the text.

        Runs no inference; callable from any thread.
        """
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
            asked: Whether the vectors answer a question; the confidence then uses the calibration
                that was fitted on questions.
        """
        ...

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Rank candidates by calibrated score, best first; ties keep their order.

        A score is the probability that the candidate is the answer. The scores sum to at most 1;
        the remainder is the probability that the question cannot be answered.
        """
        ...

    def unreadable(self, text: str) -> float:
        """Return how unreadable a text (another language, nonsense) is to the model, 0..1.

        0.5 is the fitted threshold: at or above it, answers are withheld. Models without a
        detector return 0.0.

        Raises:
            InputError: `encode` would reject the text.
        """
        ...

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Return whether a question cannot be answered, so that the answer is an abstention.

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
        raise InputError(f'{what}: {cannot_read(language.facts, [text])}')
    return text


def cannot_read(facts: ModelFacts, texts: Sequence[str]) -> str:
    """Return a one-line message that names the unreadable texts; `texts` must not be empty."""
    shown = ', '.join(f"'{quoted(text)}'" for text in texts[:SHOWN_TEXTS])
    more = f' and {len(texts) - SHOWN_TEXTS} more' if len(texts) > SHOWN_TEXTS else ''
    return f"model '{facts.name}' cannot read {shown}{more}; use plain English words"


@dataclass(frozen=True)
class Model:
    """Vision side and text side of one model; a side that the process does not need is None."""

    facts: ModelFacts
    vision: Vision | None = None
    language: Language | None = None
