# SPDX-License-Identifier: Apache-2.0
"""The X-Encoder of a bidirectional model: V-JEPA 2 (arXiv 2506.09985) as `transformers` has it.

Names of weights are those of the public checkpoint: `model.encoder.*`. What V-JEPA 2 has besides
its encoder, the predictor of its own pre-training, is left out; its plain forward would run it.

Shapes: B clips, F frames, S image side, T tubelets, N tokens a tubelet, D width, H heads,
E = D / H, W window (tubelets).
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

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in its training


class RotaryAttention(VJEPA2RopeAttention):  # type: ignore[misc]
    """V-JEPA 2's attention with positions in float32, and one tubelet at a time over a cache.

    `transformers` computes angles in the model's dtype: in bfloat16 their error is several times
    that of rounding from tubelet 31 on (test_traps.py).
    """

    def apply_rotary_embeddings(self, qk: Tensor, pos_ids: tuple[Tensor, ...]) -> Tensor:
        """The rotated queries or keys, in the dtype that they came in."""
        rotated: Tensor = super().apply_rotary_embeddings(qk.float(), pos_ids)
        return rotated.to(qk.dtype)

    def step(self, x: Tensor, cache: KeyValue | None, window: int) -> tuple[Tensor, KeyValue]:
        """The newest tubelet x (B, N, D) over the cached ones -> (B, N, D).

        Cached keys are not turned in time. V-JEPA 2's rotation is not one of pairs (each half of a
        pair turns by another angle), so that positions do not cancel out as those of rotary
        embeddings do: keys are turned to their place in the window, which it has seen in training.
        """
        q, k, v = (
            project(x).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # (B, H, N, E)
        places = self.get_position_ids(x)  # all of tubelet 0, which turns nothing
        q, k = (self.apply_rotary_embeddings(part, places) for part in (q, k))
        newest = KeyValue(k.unsqueeze(2), v.unsqueeze(2))
        cache = newest if cache is None else cache.extended(newest, window)
        count = cache.keys.shape[2]
        attended = functional.scaled_dot_product_attention(
            self._turned(q.unsqueeze(2), first=count - 1),
            self._turned(cache.keys, first=0),
            cache.values.flatten(2, 3),
        )
        return self.proj(attended.transpose(1, 2).flatten(2)), cache

    def _turned(self, x: Tensor, first: int) -> Tensor:
        """x (B, H, T, N, E), turned in time from tubelet `first` on -> (B, H, T*N, E)."""
        tubelets, tokens = x.shape[2:4]
        time = torch.arange(first, first + tubelets, device=x.device).repeat_interleave(tokens)
        x = x.flatten(2, 3)
        turned = rotate_queries_or_keys(x[..., : self.d_dim].float(), pos=time).to(x.dtype)
        return torch.cat([turned, x[..., self.d_dim :]], dim=-1)


class XEncoder(nn.Module):
    """Pictures -> visual tokens, of a whole window or of the newest tubelet."""

    def __init__(self, config: XEncoderConfig) -> None:
        super().__init__()
        self.config = config
        # Rotary positions come from crop_size, whatever the pictures' size: both are one number.
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
        """A window (B, F, S, S, 3) uint8, seen as a whole -> (B, T*N, D).

        One frame alone is taken twice by V-JEPA 2, as in its training on pictures.
        """
        return self.model(self._pixels(images), skip_predictor=True).last_hidden_state

    def step(
        self, images: Tensor, caches: list[KeyValue | None], window: int
    ) -> tuple[Tensor, list[KeyValue | None]]:
        """The newest tubelet (B, F, S, S, 3) uint8 over `caches`, one per layer -> (B, N, D)."""
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
        """(B, F, S, S, 3) uint8 -> (B, F, 3, S, S) as V-JEPA 2 takes them."""
        _, frames, height, width, _ = images.shape
        size, per = self.config.image_size, self.config.tubelet_frames
        if (height, width) != (size, size):
            raise ValueError(
                f'pictures of {height}x{width} do not match the model ({size}x{size})'
            )
        if frames != 1 and frames % per:
            raise ValueError(
                f'{frames} frames are not a multiple of the {per} of a tubelet: V-JEPA 2 would '
                f'drop the last'
            )
        weight = self.model.encoder.embeddings.patch_embeddings.proj.weight
        mean, deviation = (images.new_tensor(x, dtype=torch.float32) for x in (MEAN, DEVIATION))
        return ((images / 255.0 - mean) / deviation).movedim(-1, 2).to(weight.dtype)
