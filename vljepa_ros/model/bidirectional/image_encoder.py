# SPDX-License-Identifier: Apache-2.0
"""Two ways to see a stream with a bidirectional X-Encoder: the visual tokens after each hop.

`WindowSight` encodes the last window again at every hop, as the weights were trained: exact, and
its cost grows with the window. `CausalSight` encodes each tubelet once, over cached keys of those
before it: one tubelet of compute a hop, with attention that the weights never had.

Shapes: S image side, N tokens a tubelet, D width.
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
class Seen:
    """What one camera's past is kept as: frames or visual tokens, newest last, and caches."""

    recent: deque[Tensor]
    caches: list[KeyValue | None] = field(default_factory=list)
    tokens: Tensor | None = None  # of the window (1, V, D), once they were asked for


class Sight(Protocol):
    """One of the two ways. States are independent."""

    def begin(self) -> Seen:
        """Nothing seen."""
        ...

    def see(self, seen: Seen, images: Tensor) -> None:
        """One hop more: (1, hop_frames, S, S, 3) uint8."""
        ...

    def tokens(self, seen: Seen) -> Tensor:
        """Visual tokens (1, V, D) of what is in the window; fewer until it is full."""
        ...


class WindowSight:
    """The default. The window is encoded when its tokens are wanted, and once."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder = x_encoder
        self._hops = config.time.window_frames // config.time.hop_frames

    def begin(self) -> Seen:
        """Nothing seen."""
        return Seen(deque(maxlen=self._hops))

    def see(self, seen: Seen, images: Tensor) -> None:
        """Keep the frames of one hop more."""
        seen.recent.append(images)
        seen.tokens = None

    def tokens(self, seen: Seen) -> Tensor:
        """Visual tokens of the frames that are held."""
        if seen.tokens is None:
            seen.tokens = self._x_encoder(torch.cat(list(seen.recent), dim=1))
        return seen.tokens


class CausalSight:
    """The option `x_encoder.block_causal`."""

    def __init__(self, x_encoder: XEncoder, config: BidirectionalConfig) -> None:
        self._x_encoder, self._tubelets = x_encoder, config.window_tubelets

    def begin(self) -> Seen:
        """Nothing seen."""
        layers = self._x_encoder.config.layers
        return Seen(deque(maxlen=self._tubelets), [None] * layers)

    def see(self, seen: Seen, images: Tensor) -> None:
        """Encode the tubelets of one hop more, one after the other."""
        caches = seen.caches
        made = []
        for tubelet in images.split(self._x_encoder.config.tubelet_frames, dim=1):
            tokens, caches = self._x_encoder.step(tubelet, caches, self._tubelets)
            made.append(tokens)
        seen.recent.extend(made)
        seen.caches = caches

    def tokens(self, seen: Seen) -> Tensor:
        """Visual tokens of the newest tubelets, each as it was when it was new."""
        return torch.cat(list(seen.recent), dim=1)
