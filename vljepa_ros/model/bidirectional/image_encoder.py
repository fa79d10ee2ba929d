# SPDX-License-Identifier: Apache-2.0
"""Two modes of encoding a stream of frames with the bidirectional X-Encoder.

`WindowEncoder` encodes the whole window again at every hop, as in training. It is exact, and its
cost grows with the length of the window. `CausalEncoder` encodes only the new tubelets of a hop,
which attend to cached keys and values of earlier tubelets. It is faster, but the weights were not
trained with this attention mask.

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
    """Visual state of one camera.

    `recent`: frames of the newest hops (`WindowEncoder`) or visual tokens of the newest tubelets
    (`CausalEncoder`), newest last. `caches`: keys and values of each layer (`CausalEncoder`).
    """

    recent: deque[Tensor]
    caches: list[KeyValue | None] = field(default_factory=list)
    tokens: Tensor | None = None  # visual tokens (1, V, D) of `recent`; None: not computed yet


class ImageEncoder(Protocol):
    """Interface of both encoding modes. States of different cameras are independent."""

    def new_state(self) -> EncoderState:
        """Return an empty state for one camera."""
        ...

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Add the frames of one hop, (1, hop_frames, S, S, 3) uint8, to the state."""
        ...

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the visual tokens (1, V, D) of the newest frames, at most one window."""
        ...


class WindowEncoder:
    """Window mode, the default: encodes all frames of the window together at every hop."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder = x_encoder
        self._hops = config.time.window_frames // config.time.hop_frames

    def new_state(self) -> EncoderState:
        """Return an empty state for one camera."""
        return EncoderState(deque(maxlen=self._hops))

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Add the frames of one hop to the state, without encoding them yet."""
        state.recent.append(images)
        state.tokens = None

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the visual tokens (1, V, D) of the window, encoded at the first call per hop."""
        if state.tokens is None:
            state.tokens = self._x_encoder(torch.cat(list(state.recent), dim=1))
        return state.tokens


class CausalEncoder:
    """Block-causal mode (`x_encoder.block_causal`): encodes each tubelet once."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder, self._tubelets = x_encoder, config.window_tubelets

    def new_state(self) -> EncoderState:
        """Return an empty state for one camera."""
        layers = self._x_encoder.config.layers
        return EncoderState(deque(maxlen=self._tubelets), [None] * layers)

    def push(self, state: EncoderState, images: Tensor) -> None:
        """Encode the tubelets of one hop one by one and add their tokens to the state."""
        caches = state.caches
        encoded = []
        for tubelet in images.split(self._x_encoder.config.tubelet_frames, dim=1):
            tokens, caches = self._x_encoder.step(tubelet, caches, self._tubelets)
            encoded.append(tokens)
        state.recent.extend(encoded)
        state.caches = caches

    def tokens(self, state: EncoderState) -> Tensor:
        """Return the stored visual tokens (1, V, D) of the window's tubelets."""
        return torch.cat(list(state.recent), dim=1)
