# SPDX-License-Identifier: Apache-2.0
"""The X-Encoder of a bidirectional model: V-JEPA 2 (arXiv 2506.09985) from `transformers`.

Weights have the names of V-JEPA 2's public checkpoint with the prefix `model.`: `model.encoder.*`.
The predictor that V-JEPA 2 was pre-trained with is removed.

Shapes: B clips, F frames, S image side, T tubelets, N tokens per tubelet, D width, H heads,
E = D / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import (
    VJEPA2RopeAttention,
    rotate_queries_or_keys,
)

from vljepa_ros.model.bidirectional.config import XEncoderConfig
from vljepa_ros.model.streaming.block import KeyValue

# ImageNet statistics, as in the training of V-JEPA 2.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class RotaryAttention(VJEPA2RopeAttention):  # type: ignore[misc]
    """V-JEPA 2's attention with rotary angles in float32 and with cached keys and values.

    `transformers` computes the angles in the model's dtype. In bfloat16, the resulting error at
    late tubelets, such as tubelet 31, exceeds the rounding error of the dtype (test_traps.py).
    """

    def apply_rotary_embeddings(self, qk: Tensor, pos_ids: tuple[Tensor, ...]) -> Tensor:
        """Rotate queries or keys by their position ids; compute in float32, keep the dtype."""
        rotated: Tensor = super().apply_rotary_embeddings(qk.float(), pos_ids)
        return rotated.to(qk.dtype)

    def step(self, x: Tensor, cache: KeyValue | None, window: int) -> tuple[Tensor, KeyValue]:
        """Compute the newest tubelet's attention to itself and to the cached older tubelets.

        Keys are cached before their rotation in time. V-JEPA 2 rotates the two components of a
        pair by different angles, so attention depends on absolute positions, unlike with standard
        rotary embeddings. Keys are therefore rotated by their position within the window, because
        these positions occurred in training.

        Args:
            x: Tokens of the newest tubelet (B, N, D).
            cache: Keys and values of older tubelets; None at the start of a stream.
            window: Maximum number of tubelets in the returned cache.

        Returns:
            The attention output (B, N, D) and the cache including the newest tubelet.
        """
        q, k, v = (
            project(x).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # (B, H, N, E)
        position_ids = self.get_position_ids(x)  # all tokens in tubelet 0: no rotation in time
        q, k = (self.apply_rotary_embeddings(part, position_ids) for part in (q, k))
        newest = KeyValue(k.unsqueeze(2), v.unsqueeze(2))
        cache = newest if cache is None else cache.extended(newest, window)
        count = cache.keys.shape[2]
        attended = functional.scaled_dot_product_attention(
            self._rotate_time(q.unsqueeze(2), first=count - 1),
            self._rotate_time(cache.keys, first=0),
            cache.values.flatten(2, 3),
        )
        return self.proj(attended.transpose(1, 2).flatten(2)), cache

    def _rotate_time(self, x: Tensor, first: int) -> Tensor:
        """Rotate x (B, H, T, N, E) by the time indices `first`, `first` + 1, ... of its tubelets.

        Returns the result as (B, H, T*N, E).
        """
        tubelets, tokens = x.shape[2:4]
        time = torch.arange(first, first + tubelets, device=x.device).repeat_interleave(tokens)
        x = x.flatten(2, 3)
        rotated = rotate_queries_or_keys(x[..., : self.d_dim].float(), pos=time).to(x.dtype)
        return torch.cat([rotated, x[..., self.d_dim :]], dim=-1)


class XEncoder(nn.Module):
    """V-JEPA 2 encoder that converts frames of a window, or of one tubelet, to visual tokens."""

    def __init__(self, config: XEncoderConfig) -> None:
        super().__init__()
        self.config = config
        # V-JEPA 2 computes rotary positions from crop_size, so it must be the size of the images.
        vjepa = VJEPA2Config(
            crop_size=config.image_size,
            patch_size=config.patch_size,
            tubelet_size=config.tubelet_frames,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            pred_num_hidden_layers=1,
            attn_implementation='sdpa',
        )
        self.model = VJEPA2Model(vjepa)
        self.model.predictor = nn.Identity()
        for layer in self.model.encoder.layer:
            layer.attention = RotaryAttention(vjepa, config.width, config.heads)

    def forward(self, images: Tensor) -> Tensor:
        """Encode whole windows (B, F, S, S, 3) uint8 RGB into visual tokens (B, T*N, D).

        A single frame (F = 1) is duplicated to fill a tubelet, as in V-JEPA 2's image training.
        """
        return self.model(self._pixels(images), skip_predictor=True).last_hidden_state

    def step(
        self, images: Tensor, caches: list[KeyValue | None], window: int
    ) -> tuple[Tensor, list[KeyValue | None]]:
        """Encode the newest tubelet, which attends to cached keys and values of older tubelets.

        Args:
            images: Frames of the tubelet, (B, F, S, S, 3) uint8 RGB.
            caches: One cache per layer; None at the start of a stream.
            window: Maximum number of tubelets in the returned caches.

        Returns:
            Visual tokens (B, N, D) of the tubelet, and the updated caches.
        """
        encoder = self.model.encoder
        x = encoder.embeddings(self._pixels(images))
        renewed: list[KeyValue | None] = []
        for layer, cache in zip(encoder.layer, caches, strict=True):
            attended, cache = layer.attention.step(layer.norm1(x), cache, window)
            x = x + attended
            x = x + layer.mlp(layer.norm2(x))
            renewed.append(cache)
        return encoder.layernorm(x), renewed

    def _pixels(self, images: Tensor) -> Tensor:
        """Convert images (B, F, S, S, 3) uint8 RGB to normalized pixel values (B, F, 3, S, S)."""
        _, frames, height, width, _ = images.shape
        size, per = self.config.image_size, self.config.tubelet_frames
        if (height, width) != (size, size):
            raise ValueError(
                f'images of {height}x{width} pixels do not match the model ({size}x{size})'
            )
        if frames != 1 and frames % per:
            raise ValueError(
                f'{frames} frames are not a multiple of the {per} frames per tubelet: V-JEPA 2 '
                f'would drop the last frames'
            )
        weight = self.model.encoder.embeddings.patch_embeddings.proj.weight
        mean, deviation = (images.new_tensor(x, dtype=torch.float32) for x in (MEAN, DEVIATION))
        return ((images / 255.0 - mean) / deviation).movedim(-1, 2).to(weight.dtype)
