# SPDX-License-Identifier: Apache-2.0
"""Vision side of a dual encoder at run time, which embeds the newest image only."""

from __future__ import annotations

import torch

from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image, Vector
from vljepa_ros.model.dual_encoder.network import DualEncoder
from vljepa_ros.model.stills import StillsVision


class DualVision(StillsVision):
    """Vision side of a dual encoder."""

    def __init__(self, net: DualEncoder, facts: ModelFacts) -> None:
        super().__init__(facts)
        self._net, self._device = net, torch.device(facts.device)

    @torch.inference_mode()
    def embed(self, image: Image) -> Vector:
        """Return the unit embedding (D,) of an image (S, S, 3) uint8 RGB."""
        pixels = torch.from_numpy(image[None]).to(self._device)
        vectors: Vector = self._net.encode_images(pixels).cpu().numpy()
        return vectors[0]
