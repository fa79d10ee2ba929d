# SPDX-License-Identifier: Apache-2.0
"""The block-causal X-Encoder: video tubelets to visual tokens (docs/design.md section 1).

Shapes: B batch, T tubelets, F frames per tubelet, S image side, N tokens per tubelet, D width,
M tubelets of all clips.
Images enter as uint8 RGB (B, T, F, S, S, 3). The convolutional stem follows Xiao et al.,
"Early convolutions help transformers see better", arXiv 2106.14881.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vljepa_ros.model.config import TimeConfig, XEncoderConfig
from vljepa_ros.model.streaming.block import Block, KeyValue, band_mask


class Stem(nn.Module):
    """Convolutional stem that turns the F stacked frames of one tubelet into N tokens."""

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
        """Encode images (M, F, S, S, 3) uint8 into tokens (M, N, D)."""
        weight = self.layers[0].weight
        x = images.movedim(-1, 2).flatten(1, 2).to(weight.dtype)  # type: ignore[arg-type]
        x = self.layers((x / 255.0 - 0.45) / 0.25)
        return x.flatten(2).transpose(1, 2)


class XEncoder(nn.Module):
    """Stem, learned positions in the image, and blocks with rotary positions in time."""

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
        """Encode tubelets (B, T, F, S, S, 3) uint8 into tokens (B, T, N, D) before attention."""
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
        """Encode all tubelets (B, T, F, S, S, 3) uint8 at once into tokens (B, T, N, D)."""
        x = self.embed(images)
        _, tubelets, tokens, _ = x.shape
        mask = band_mask(tubelets, tokens, self.time.window_tubelets, x.device)
        for block in self.blocks:
            x, _ = block.band(x, mask)  # type: ignore[operator]
        return self.norm(x)

    def step(
        self, images: Tensor, caches: list[KeyValue | None]
    ) -> tuple[Tensor, list[KeyValue | None]]:
        """Encode the newest tubelet (B, F, S, S, 3) with `caches`, one per layer.

        Returns tokens (B, N, D) and the updated caches.
        """
        x = self.embed(images.unsqueeze(1)).squeeze(1)
        renewed: list[KeyValue | None] = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block.step(x, cache, self.time.window_tubelets)  # type: ignore[operator]
            renewed.append(cache)
        return self.norm(x), renewed
