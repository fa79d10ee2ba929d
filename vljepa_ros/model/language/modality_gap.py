# SPDX-License-Identifier: Apache-2.0
"""Closes the modality gap between predictions and texts, for a decoder trained on texts only.

Predictions differ from texts systematically. Their means differ, which `GapCorrection.place`
corrects by re-centering (Zhang et al., arXiv 2401.08567), and predictions lie off the manifold of
sentences, which `GapCorrection.project` corrects by projection (DeCap, Li et al., arXiv
2303.03032).

Shapes: N vectors, D embedding_dim, M anchors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = 2  # kinds of prompts: descriptions and questions


class GapCorrection(nn.Module):
    """Re-centering and projection of predicted vectors.

    `gap` (2, D): mean of predictions minus mean of texts, for each kind of prompt. `anchors`
    (M, D): embeddings of sentences. A gap of 0 changes nothing; without anchors there is no
    projection.
    """

    gap: Tensor
    anchors: Tensor

    def __init__(self, dim: int, anchors: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer('gap', torch.zeros(KINDS, dim))
        self.register_buffer('anchors', torch.zeros(anchors, dim))

    def forward(self, vectors: Tensor, asked: bool) -> Tensor:
        """Map predictions (N, D) to unit vectors (N, D); `asked`: they answer questions."""
        return self.project(self.place(vectors, asked))

    def place(self, vectors: Tensor, asked: bool) -> Tensor:
        """Re-center predictions (N, D) by the gap of their kind of prompt."""
        return functional.normalize(vectors - self.gap[int(asked)], dim=-1)

    def project(self, vectors: Tensor) -> Tensor:
        """Return, for each vector (N, D), the unit mean of the anchors, weighted by similarity."""
        if not len(self.anchors):
            return vectors
        weight = (vectors @ self.anchors.T / self.temperature).softmax(dim=-1)
        return functional.normalize(weight @ self.anchors, dim=-1)
