# SPDX-License-Identifier: Apache-2.0
"""Two ways to encode a stream with a bidirectional X-Encoder; both give tokens after each hop.

`WindowEncoder` encodes the whole window again at every hop, as in training. It is exact, and its
cost grows with the window. `CausalEncoder` encodes each tubelet once and attends to cached keys of
earlier tubelets. It costs one tubelet per hop, but the weights were not trained with this mask.

Shapes: S image side, V visual tokens, D width.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.x_encoder import XEncoder
from vljepa_ros.model.streaming.block import KeyValue


@dataclass
class EncoderState:
    """State of one camera: recent frames or visual tokens, newest last, and caches."""

    recent: deque[Tensor]
    caches: list[KeyValue | None] = field(default_factory=list)
    tokens: Tensor | None = None  # visual tokens (1, V, D) of the window, once computed


class ImageEncoder(Protocol):
    """Interface of the two encoding modes. States of different cameras are independent."""

    def new_state(self) -> EncoderState:
        """Return an empty state."""
        ...

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Add the frames of one hop, (1, hop_frames, S, S, 3) uint8, to the state."""
        ...

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the visual tokens (1, V, D) of the window; fewer until it is full."""
        ...


class WindowEncoder:
    """Default mode. Encodes the window at the first request for its tokens."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder = x_encoder
        self._hops = config.time.window_frames // config.time.hop_frames

    def new_state(self) -> EncoderState:
        """Return an empty state."""
        return EncoderState(deque(maxlen=self._hops))

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Store the frames of one hop."""
        state.recent.append(images)
        state.tokens = None

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the visual tokens of the stored frames."""
        if state.tokens is None:
            state.tokens = self._x_encoder(torch.cat(list(state.recent), dim=1))
        return state.tokens


class CausalEncoder:
    """Mode of the option `x_encoder.block_causal`."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder, self._tubelets = x_encoder, config.window_tubelets

    def new_state(self) -> EncoderState:
        """Return an empty state."""
        layers = self._x_encoder.config.layers
        return EncoderState(deque(maxlen=self._tubelets), [None] * layers)

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Encode the tubelets of one hop, one after the other."""
        caches = state.caches
        encoded = []
        for tubelet in images.split(self._x_encoder.config.tubelet_frames, dim=1):
            tokens, caches = self._x_encoder.step(tubelet, caches, self._tubelets)
            encoded.append(tokens)
        state.recent.extend(encoded)
        state.caches = caches

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the visual tokens of the newest tubelets, each as encoded on arrival."""
        return torch.cat(list(state.recent), dim=1)
