# SPDX-License-Identifier: Apache-2.0
"""The X-Encoder of a streaming model, which encodes tubelets of video frames into visual tokens.

A convolutional stem (Xiao et al., "Early convolutions help transformers see better", arXiv
2106.14881) is followed by transformer blocks with block-causal attention (docs/design.md
section 1).

Shapes: B batch, T tubelets, F frames per tubelet, S image side, N tokens per tubelet, D width,
M = B * T.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vljepa_ros.model.config import TimeConfig, XEncoderConfig
from vljepa_ros.model.streaming.block import Block, KeyValue, band_mask


class Stem(nn.Module):
    """Convolutional stem that converts the F stacked frames of each tubelet to N tokens."""

    def __init__(self, config: XEncoderConfig, frames: int) -> None:
        super().__init__()
        widths = (3 * frames, *config.stem, config.width)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            if index == len(widths) - 2:
                break
            layers += [nn.GroupNorm(8, after), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Convert M tubelets (M, F, S, S, 3) uint8 RGB to tokens (M, N, D)."""
        weight = self.layers[0].weight
        x = images.movedim(-1, 2).flatten(1, 2).to(weight.dtype)  # type: ignore[arg-type]
        x = self.layers((x / 255.0 - 0.45) / 0.25)
        return x.flatten(2).transpose(1, 2)


class XEncoder(nn.Module):
    """Block-causal video encoder with learned spatial positions and rotary positions in time.

    Training calls `forward` with whole clips. Streaming calls `step` with every tubelet.
    """

    def __init__(self, config: XEncoderConfig, time: TimeConfig) -> None:
        super().__init__()
        self.config, self.time = config, time
        self.stem = Stem(config, time.tubelet_frames)
        self.position = nn.Parameter(0.02 * torch.randn(config.grid**2, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def embed(self, images: Tensor) -> Tensor:
        """Convert tubelets (B, T, F, S, S, 3) uint8 RGB to the first block's input (B, T, N, D).

        Raises:
            ValueError: The images do not match the model.
        """
        batch, tubelets, frames, height, width, _ = images.shape
        size = self.config.image_size
        if (frames, height, width) != (self.time.tubelet_frames, size, size):
            raise ValueError(
                f'a tubelet of {frames} frames of {height}x{width} does not match the model '
                f'({self.time.tubelet_frames} of {size}x{size})'
            )
        tokens = self.stem(images.flatten(0, 1)) + self.position
        return tokens.unflatten(0, (batch, tubelets))

    def forward(self, images: Tensor) -> Tensor:
        """Encode whole clips (B, T, F, S, S, 3) uint8 RGB into visual tokens (B, T, N, D)."""
        x = self.embed(images)
        _, tubelets, tokens, _ = x.shape
        mask = band_mask(tubelets, tokens, self.time.window_tubelets, x.device)
        for block in self.blocks:
            x, _ = block.band(x, mask)  # type: ignore[operator]
        return self.norm(x)

    def step(
        self, images: Tensor, caches: list[KeyValue | None]
    ) -> tuple[Tensor, list[KeyValue | None]]:
        """Encode the newest tubelet, which attends to cached keys and values of older tubelets.

        Args:
            images: Frames of the tubelet, (B, F, S, S, 3) uint8 RGB.
            caches: One cache per layer; None at the start of a stream.

        Returns:
            Visual tokens (B, N, D) of the tubelet, and the updated caches.
        """
        x = self.embed(images.unsqueeze(1)).squeeze(1)
        renewed: list[KeyValue | None] = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.step(x, cache, self.time.window_tubelets)  # type: ignore[operator]
            renewed.append(cache)
        return self.norm(x), renewed
