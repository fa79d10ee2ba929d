# SPDX-License-Identifier: Apache-2.0
"""Results of a metric per item, for paired comparisons of two models on the same items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.evaluate.matching import Counts
from vljepa_ros.evaluate.statistics import Draws, Mean, draws, redrawn

FIELDS = ('ids', 'values', 'groups', 'clusters', 'weights')  # keys of the JSON


@dataclass(frozen=True)
class Outcomes:
    """One value per item: 1 for correct and 0 for wrong, or any number whose mean is the metric.

    `ids`: item ids that do not depend on the model. `groups`, `clusters`: as in `statistics.mean`.
    `weights`: if given, the metric is the sum of values divided by the sum of weights (F1: twice
    the matches divided by predicted plus true events), and `groups` is empty.

    Raises:
        ValueError: The lengths differ, or two items have the same id.
    """

    ids: tuple[str, ...]
    values: tuple[float, ...]
    groups: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the lengths and the ids."""
        for name in FIELDS[1:]:
            found = getattr(self, name)
            if len(found) != len(self.ids) and (found or name == 'values'):
                raise ValueError(f'{len(found)} {name} for {len(self.ids)} ids')
        if len(set(self.ids)) != len(self.ids):
            repeated = next(name for name, count in Counter(self.ids).items() if count > 1)
            raise ValueError(f'two items have the id {repeated!r}')

    def draws(self) -> Draws:
        """Return the metric with bootstrap values, to be paired with others of the same items."""
        if not self.weights:
            return draws(self.values, self.groups, self.clusters)
        return redrawn(self._ratio, self.clusters or self.ids)

    def mean(self) -> Mean:
        """Return the metric with its 95% interval."""
        return self.draws().interval()

    def select(self, ids: Sequence[str]) -> Outcomes:
        """Return the outcomes of the items with these ids, in the order of `ids`."""
        places = {name: i for i, name in enumerate(self.ids)}
        rows = [places[name] for name in ids]
        parts = [getattr(self, name) for name in FIELDS]
        return Outcomes(*(tuple(part[i] for i in rows) if part else () for part in parts))

    def as_json(self) -> dict[str, Any]:
        """Return all nonempty fields as lists, for JSON."""
        return {name: list(part) for name in FIELDS if (part := getattr(self, name))}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Outcomes:
        """Parse the result of `as_json`. Raises KeyError, TypeError or ValueError."""
        return cls(
            tuple(str(name) for name in found['ids']),
            tuple(float(value) for value in found['values']),
            tuple(str(name) for name in found.get('groups', ())),
            tuple(str(name) for name in found.get('clusters', ())),
            tuple(float(value) for value in found.get('weights', ())),
        )

    def _ratio(self, drawn: NDArray[np.float64]) -> float:
        weight = drawn @ np.array(self.weights)
        return float(drawn @ np.array(self.values) / weight) if weight else float('nan')


def unique(ids: Sequence[str]) -> tuple[str, ...]:
    """Return ids with numbered repetitions: a, a, a becomes a, a#2, a#3."""
    seen, found = Counter[str](), []
    for name in ids:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f'{name}#{seen[name]}')
    return tuple(found)


def f1_outcomes(counts: Counts, streams: Sequence[str]) -> Outcomes:
    """Return outcomes whose metric is the F1, with one item per stream.

    Args:
        counts: Numbers of matched, predicted and true events (S, 3).
        streams: Names of the S streams, the ids of the items.
    """
    matched, predicted, true = counts.reshape(-1, 3).T
    values, weights = tuple((2 * matched).tolist()), tuple((predicted + true).tolist())
    return Outcomes(tuple(streams), values, weights=weights)
