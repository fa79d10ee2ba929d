# SPDX-License-Identifier: Apache-2.0
"""Events said against events that were: one-to-one within a time, and the F1 over streams.

Counts are (S, 3) float64, of S streams: matched, said, true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.evaluate.statistics import Mean, redrawn

Counts = NDArray[np.float64]
ROUNDING_S = 1e-6


def pairs(said_s: Sequence[float], true_s: Sequence[float], within_s: float) -> int:
    """The most one-to-one pairs that are at most `within_s` apart.

    The earliest of both are paired wherever they can be: as all may be equally far apart, no other
    way gives more.
    """
    said, true = sorted(said_s), sorted(true_s)
    i = j = found = 0
    while i < len(said) and j < len(true):
        near = abs(said[i] - true[j]) <= within_s + ROUNDING_S
        found += near
        first = said[i] <= true[j]
        i += near or first
        j += near or not first
    return found


def f1(counts: Counts, streams: Sequence[str]) -> Mean:
    """Of all events together, streams drawn again; its count is that of the true events."""

    def figure(weight: NDArray[np.float64]) -> float:
        matched, said, true = weight @ counts
        return float(2 * matched / (said + true)) if said + true else float('nan')

    found = redrawn(figure, streams).interval()
    return replace(found, count=int(counts[:, 2].sum()))
