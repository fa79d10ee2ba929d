# SPDX-License-Identifier: Apache-2.0
"""One-to-one matching, and weighted quantiles and differences of the results."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.evaluate.matching import f1, f1_draws, match, matched, near
from vljepa_ros.evaluate.statistics import draws, mean, more, quantile


def test_each_event_is_matched_once_to_the_nearest() -> None:
    # The second is nearer to 5.0, which can be matched only once.
    assert match(near([5.4, 5.1, 9.0], [5.0, 9.5], 1.0)) == [(0, 0), (2, 1)]
    assert match(near([5.1, 5.9], [5.0, 6.0], 1.0)) == [(0, 0), (1, 1)]


def test_more_matches_take_precedence_over_nearer_matches() -> None:
    assert near([5.2, 4.2], [5.0, 6.0], 1.0) == [[0, 1], [0]]
    assert match(near([5.2, 4.2], [5.0, 6.0], 1.0)) == [(0, 1), (1, 0)]
    assert matched([[0, 1], [0]]) == 2


def test_empty_inputs_have_no_matches() -> None:
    assert match([]) == [] and match([[], []]) == []


def test_bootstrap_draws_of_two_f1_scores_are_paired() -> None:
    counts = np.array([[2.0, 4.0, 4.0], [1.0, 3.0, 2.0], [5.0, 5.0, 6.0]])
    names = ['a', 'b', 'c']
    assert f1_draws(counts, names).interval() == f1(counts, names)
    gap = more(f1_draws(counts, names), f1_draws(counts, names))
    assert (gap.value, gap.low, gap.high, gap.count) == (0.0, 0.0, 0.0, 12)


def test_f1_of_one_stream_has_the_interval_of_its_events() -> None:
    """80 of 100 predicted events match 80 of 100 true ones: like a fraction of 120 events."""
    found = f1(np.array([[80.0, 100.0, 100.0]]), ['a'])
    assert found.value == pytest.approx(0.8) and found.count == 100
    assert 0.70 < found.low < 0.78 and 0.82 < found.high < 0.90
    nothing = f1(np.zeros((1, 3)), ['a'])
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_f1_of_many_streams_has_the_interval_of_streams() -> None:
    """Half of twenty streams are right and half are wrong; events alone vary less."""
    counts = np.array([[10.0, 10.0, 10.0], [0.0, 10.0, 10.0]] * 10)
    found = f1(counts, [str(i) for i in range(20)])
    half = 1.96 * np.sqrt(0.25 / 20)
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.03)
    assert found.high == pytest.approx(0.5 + half, abs=0.03)


def test_a_difference_is_computed_on_paired_items() -> None:
    rng = np.random.default_rng(0)
    ours, other = rng.uniform(size=(2, 60))
    clusters = [i // 6 for i in range(60)]
    found = more(draws(ours, (), clusters), draws(other, (), clusters))
    paired = mean(ours - other, clusters=clusters)
    assert (found.value, found.low, found.high) == pytest.approx(
        (paired.value, paired.low, paired.high)
    )


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 1.0])
def test_weighted_quantile_equals_the_inverted_cdf(share: float) -> None:
    rng = np.random.default_rng(1)
    values, weight = rng.normal(size=23), rng.integers(0, 4, 23)
    expected = np.percentile(values, 100 * share, method='inverted_cdf')
    assert quantile(values, share) == expected
    repeated = np.percentile(np.repeat(values, weight), 100 * share, method='inverted_cdf')
    assert quantile(values, share, weight.astype(float)) == repeated


def test_quantile_without_values_is_nan() -> None:
    assert np.isnan(quantile([], 0.5)) and np.isnan(quantile([1.0], 0.5, np.zeros(1)))
