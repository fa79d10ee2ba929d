# SPDX-License-Identifier: Apache-2.0
"""Pre-norm transformer block without its attention, which each model implements.

Shapes: L tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Base class of pre-norm transformer blocks; subclasses compute the attention itself."""

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
        """Normalize x (..., L, D) and return its queries, keys and values, (..., H, L, E) each."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.movedim(-3, 0)  # (..., L, H, E) each
        return q.transpose(-2, -3), k.transpose(-2, -3), v.transpose(-2, -3)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output (..., L, D): x plus projected attention plus MLP.

        Args:
            x: Input of the block (..., L, D).
            attended: Output of the attention (..., H, L, E).
        """
        x = x + self.project(attended.transpose(-2, -3).flatten(-2))
        return x + self.mlp(self.norm_mlp(x))
