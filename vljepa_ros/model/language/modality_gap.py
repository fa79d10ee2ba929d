# SPDX-License-Identifier: Apache-2.0
"""Correction of the modality gap between predicted vectors and text embeddings.

A text decoder that is trained on text embeddings alone requires this correction, because predicted
vectors differ systematically from text embeddings of the same meaning: their means differ, and
predicted vectors lie off the manifold of text embeddings. `GapCorrection.place` re-centers
predicted vectors (Zhang et al., arXiv 2401.08567), and `GapCorrection.project` projects them onto
text embeddings (DeCap, Li et al., arXiv 2303.03032).

Shapes: N vectors, D embedding_dim, M anchors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = 2  # kinds of prompts: descriptions and questions


class GapCorrection(nn.Module):
    """Corrects the modality gap by re-centering and projecting predicted vectors.

    `gap` (2, D): mean of predicted vectors minus mean of text embeddings, for prompts that request
    a description and for questions. `anchors` (M, D): embeddings of sentences to project on. Zeros
    in `gap` disable re-centering, and an empty `anchors` disables the projection.
    """

    gap: Tensor
    anchors: Tensor

    def __init__(self, dim: int, anchors: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer('gap', torch.zeros(KINDS, dim))
        self.register_buffer('anchors', torch.zeros(anchors, dim))

    def forward(self, vectors: Tensor, asked: bool) -> Tensor:
        """Re-center and project predicted vectors (N, D); return unit vectors (N, D).

        Args:
            vectors: Predicted vectors.
            asked: Whether they answer questions.
        """
        return self.project(self.place(vectors, asked))

    def place(self, vectors: Tensor, asked: bool) -> Tensor:
        """Subtract the difference of the means from predicted vectors; return unit vectors (N, D).

        Args:
            vectors: Predicted vectors (N, D).
            asked: Whether they answer questions, which have a difference of their own.
        """
        return functional.normalize(vectors - self.gap[int(asked)], dim=-1)

    def project(self, vectors: Tensor) -> Tensor:
        """Replace each vector (N, D) by the mean of the anchors, weighted by their similarity.

        The result has unit norm. Without anchors, the vectors are returned unchanged.
        """
        if not len(self.anchors):
            return vectors
        weight = (vectors @ self.anchors.T / self.temperature).softmax(dim=-1)
        return functional.normalize(weight @ self.anchors, dim=-1)
