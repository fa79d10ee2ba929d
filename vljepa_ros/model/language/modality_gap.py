# SPDX-License-Identifier: Apache-2.0
"""From predicted vectors to where texts lie, for a decoder that has only read texts.

Predictions and texts differ by more than chance: their means lie apart (`Bridge.place`, as Zhang
et al., arXiv 2401.08567, collapse the gap between modalities), and predictions leave the surface
that sentences lie on (`Bridge.project`, as DeCap, Li et al., arXiv 2303.03032).

Shapes: N vectors, D embedding_dim, M anchors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = 2  # of prompts: what happens, and questions


class Bridge(nn.Module):
    """`gap` (2, D): by how much the mean of predictions is off that of texts, for each kind of
    prompt; anchors (M, D). A gap of 0 moves nothing; without anchors nothing is projected.
    """

    gap: Tensor
    anchors: Tensor

    def __init__(self, dim: int, anchors: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer('gap', torch.zeros(KINDS, dim))
        self.register_buffer('anchors', torch.zeros(anchors, dim))

    def forward(self, vectors: Tensor, asked: bool) -> Tensor:
        """Predictions (N, D) -> unit vectors (N, D); `asked`: they answer questions."""
        return self.project(self.place(vectors, asked))

    def place(self, vectors: Tensor, asked: bool) -> Tensor:
        """Predictions moved by the gap of their kind."""
        return functional.normalize(vectors - self.gap[int(asked)], dim=-1)

    def project(self, vectors: Tensor) -> Tensor:
        """The mean of the anchors, weighed by how near they are."""
        if not len(self.anchors):
            return vectors
        weight = (vectors @ self.anchors.T / self.temperature).softmax(dim=-1)
        return functional.normalize(weight @ self.anchors, dim=-1)
