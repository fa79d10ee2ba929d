# SPDX-License-Identifier: Apache-2.0
"""Means, intervals, targets and tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vljepa_ros.evaluate.report import Report, Row, summary
from vljepa_ros.evaluate.statistics import Draws, Mean, draws, harmonic, mean, redrawn, share
from vljepa_ros.evaluate.suites.gap import separability


def test_groups_have_equal_weight_regardless_of_size() -> None:
    found = mean([1.0] * 9 + [0.0], ['a'] * 9 + ['b'])
    assert found.value == 0.5 and found.count == 10


def test_coin_flip_interval_is_the_binomial_interval() -> None:
    values = np.tile([0.0, 1.0], 200)
    found = mean(values)
    half = 1.96 * math.sqrt(0.25 / 400)
    assert found.low == pytest.approx(0.5 - half, abs=0.01)
    assert found.high == pytest.approx(0.5 + half, abs=0.01)


def test_mean_of_no_values_is_nan() -> None:
    assert math.isnan(mean([]).value) and mean([]).count == 0


def test_number_of_groups_must_match_number_of_values() -> None:
    with pytest.raises(ValueError, match='groups'):
        mean([1.0, 2.0], ['a'])


def test_a_cluster_counts_as_one_item_in_the_interval() -> None:
    """200 coins with 10 observations each have the interval of 200 items."""
    values = np.repeat(np.tile([0.0, 1.0], 100), 10)
    found = mean(values, clusters=[i // 10 for i in range(2000)])
    half = 1.96 * math.sqrt(0.25 / 200)
    assert found.value == 0.5 and found.count == 2000
    assert found.low == pytest.approx(0.5 - half, abs=0.015)
    assert found.high == pytest.approx(0.5 + half, abs=0.015)


def test_single_item_clusters_have_the_interval_of_items() -> None:
    values = np.tile([0.0, 1.0], 200)
    one, other = mean(values), mean(values, clusters=range(400))
    assert other.low == pytest.approx(one.low, abs=0.01)
    assert other.high == pytest.approx(one.high, abs=0.01)


def test_groups_have_equal_weight_in_resampled_clusters() -> None:
    """Each cluster has nine correct items of group a and one wrong item of group b: 0.5."""
    values = [1.0] * 9 + [0.0]
    found = mean(values * 5, (['a'] * 9 + ['b']) * 5, clusters=[i // 10 for i in range(50)])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_a_group_missing_from_a_resample_is_left_out() -> None:
    """Group b is in one of 30 clusters; in draws without it, the mean equals group a's."""
    values, groups = [1.0] * 30 + [0.0], ['a'] * 30 + ['b']
    found = mean(values, groups, clusters=[*range(30), 0])
    assert found.value == 0.5 and (found.low, found.high) == (0.5, 1.0)


def test_interval_contains_a_value_below_all_its_draws() -> None:
    """The blind baseline answers with the task of all ten streams; 20 other tasks have one stream.

    Every resample lacks some of the 20, so the correct task weighs more than 1 / 21.
    """
    right, tasks, streams = [1.0] * 10 + [0.0] * 20, [0] * 10 + [*range(1, 21)], [*range(10)] * 3
    blind = mean(right, tasks, clusters=streams)
    assert blind.value == pytest.approx(1 / 21) and blind.low == blind.value < blind.high
    figures = np.array([[0.008, 0.014, 0.011]])
    below = Draws(0.007, figures, 3).interval()
    assert below.low == 0.007 and 0.013 < below.high <= 0.014
    above = Draws(0.02, figures, 3).interval()
    assert above.high == 0.02 and 0.008 <= above.low < 0.009


def test_one_cluster_has_the_interval_of_its_items() -> None:
    values = [1.0, 0.0] * 200
    one, items = mean(values, clusters=['a'] * 400), mean(values)
    half = 1.96 * math.sqrt(0.25 / 400)
    assert one.value == 0.5 and one.low == pytest.approx(0.5 - half, abs=0.01)
    assert one.high == pytest.approx(items.high, abs=0.01)
    alone = redrawn(lambda weight: float(weight @ values / weight.sum()), ['a'] * 400)
    assert alone.interval().low == pytest.approx(0.5 - half, abs=0.01)
    nothing = mean([0.3], clusters=['a'])
    assert nothing.low == nothing.value == nothing.high == 0.3


@pytest.mark.parametrize('count', [2, 4])
def test_interval_of_few_equal_clusters_is_wider_than_zero(count: int) -> None:
    """In every stream five of ten acts are right, so the streams do not differ."""
    values, streams = [1.0, 0.0] * 5 * count, [i // 10 for i in range(10 * count)]
    half = 1.96 * math.sqrt(0.25 / (10 * count))
    found = mean(values, clusters=streams)
    assert found.low == pytest.approx(0.5 - half, abs=0.04)
    assert found.high == pytest.approx(0.5 + half, abs=0.04)
    share_right = redrawn(lambda weight: float(weight @ values / weight.sum()), streams)
    assert share_right.interval().low == pytest.approx(0.5 - half, abs=0.04)


def test_few_unequal_clusters_have_the_wider_cluster_interval() -> None:
    found = mean([1.0] * 50 + [0.0] * 50, clusters=['a'] * 50 + ['b'] * 50)
    assert (found.low, found.high) == (0.0, 1.0)


def test_a_statistic_of_one_item_has_no_interval() -> None:
    found = redrawn(lambda weight: float(weight.sum()), ['a']).interval()
    assert found.value == 1.0 and math.isnan(found.low) and math.isnan(found.high)
    report = Report('x', (Row('ours', 'y', found),))
    assert '| ours | y | 1.000 |  | 1 |  |' in report.as_text()


def test_number_of_clusters_must_match_number_of_values() -> None:
    with pytest.raises(ValueError, match='clusters'):
        mean([1.0, 2.0], clusters=['a'])


@pytest.mark.parametrize('clusters', [(), range(50)])
def test_ratio_of_proportional_values_has_a_zero_width_interval(clusters: range) -> None:
    whole = np.random.default_rng(0).uniform(1, 2, 50)
    found = share(draws(0.8 * whole, (), clusters), draws(whole, (), clusters))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert found.count == 50


def test_ratio_to_zero_is_not_finite() -> None:
    assert not math.isfinite(share(draws([1.0]), draws([0.0])).value)


def test_nan_has_no_interval() -> None:
    found = mean([1.0, math.nan], clusters=['a', 'b'])
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)


def test_harmonic_mean_of_two_means() -> None:
    found = harmonic(draws([1.0, 0.5]), draws([0.25, 0.25, 0.25]))
    assert found.value == pytest.approx(2 / (1 / 0.75 + 1 / 0.25)) and found.count == 5
    assert found.low <= found.value <= found.high
    assert harmonic(draws([0.0]), draws([0.0])).value == 0.0


@pytest.mark.parametrize(
    ('value', 'at_most', 'reached'),
    [(0.8, False, True), (0.79, False, False), (0.8, True, True), (0.81, True, False)],
)
def test_target_is_a_minimum_or_a_maximum(value: float, at_most: bool, reached: bool) -> None:
    assert Row('ours', 'x', Mean(value, 0, 1, 9), 0.8, at_most).reached is reached


def test_above_requires_a_value_greater_than_the_target() -> None:
    for value, reached in ((0.0, False), (0.001, True)):
        assert Row('ours', 'x', Mean(value, 0, 1, 9), 0.0, above=True).reached is reached
    assert Row('ours', 'x', Mean(0.0, 0, 1, 9)).reached is None
    assert Row('ours', 'x', Mean(math.nan, 0, 1, 9), 0.0).reached is False


def test_summary_has_all_targets_and_our_rows_of_suites_without_target() -> None:
    one = Report(
        'vqa',
        (
            Row('ours', 'all', Mean(0.9, 0.8, 1.0, 9), 0.88),
            Row('ours', 'topic', Mean(0.7, 0.6, 0.8, 3)),
            Row('blind', 'all', Mean(0.6, 0.5, 0.7, 9), 0.55, at_most=True),
            Row('ours - nearest', 'x', Mean(0.1, 0.0, 0.2, 9), 0.0, above=True),
        ),
    )
    other = Report('gap', (Row('ours', 'cosine', mean([])), Row('blind', 'cosine', mean([]))))
    assert summary([one, other]).splitlines() == [
        '| suite | metric | value | 95% interval | target | reached |',
        '|---|---|---|---|---|---|',
        '| vqa | ours: all | 0.900 | 0.800 - 1.000 | >= 0.88 | yes |',
        '| vqa | blind: all | 0.600 | 0.500 - 0.700 | <= 0.55 | NO |',
        '| vqa | ours - nearest: x | 0.100 | 0.000 - 0.200 | > 0 | yes |',
        '| gap | ours: cosine | nan |  |  |  |',
    ]


def test_a_report_is_a_table_and_valid_json() -> None:
    rows = (Row('ours', 'top-1', Mean(0.91, 0.9, 0.92, 100), 0.92), Row('blind', 'x', mean([])))
    report = Report('classify', rows, ('A note.',))
    assert '| ours | top-1 | 0.910 | 0.900 - 0.920 | 100 | >= 0.92: MISSED |' in report.as_text()
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert found['rows'][0]['reached'] is False and found['rows'][1]['value'] is None


def test_a_report_without_rows_has_notes_only() -> None:
    report = Report('retrieve', (), ('Nothing.',))
    assert report.as_text() == '### retrieve\n\n\nNothing.\n'


def test_infinity_is_null_in_json() -> None:
    row = Row('ours', 'share', Mean(math.inf, math.nan, -math.inf, 1))
    found = Report('caption', (row,)).as_json()['rows'][0]
    assert (found['value'], found['low'], found['high']) == (None, None, None)


def test_shifted_vectors_are_separable_and_equal_distributions_are_not() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (2, 300, 8)).astype(np.float32)
    assert np.mean(separability(one, other)) == pytest.approx(0.5, abs=0.08)
    assert np.mean(separability(one + 2.0, other)) > 0.99


def test_folds_with_one_class_are_skipped() -> None:
    one, other = np.random.default_rng(0).normal(0, 1, (2, 6, 4)).astype(np.float32)
    assert separability(one, other, 12) == []  # one vector a fold
    found = separability(one, other)
    assert 0 < len(found) <= 5 and all(0 <= value <= 1 for value in found)
