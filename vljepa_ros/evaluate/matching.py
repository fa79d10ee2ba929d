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


def matched(options: Sequence[Sequence[int]]) -> int:
    """The most one-to-one pairs; `options[said]` are the true events that may be its own."""
    owner: dict[int, int] = {}  # true event -> said event

    def place(event: int, tried: set[int]) -> bool:
        for true in options[event]:
            if true in tried:
                continue
            tried.add(true)
            if true not in owner or place(owner[true], tried):
                owner[true] = event
                return True
        return False

    return sum(place(event, set()) for event in range(len(options)))


def pairs(said_s: Sequence[float], true_s: Sequence[float], within_s: float) -> int:
    """The most one-to-one pairs that are at most `within_s` apart."""
    near = within_s + ROUNDING_S
    return matched(
        [[j for j, true in enumerate(true_s) if abs(at - true) <= near] for at in said_s]
    )


def f1(counts: Counts, streams: Sequence[str]) -> Mean:
    """Of all events together, streams drawn again; its count is that of the true events."""

    def figure(weight: NDArray[np.float64]) -> float:
        matched, said, true = weight @ counts
        return float(2 * matched / (said + true)) if said + true else float('nan')

    found = redrawn(figure, streams).interval()
    return replace(found, count=int(counts[:, 2].sum()))
