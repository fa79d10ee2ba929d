# SPDX-License-Identifier: Apache-2.0
"""Models that embed single images: their sampling rate, and their vision side.

Shapes: S image side, P prompts, D embedding_dim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image, Vector
from vljepa_ros.model.config import check
from vljepa_ros.model.frame_check import check_hop


@dataclass(frozen=True)
class StillsConfig:
    """Sampling rate of the images in Hz. Every image is encoded separately."""

    rate_hz: float = 2.0

    def __post_init__(self) -> None:
        """Validate the sampling rate."""
        check('time.', self, rate_hz=(0.01, 1000))

    @property
    def window_s(self) -> float:
        """Duration in seconds that one embedding covers: the time between two images."""
        return 1 / self.rate_hz


@dataclass
class StillsState:
    """Visual state of one camera: the embedding (D,) of its newest image."""

    vector: Vector | None = None


class StillsVision(ABC):
    """Vision side that embeds the newest image; implements `core.protocols.Vision`.

    Every prompt has the same answer embedding, the embedding of the newest image. Only
    `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts

    @abstractmethod
    def embed(self, image: Image) -> Vector:
        """Return the unit embedding (D,) of an image (S, S, 3) uint8 RGB."""

    def new_state(self) -> StillsState:
        """Return an empty state for one camera."""
        return StillsState()

    def step(self, state: StillsState, images: Sequence[Image]) -> None:
        """Encode the one image of a hop, (S, S, 3) uint8 RGB, and store its embedding in `state`.

        Raises:
            InputError: The image does not match the model, or its embedding is not finite.
        """
        check_hop(images, self.facts)
        vector = self.embed(images[0])
        if not np.isfinite(vector).all():
            raise InputError('the model produced a vector that is not finite')
        state.vector = vector

    def check_prompts(self, prompts: Sequence[str]) -> None:  # noqa: B027
        """Accept all prompts, because the model does not use them."""

    def predict(self, state: StillsState, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the newest image's embedding, repeated for each of P prompts: (P, D).

        Raises:
            InputError: `state` has no image yet.
        """
        if state.vector is None:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        return state.vector[None].repeat(len(prompts), axis=0)

    def unfamiliar(self, state: StillsState) -> float:
        """Return 0.0: these models have no detector of unfamiliar scenes."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0.0: these models have no detector of unreadable texts."""
        return 0.0
