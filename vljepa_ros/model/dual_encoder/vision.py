# SPDX-License-Identifier: Apache-2.0
"""Vision side of a dual encoder at run time, which embeds the newest image only.

Shapes: S image side, P prompts, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image
from vljepa_ros.model.dual_encoder.network import DualEncoder
from vljepa_ros.model.frame_check import check_hop


@dataclass
class ImageState:
    """Visual state of one camera: the embedding (1, D) of its newest image."""

    vector: NDArray[np.float32] | None = None


class DualVision:
    """Vision side of a dual encoder; implements `core.protocols.Vision`.

    Every prompt has the same answer embedding, the image embedding of the newest frame. Only
    `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(self, net: DualEncoder, facts: ModelFacts) -> None:
        self.facts = facts
        self._net, self._device = net, torch.device(facts.device)

    def new_state(self) -> ImageState:
        """Return an empty state for one camera."""
        return ImageState()

    @torch.inference_mode()
    def step(self, state: ImageState, images: Sequence[Image]) -> None:
        """Encode the one image of a hop, (S, S, 3) uint8 RGB, and store its embedding in `state`.

        Raises:
            InputError: The image does not match the model, or its embedding is not finite.
        """
        check_hop(images, self.facts)
        pixels = torch.from_numpy(np.stack(images)).to(self._device)
        vector: NDArray[np.float32] = self._net.encode_images(pixels).cpu().numpy()
        if not np.isfinite(vector).all():
            raise InputError('the model produced a vector that is not finite')
        state.vector = vector

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Accept all prompts, because the model does not use them."""

    def predict(self, state: ImageState, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the newest image's embedding, repeated for each of P prompts: (P, D).

        Raises:
            InputError: `state` has no image yet.
        """
        if state.vector is None:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        return state.vector.repeat(len(prompts), axis=0)

    def unfamiliar(self, state: ImageState) -> float:
        """Return 0.0: this model has no detector of unfamiliar scenes."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0.0: this model has no detector of unreadable texts."""
        return 0.0
