# SPDX-License-Identifier: Apache-2.0
"""Transformer block of the streaming X-Encoder and Predictor, with three forward passes.

- `band` processes all tubelets at once with a block-causal mask (training).
- `step` processes the newest tubelet, which attends to cached keys and values (streaming).
- `suffix` processes the prompt and answer tokens of the Predictor (a "suffix"), which attend to
  one window of visual tokens and to each other.
Keys are cached before the rotary embedding and rotated by their age, so repeated calls of `step`
have the same results as one call of `band`.

Shapes: B batch, T tubelets, N tokens per tubelet, D width, H heads, E = D / H, W attention window
in tubelets, G suffixes, S tokens per suffix, V visual tokens of a window.
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
    """Cache of one attention layer: keys and values (B, H, T, N, E), oldest tubelet first.

    The keys are stored before their rotation in time.
    """

    keys: Tensor
    values: Tensor

    def extended(self, newer: KeyValue, window: int) -> KeyValue:
        """Return this cache plus `newer` tubelets, limited to the newest `window` tubelets."""
        keys = torch.cat([self.keys, newer.keys], dim=2)[:, :, -window:]
        values = torch.cat([self.values, newer.values], dim=2)[:, :, -window:]
        return KeyValue(keys, values)


class Block(TransformerBlock):
    """Transformer block with rotary attention over time, for whole clips and for streams."""

    def band(self, x: Tensor, mask: Tensor) -> tuple[Tensor, KeyValue]:
        """Process all tubelets of clips at once.

        Args:
            x: Tokens (B, T, N, D).
            mask: (T*N, T*N), true where attention is allowed; see `band_mask`.

        Returns:
            The output, of the shape of x, and the keys and values of all tubelets.
        """
        _, tubelets, tokens, _ = x.shape
        q, k, v = self.split(x.flatten(1, 2))  # (B, H, T*N, E)
        index = torch.arange(tubelets, device=x.device).repeat_interleave(tokens)
        attended = attend(rotate(q, index), rotate(k, index), v, mask)
        out = self.finish(x.flatten(1, 2), attended)
        cache = KeyValue(k.unflatten(2, (tubelets, tokens)), v.unflatten(2, (tubelets, tokens)))
        return out.unflatten(1, (tubelets, tokens)), cache

    def step(self, x: Tensor, cache: KeyValue | None, window: int) -> tuple[Tensor, KeyValue]:
        """Process the newest tubelet, which attends to itself and to cached older tubelets.

        Args:
            x: Tokens of the newest tubelet (B, N, D).
            cache: Keys and values of older tubelets; None at the start of a stream.
            window: Maximum number of tubelets in the returned cache.

        Returns:
            The output, of the shape of x, and the cache including the newest tubelet.
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
        """Process prompt and answer tokens, which attend to visual tokens and to each other.

        Args:
            x: Prompt and answer tokens (G, S, D).
            keys: Keys of the visual tokens (G, H, V, E), rotated by minus their age or, with
                `index`, by the index of their tubelet. The results are equal, because attention
                depends on differences of positions only.
            values: Values of the visual tokens (G, H, V, E).
            mask: (G, 1, 1, V + S), true where attention is allowed.
            index: Index of the tubelet at which each suffix is evaluated, (G,).

        Returns:
            The output, of the shape of x.
        """
        q, k, v = self.split(x)  # (G, H, S, E)
        if index is not None:
            q, k = rotate(q, index[:, None, None]), rotate(k, index[:, None, None])
        attended = attend(q, torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2), mask)
        return self.finish(x, attended)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute scaled dot-product attention, with a faster backward pass on a CPU.

    Args:
        q: Queries (..., L, E).
        k: Keys (..., V, E).
        v: Values (..., V, E).
        mask: Broadcasts to (..., L, V), true where attention is allowed; None: everywhere.

    Returns:
        The output (..., L, E).
    """
    if not (q.requires_grad and q.device.type == 'cpu'):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On a CPU, the backward pass of the fused kernel takes a third of the time of a training step;
    # the backward pass of this code takes a tenth.
    score = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    if mask is not None:
        score = score.masked_fill(~mask, -1e4)
    return score.softmax(dim=-1).to(v.dtype) @ v


def ages(count: int, device: torch.device) -> Tensor:
    """Return the ages (count,) of cached tubelets, in tubelets, oldest first: count - 1 to 0."""
    return torch.arange(count - 1, -1, -1, device=device)


def band_mask(tubelets: int, tokens: int, window: int, device: torch.device) -> Tensor:
    """Return a block-causal attention mask (queries T*N, keys T*N), true where allowed.

    A token may attend to the tokens of its own tubelet and of the W - 1 tubelets before it.

    Args:
        tubelets: Number of tubelets T.
        tokens: Number of tokens per tubelet N.
        window: Attention window W in tubelets.
        device: Device of the mask.
    """
    index = torch.arange(tubelets, device=device).repeat_interleave(tokens)
    age = index[:, None] - index[None, :]
    return (age >= 0) & (age < window)
