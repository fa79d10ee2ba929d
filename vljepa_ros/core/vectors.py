# SPDX-License-Identifier: Apache-2.0
"""Normalize and average vectors, and round numbers to the precision of messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar('Float', np.float32, np.float64)


def unit(vectors: NDArray[Float]) -> NDArray[Float]:
    """Normalize vectors (..., D) to unit norm in the same dtype; a zero vector stays zero."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-12), dtype=vectors.dtype)


def pooled(
    vectors: Sequence[NDArray[np.float32]] | NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the mean (..., D) of N vectors (N, ..., D), normalized to unit norm."""
    return unit(np.asarray(np.mean(vectors, axis=0), np.float32))


def as_sent(value: float | np.floating[Any]) -> float:
    """Round a number to float32, as in messages, so that live and offline runs agree."""
    return float(np.float32(value))
