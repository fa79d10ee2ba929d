# SPDX-License-Identifier: Apache-2.0
"""Means with 95% bootstrap intervals, over items or over groups that weigh the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
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


@dataclass(frozen=True)
class Draws:
    """A figure of `count` items, and what it is for items that are drawn again."""

    value: float
    drawn: NDArray[np.float64]
    count: int

    def interval(self) -> Mean:
        """With its 95% interval; NaN where nothing could be drawn."""
        if np.isnan(self.value) or not np.isfinite(self.drawn).any():
            return Mean(self.value, float('nan'), float('nan'), self.count)
        low, high = np.nanpercentile(self.drawn, [2.5, 97.5])
        return Mean(self.value, float(low), float(high), self.count)


def mean(
    values: Sequence[float] | NDArray[np.float64],
    groups: Sequence[Hashable] = (),
    seed: int = 0,
    clusters: Sequence[Hashable] = (),
) -> Mean:
    """The mean of `values`; with `groups`, the mean of the groups' means (macro-average).

    Items are drawn again within their group. With `clusters` (streams, whose items depend on one
    another) whole clusters are, and one cluster alone has no interval. No values give NaN.
    """
    return draws(values, groups, clusters, seed).interval()


def draws(
    values: Sequence[float] | NDArray[np.float64],
    groups: Sequence[Hashable] = (),
    clusters: Sequence[Hashable] = (),
    seed: int = 0,
) -> Draws:
    """As `mean`, with its draws: they pair with those of other values of the same items."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return Draws(float('nan'), np.full(DRAWS, np.nan), 0)
    group, cluster = _numbers(groups, len(array), 'groups'), _numbers(clusters, len(array))
    rng = np.random.default_rng(seed)
    parts = [array[group == g] for g in range(group.max() + 1)]
    value = float(np.mean([part.mean() for part in parts]))
    if clusters:
        return Draws(value, _drawn_clusters(array, group, cluster, rng), len(array))
    again = [rng.choice(part, (DRAWS, len(part))).mean(axis=1) for part in parts]
    return Draws(value, np.mean(again, axis=0), len(array))


def _numbers(names: Sequence[Hashable], count: int, what: str = 'clusters') -> NDArray[np.int64]:
    """Names as numbers, in the order in which they come; one number for no names."""
    if names and len(names) != count:
        raise ValueError(f'{len(names)} {what} for {count} values')
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names or [0] * count])


def _drawn_clusters(
    array: NDArray[np.float64],
    group: NDArray[np.int64],
    cluster: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(DRAWS,) macro-averages over the groups that a draw of clusters has."""
    count = int(cluster.max()) + 1
    if count < 2:
        return np.full(DRAWS, np.nan)
    sums, sizes = np.zeros((2, count, int(group.max()) + 1))
    np.add.at(sums, (cluster, group), array)
    np.add.at(sizes, (cluster, group), 1.0)
    weight = rng.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)
    total, there = weight @ sums, weight @ sizes
    means = np.where(there > 0, total / np.maximum(there, 1.0), 0.0)
    return np.asarray(means.sum(axis=1) / (there > 0).sum(axis=1), np.float64)


def share(part: Draws, whole: Draws) -> Mean:
    """A figure as a share of another of the same items."""
    with np.errstate(divide='ignore', invalid='ignore'):
        value = float(np.divide(part.value, whole.value))
        return Draws(value, part.drawn / whole.drawn, part.count).interval()


def more(one: Draws, other: Draws) -> Mean:
    """By how much a figure is above another of the same items."""
    return Draws(one.value - other.value, one.drawn - other.drawn, one.count).interval()


def harmonic(one: Draws, other: Draws) -> Mean:
    """The harmonic mean of two figures."""
    with np.errstate(divide='ignore', invalid='ignore'):
        value = float(np.divide(2 * one.value * other.value, one.value + other.value))
        drawn = 2 * one.drawn * other.drawn / (one.drawn + other.drawn)
    return Draws(
        0.0 if one.value + other.value == 0 else value, drawn, one.count + other.count
    ).interval()


def redrawn(
    figure: Callable[[NDArray[np.float64]], float], clusters: Sequence[Hashable], seed: int = 0
) -> Draws:
    """A figure that weighs its items, (N,) -> value, for whole clusters that are drawn again."""
    cluster = _numbers(clusters, len(clusters))
    if not len(cluster):
        return Draws(float('nan'), np.full(DRAWS, np.nan), 0)
    value, count = figure(np.ones(len(cluster))), int(cluster.max()) + 1
    if count < 2:
        return Draws(value, np.full(DRAWS, np.nan), len(cluster))
    rng = np.random.default_rng(seed)
    weight = rng.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)
    return Draws(value, np.array([figure(row[cluster]) for row in weight]), len(cluster))


def quantile(
    values: Sequence[float] | NDArray[np.float64],
    share: float,
    weight: NDArray[np.float64] | None = None,
) -> float:
    """The least of the values that `share` of all are not above; NaN of none."""
    array = np.asarray(values, np.float64)
    mass = np.ones(len(array)) if weight is None else weight
    if not mass.sum():
        return float('nan')
    order = np.argsort(array, kind='stable')
    up_to = np.cumsum(mass[order])
    return float(array[order][np.searchsorted(up_to, share * up_to[-1] - 1e-9)])


def ece(
    confidence: Sequence[float] | NDArray[np.float64],
    right: Sequence[bool] | NDArray[np.bool_],
    weight: NDArray[np.float64] | None = None,
    bins: int = 15,
) -> float:
    """Expected calibration error: |confidence - share right| in bins of equal mass, on average.

    Items of one confidence share a bin: the one that the middle of their mass is in.
    """
    values, at = np.unique(np.asarray(confidence, np.float64), return_inverse=True)
    mass = np.ones(len(at)) if weight is None else weight
    if not mass.sum():
        return float('nan')
    of_value = np.bincount(at, mass, len(values))
    share_below = (np.cumsum(of_value) - of_value / 2) / mass.sum()
    bin_of = np.minimum((bins * share_below).astype(np.int64), bins - 1)[at]
    off = np.bincount(bin_of, mass * (values[at] - np.asarray(right, np.float64)), bins)
    return float(np.abs(off).sum() / mass.sum())


def auroc(
    score: Sequence[float] | NDArray[np.float64],
    positive: Sequence[bool] | NDArray[np.bool_],
    weight: NDArray[np.float64] | None = None,
) -> float:
    """How often a positive has the higher score than a negative, ties half; NaN without a pair."""
    values, at = np.unique(np.asarray(score, np.float64), return_inverse=True)
    mass, is_positive = np.ones(len(at)) if weight is None else weight, np.asarray(positive, bool)
    up = np.bincount(at, mass * is_positive, len(values))
    down = np.bincount(at, mass * ~is_positive, len(values))
    pairs = up.sum() * down.sum()
    won = (up * (np.cumsum(down) - down / 2)).sum()
    return float(won / pairs) if pairs else float('nan')
