# SPDX-License-Identifier: Apache-2.0
"""The transformer block of X-Encoder and Predictor: one set of weights, three forward passes.

Shapes: B batch, T tubelets, N tokens per tubelet, D width, H heads, E = D / H, W window
(tubelets), G suffix groups, S tokens of a suffix, V visual keys of a window.

- `band`: all tubelets at once with a banded mask (training);
- `step`: the newest tubelet attends to cached keys and values (streaming);
- `suffix`: prompt and answer tokens attend to one window of visual keys and to each other.
Keys are cached unrotated and rotated by their age, so repeated `step` equals `band` exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vljepa_ros.model.streaming.rope import rotate
from vljepa_ros.model.transformer_block import TransformerBlock


@dataclass
class KeyValue:
    """Unrotated keys and values of the newest tubelets: (B, H, at most W, N, E) each."""

    keys: Tensor
    values: Tensor

    def extended(self, newer: KeyValue, window: int) -> KeyValue:
        """Return a cache with the `newer` tubelet appended and at most `window` tubelets."""
        keys = torch.cat([self.keys, newer.keys], dim=2)[:, :, -window:]
        values = torch.cat([self.values, newer.values], dim=2)[:, :, -window:]
        return KeyValue(keys, values)


class Block(TransformerBlock):
    """Transformer block with the three forward passes of the streaming model."""

    def band(self, x: Tensor, mask: Tensor) -> tuple[Tensor, KeyValue]:
        """Process all tubelets x (B, T, N, D) with a mask.

        `mask` (T*N, T*N) is true where attention is allowed. Returns the output, of the shape of
        x, and the cache.
        """
        _, tubelets, tokens, _ = x.shape
        q, k, v = self.split(x.flatten(1, 2))  # (B, H, T*N, E)
        index = torch.arange(tubelets, device=x.device).repeat_interleave(tokens)
        attended = attend(rotate(q, index), rotate(k, index), v, mask)
        out = self.finish(x.flatten(1, 2), attended)
        cache = KeyValue(k.unflatten(2, (tubelets, tokens)), v.unflatten(2, (tubelets, tokens)))
        return out.unflatten(1, (tubelets, tokens)), cache

    def step(self, x: Tensor, cache: KeyValue | None, window: int) -> tuple[Tensor, KeyValue]:
        """Process the newest tubelet x (B, N, D), which attends to the cache of older ones.

        Returns the output, of the shape of x, and the updated cache of at most `window` tubelets.
        """
        q, k, v = self.split(x)  # (B, H, N, E)
        newest = KeyValue(k.unsqueeze(2), v.unsqueeze(2))
        cache = newest if cache is None else cache.extended(newest, window)
        keys = rotate(cache.keys, -ages(cache.keys.shape[2], x.device)[:, None])
        attended = attend(q, keys.flatten(2, 3), cache.values.flatten(2, 3))
        return self.finish(x, attended), cache

    def suffix(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor, index: Tensor | None = None
    ) -> Tensor:
        """Process suffix tokens, which attend to visual keys and to each other.

        Args:
            x: Suffix tokens (G, S, D).
            keys: Visual keys (G, H, V, E) of one window, already rotated: by minus their age, or
                by the index of their tubelet if `index` is given. Both give the same result,
                because only differences of positions matter.
            values: Visual values (G, H, V, E).
            mask: (G, 1, 1, V + S), true where attention is allowed.
            index: Tubelet of each suffix (G,).

        Returns:
            The output, of the shape of x.
        """
        q, k, v = self.split(x)  # (G, H, S, E)
        if index is not None:
            q, k = rotate(q, index[:, None, None]), rotate(k, index[:, None, None])
        attended = attend(q, torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2), mask)
        return self.finish(x, attended)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute attention of q (..., L, E) to k and v (..., V, E) where `mask` is true."""
    if not (q.requires_grad and q.device.type == 'cpu'):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On a CPU, the backward pass of the fused kernel takes a third of a training step; that of
    # this code takes a tenth.
    score = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    if mask is not None:
        score = score.masked_fill(~mask, -1e4)
    return score.softmax(dim=-1).to(v.dtype) @ v


def ages(count: int, device: torch.device) -> Tensor:
    """Return the ages of `count` cached tubelets, oldest first: count - 1 to 0."""
    return torch.arange(count - 1, -1, -1, device=device)


def band_mask(tubelets: int, tokens: int, window: int, device: torch.device) -> Tensor:
    """Return the mask (T*N, T*N): true if the key's tubelet is the query's or in the W - 1 before.

    Args:
        tubelets: T.
        tokens: N.
        window: W.
        device: Device of the mask.
    """
    index = torch.arange(tubelets, device=device).repeat_interleave(tokens)
    age = index[:, None] - index[None, :]
    return (age >= 0) & (age < window)
