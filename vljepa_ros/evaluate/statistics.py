# SPDX-License-Identifier: Apache-2.0
"""Means with 95% bootstrap intervals, over items or over groups that weigh the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000


@dataclass(frozen=True)
class Mean:
    """A mean of `count` items with its interval."""

    value: float
    low: float
    high: float
    count: int


def mean(
    values: Sequence[float] | NDArray[np.float64], groups: Sequence[Hashable] = (), seed: int = 0
) -> Mean:
    """The mean of `values`; with `groups`, the mean of the groups' means (macro-average).

    Items are drawn again within their group. An empty sequence gives NaN.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Mean(float('nan'), float('nan'), float('nan'), 0)
    names = list(groups) or [0] * len(array)
    if len(names) != len(array):
        raise ValueError(f'{len(names)} groups for {len(array)} values')
    rows: dict[Hashable, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    rng, parts = np.random.default_rng(seed), [array[index] for index in rows.values()]
    drawn = np.mean([rng.choice(part, (DRAWS, len(part))).mean(axis=1) for part in parts], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    value = float(np.mean([part.mean() for part in parts]))
    return Mean(value, float(low), float(high), len(array))
