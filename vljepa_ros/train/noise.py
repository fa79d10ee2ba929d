# SPDX-License-Identifier: Apache-2.0
"""Noise on text embeddings in training, so that predictions, which are never exact, can be read.

CapDec (Nukrai et al., arXiv 2211.00575) adds even Gaussian noise; CLOSE (Gu et al., arXiv
2211.09778, section 4.3) finds that noise shaped like the measured differences does better.

Shapes: N vectors, R residuals, D embedding_dim.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

ENOUGH_PAIRS = 200  # below, a covariance says more about the pairs than about the model


class Noise(Protocol):
    """Draws what is added to unit vectors (N, D)."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """(N, D)."""
        ...


class EvenNoise:
    """In all directions alike, of a random length up to `length`."""

    def __init__(self, length: float) -> None:
        self.length = length

    def __call__(self, vectors: Tensor) -> Tensor:
        """(N, D)."""
        direction = functional.normalize(torch.randn_like(vectors), dim=-1)
        length = self.length * torch.rand(len(vectors), 1, device=vectors.device)
        return length * direction


class MeasuredNoise:
    """Of the covariance of residuals: predictions less the texts that they should be.

    What few residuals cannot tell is shared evenly among all directions, by as much as Ledoit and
    Wolf (2004) find best; drawn from the residuals themselves, a covariance (D, D) is not needed.
    """

    def __init__(self, residuals: Tensor) -> None:
        from sklearn.covariance import ledoit_wolf_shrinkage

        centred = residuals - residuals.mean(dim=0)
        even = float(ledoit_wolf_shrinkage(centred.cpu().numpy(), assume_centered=True))
        count, dim = centred.shape
        self._parts = centred * math.sqrt((1 - even) / count)
        self._even = math.sqrt(even * float(centred.square().sum()) / (count * dim))

    def __call__(self, vectors: Tensor) -> Tensor:
        """(N, D)."""
        weight = vectors.new_empty(len(vectors), len(self._parts)).normal_()
        return weight @ self._parts + self._even * torch.randn_like(vectors)
