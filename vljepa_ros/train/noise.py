# SPDX-License-Identifier: Apache-2.0
"""Noise on text embeddings in decoder training, so that inexact predictions can be decoded.

CapDec (Nukrai et al., arXiv 2211.00575) adds isotropic Gaussian noise. CLOSE (Gu et al., arXiv
2211.09778, section 4) finds noise with the covariance of measured differences between the
modalities better.

Shapes: N vectors, R residuals (differences between predictions and texts), D embedding_dim.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LEAST_COSINE = 0.2  # lower limit of the cosine between a prediction and its text
ENOUGH_PAIRS = 200  # with fewer pairs, the estimated covariance depends mostly on the sample


class Noise(Protocol):
    """Callable that draws random noise to add to unit vectors."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return random noise (N, D) to add to unit vectors (N, D)."""
        ...


class IsotropicNoise:
    """Noise of random direction, with a norm that is uniform between 0 and `length`."""

    def __init__(self, length: float) -> None:
        self.length = length

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return random noise (N, D) to add to unit vectors (N, D)."""
        direction = functional.normalize(torch.randn_like(vectors), dim=-1)
        length = self.length * torch.rand(len(vectors), 1, device=vectors.device)
        return length * direction


class MeasuredNoise:
    """Gaussian noise with the covariance of the differences between predictions and texts.

    `predictions` and `texts` are unit vectors (R, D). Each prediction is first scaled so that its
    difference from the text is orthogonal to the text; text plus difference still points in the
    direction of the prediction. The covariance is shrunk towards that of isotropic noise, because
    few residuals do not determine all of it.
    """

    def __init__(self, predictions: Tensor, texts: Tensor) -> None:
        cosine = (predictions * texts).sum(dim=-1, keepdim=True).clamp(min=LEAST_COSINE)
        residuals = predictions / cosine - texts
        centered = residuals - residuals.mean(dim=0)
        isotropic, (count, dim) = shrinkage(centered), centered.shape
        self._parts = centered * math.sqrt((1 - isotropic) / count)
        self._isotropic = math.sqrt(isotropic * float(centered.square().sum()) / (count * dim))

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return random noise (N, D) to add to unit vectors (N, D)."""
        weight = vectors.new_empty(len(vectors), len(self._parts)).normal_()
        return weight @ self._parts + self._isotropic * torch.randn_like(vectors)


def shrinkage(centered: Tensor) -> float:
    """Return the Ledoit-Wolf shrinkage intensity, 0..1, of the covariance of residuals (R, D).

    It is the weight of the isotropic covariance. The mean of the residuals must be 0. Source:
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices"
    (2004).
    """
    count, dim = centered.shape
    gram = centered @ centered.T
    mean_variance = float(gram.trace()) / (count * dim)
    squared = float(gram.square().sum()) / count**2
    anisotropic = squared / dim - mean_variance**2
    scatter = (float(gram.diagonal().square().sum()) / count - squared) / (count * dim)
    return min(max(scatter / anisotropic, 0.0), 1.0) if anisotropic > 0 else 1.0
