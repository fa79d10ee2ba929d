# SPDX-License-Identifier: Apache-2.0
"""Comparison of a bidirectional model's window mode and block-causal mode on the same stream.

The setting `x_encoder.block_causal` selects the mode; see `image_encoder`.

Shapes: P prompts, D embedding_dim.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.types import Image
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.image_encoder import EncoderState
from vljepa_ros.model.bidirectional.loading import assemble, needed_bytes, read
from vljepa_ros.model.bidirectional.network import VISION
from vljepa_ros.model.devices import check_memory


@dataclass
class _BothStates:
    """Visual state of one camera: one state per mode, and the hops that are not encoded yet."""

    states: tuple[EncoderState, EncoderState]
    waiting: list[Sequence[Image]] = field(default_factory=list)


class BothEncoders:
    """Vision side that runs both modes, compares them, and returns window mode's embeddings.

    It implements `core.protocols.Vision`. `cosines`: cosine of the embeddings of both modes, one
    value per prompt of each `predict` call. `window_s`, `causal_s`: time in seconds that each mode
    took to encode and predict, one value per `predict` call.
    """

    def __init__(self, window: Vision, causal: Vision) -> None:
        self.facts = window.facts
        self._vision = (window, causal)
        self.cosines: list[float] = []
        self.window_s: list[float] = []
        self.causal_s: list[float] = []

    def new_state(self) -> _BothStates:
        """Return an empty state for one camera."""
        window, causal = self._vision
        return _BothStates((window.new_state(), causal.new_state()))

    def step(self, state: _BothStates, images: Sequence[Image]) -> None:
        """Queue the images of one hop; `predict` encodes them, to time each mode separately."""
        state.waiting.append(images)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise InputError if a prompt has too many tokens."""
        self._vision[0].check_prompts(prompts)

    def predict(self, state: _BothStates, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Encode the queued hops and predict in both modes; return window mode's answers (P, D).

        `cosines`, `window_s` and `causal_s` are extended.
        """
        found = []
        for vision, own, times in zip(self._vision, state.states, (self.window_s, self.causal_s)):
            began_s = time.perf_counter()
            for images in state.waiting:
                vision.step(own, images)
            found.append(vision.predict(own, prompts))
            times.append(time.perf_counter() - began_s)
        state.waiting.clear()
        window, causal = found
        self.cosines += (window * causal).sum(axis=1).tolist()
        return window

    def unfamiliar(self, state: _BothStates) -> float:
        """Return 0.0: the comparison uses no detector of unfamiliar scenes."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0.0: the comparison uses no detector of unreadable texts."""
        return 0.0


def both_encoders(
    folder: Path, config: BidirectionalConfig, device: torch.device, dtype: str
) -> BothEncoders:
    """Load the vision side of a bidirectional model in both modes, which share the weights.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml; `x_encoder.block_causal` is ignored.
        device: Device of the weights.
        dtype: Name of the compute dtype, a key of `DTYPES`.

    Raises:
        ModelError: The folder is incomplete or damaged, or the device has too little memory.
    """
    check_memory(config.name, needed_bytes(config, VISION, dtype), device, dtype)
    net, vision = read(folder, config, device, dtype, VISION), []
    for causal in (False, True):
        chosen = replace(config, x_encoder=replace(config.x_encoder, block_causal=causal))
        vision.append(assemble(net, chosen, folder, device, dtype, ('vision',)).vision)
    window, causal_vision = vision
    assert window is not None and causal_vision is not None
    return BothEncoders(window, causal_vision)
