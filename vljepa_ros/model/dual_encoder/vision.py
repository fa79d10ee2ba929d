# SPDX-License-Identifier: Apache-2.0
"""The eyes of a dual encoder at run time: the newest picture's vector, whatever is asked."""

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
class Picture:
    """What one camera saw last: a vector (1, D)."""

    vector: NDArray[np.float32] | None = None


class DualVision:
    """Implements `core.protocols.Eyes`. One thread owns it; `check_prompts` is for any."""

    def __init__(self, net: DualEncoder, facts: ModelFacts) -> None:
        self.facts = facts
        self._net, self._device = net, torch.device(facts.device)

    def new_state(self) -> Picture:
        """Nothing seen by one camera."""
        return Picture()

    @torch.inference_mode()
    def step(self, state: Picture, images: Sequence[Image]) -> None:
        """See one (S, S, 3) uint8 RGB image."""
        check_hop(images, self.facts)
        pixels = torch.from_numpy(np.stack(images)).to(self._device)
        vector: NDArray[np.float32] = self._net.pictures(pixels).cpu().numpy()
        if not np.isfinite(vector).all():
            raise InputError('the model produced a vector that is not finite')
        state.vector = vector

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Any prompt will do: none is read."""

    def predict(self, state: Picture, prompts: Sequence[str]) -> NDArray[np.float32]:
        """The picture's vector for each of the prompts, (P, D)."""
        if state.vector is None:
            raise InputError('no frame yet: the model has seen nothing')
        return state.vector.repeat(len(prompts), axis=0)

    def unfamiliar(self, state: Picture) -> float:
        """Return 0.0: this model has no detector of unfamiliar scenes."""
        return 0.0
