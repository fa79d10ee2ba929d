# SPDX-License-Identifier: Apache-2.0
"""Weights of a pre-norm transformer block, and the parts of its forward pass around attention.

Shapes: L tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Transformer block with pre-norm attention and MLP; subclasses compute the attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values of x (..., L, D), each (..., H, L, E)."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.movedim(-3, 0)  # (..., L, H, E) each
        return q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention output (..., H, L, E) and the MLP output to x (..., L, D)."""
        x = x + self.project(attended.transpose(-2, -3).flatten(-2))
        return x + self.mlp(self.norm_mlp(x))
