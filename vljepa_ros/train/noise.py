# SPDX-License-Identifier: Apache-2.0
"""Noise on text embeddings in training, so that predictions, which are never exact, can be read.

CapDec (Nukrai et al., arXiv 2211.00575) adds even Gaussian noise; CLOSE (Gu et al., arXiv
2211.09778, section 4) finds that noise shaped like the measured differences does better.

Shapes: N vectors, R residuals, D embedding_dim.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LEAST_COSINE = 0.2  # of a prediction to its text: what is farther is taken as so far
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
    """As predictions (R, D) differ from the texts (R, D) that they should be, both of unit norm.

    A prediction is taken as long as it must be to have the text as its part in the text's own
    direction: what is added then survives that the sum is made a unit vector again. What few
    residuals cannot tell is shared evenly among all directions.
    """

    def __init__(self, predictions: Tensor, texts: Tensor) -> None:
        cosine = (predictions * texts).sum(dim=-1, keepdim=True).clamp(min=LEAST_COSINE)
        residuals = predictions / cosine - texts
        centred = residuals - residuals.mean(dim=0)
        even, (count, dim) = shrinkage(centred), centred.shape
        self._parts = centred * math.sqrt((1 - even) / count)
        self._even = math.sqrt(even * float(centred.square().sum()) / (count * dim))

    def __call__(self, vectors: Tensor) -> Tensor:
        """(N, D)."""
        weight = vectors.new_empty(len(vectors), len(self._parts)).normal_()
        return weight @ self._parts + self._even * torch.randn_like(vectors)


def shrinkage(centred: Tensor) -> float:
    """How much of the covariance of (R, D) is better taken as even, 0..1 (Ledoit, Wolf 2004)."""
    count, dim = centred.shape
    gram = centred @ centred.T
    mean_variance = float(gram.trace()) / (count * dim)
    squared = float(gram.square().sum()) / count**2
    uneven = squared / dim - mean_variance**2
    scatter = (float(gram.diagonal().square().sum()) / count - squared) / (count * dim)
    return min(max(scatter / uneven, 0.0), 1.0) if uneven > 0 else 1.0
