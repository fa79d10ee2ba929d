# SPDX-License-Identifier: Apache-2.0
"""One-to-one matching of predicted to true events by time, and the resulting F1.

`Counts` are the numbers of matched, predicted and true events of S streams: (S, 3), float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.evaluate.statistics import Draws, Mean, redrawn

Counts = NDArray[np.float64]
ROUNDING_S = 1e-6


def match(options: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return a maximum one-to-one matching as index pairs (predicted, true), sorted.

    `options[i]` lists the true events that predicted event i can match, the best first.
    """
    owner: dict[int, int] = {}  # true event -> predicted event

    def place(event: int, tried: set[int]) -> bool:
        for true in options[event]:
            if true in tried:
                continue
            tried.add(true)
            if true not in owner or place(owner[true], tried):
                owner[true] = event
                return True
        return False

    for event in range(len(options)):
        place(event, set())
    return sorted((predicted, true) for true, predicted in owner.items())


def matched(options: Sequence[Sequence[int]]) -> int:
    """Return the size of a maximum one-to-one matching (see `match`)."""
    return len(match(options))


def near(
    predicted_s: Sequence[float], true_s: Sequence[float], within_s: float
) -> list[list[int]]:
    """Return, for each predicted time, the indices of the true times that `match` may pair.

    These are the true times at most `within_s` away, nearest first.
    """
    limit = within_s + ROUNDING_S
    found = [[j for j, true in enumerate(true_s) if abs(at - true) <= limit] for at in predicted_s]
    return [
        sorted(row, key=lambda j: abs(at - true_s[j]))
        for at, row in zip(predicted_s, found, strict=True)
    ]


def pairs(predicted_s: Sequence[float], true_s: Sequence[float], within_s: float) -> int:
    """Return the maximum number of one-to-one pairs of times at most `within_s` apart."""
    return matched(near(predicted_s, true_s, within_s))


def f1(counts: Counts, streams: Sequence[str]) -> Mean:
    """Return the F1 over the events of all streams; its `count` is the number of true events."""
    return f1_draws(counts, streams).interval()


def f1_draws(counts: Counts, streams: Sequence[str]) -> Draws:
    """Return the F1 with bootstrap values, which can be paired with other counts of these streams.

    If there are few streams, events (matched, false or missed) are resampled as well (see
    `statistics`).
    """
    rows, names = list[tuple[float, float, float]](), list[str]()
    for name, (matched, predicted, true) in zip(streams, counts.astype(int), strict=True):
        rows += [(0.0, 0.0, 0.0)]  # streams without events are drawn, too
        rows += [(1.0, 1.0, 1.0)] * matched
        rows += [(0.0, 1.0, 0.0)] * (predicted - matched) + [(0.0, 0.0, 1.0)] * (true - matched)
        names += [name] * (len(rows) - len(names))
    events = np.array(rows).reshape(-1, 3)

    def figure(weight: NDArray[np.float64]) -> float:
        matched, predicted, true = weight @ events
        return float(2 * matched / (predicted + true)) if predicted + true else float('nan')

    return replace(redrawn(figure, names), count=int(counts[:, 2].sum()))
