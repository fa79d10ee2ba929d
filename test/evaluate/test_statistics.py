# SPDX-License-Identifier: Apache-2.0
"""Means, intervals, marks and tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, mean
from vljepa_ros.evaluate.suites.texts import auc, separability


def test_groups_weigh_the_same_whatever_their_size() -> None:
    found = mean([1.0] * 9 + [0.0], ['a'] * 9 + ['b'])
    assert found.value == 0.5 and found.count == 10


def test_the_interval_of_a_coin_is_the_binomial_one() -> None:
    values = np.tile([0.0, 1.0], 200)
    found = mean(values)
    half = 1.96 * math.sqrt(0.25 / 400)
    assert found.low == pytest.approx(0.5 - half, abs=0.01)
    assert found.high == pytest.approx(0.5 + half, abs=0.01)


def test_nothing_has_no_mean() -> None:
    assert math.isnan(mean([]).value) and mean([]).count == 0


def test_groups_must_fit_the_values() -> None:
    with pytest.raises(ValueError, match='1 groups for 2 values'):
        mean([1.0, 2.0], ['a'])


@pytest.mark.parametrize(
    ('value', 'at_most', 'reached'),
    [(0.8, False, True), (0.79, False, False), (0.8, True, True), (0.81, True, False)],
)
def test_a_mark_is_reached_from_the_right_side(value: float, at_most: bool, reached: bool) -> None:
    assert Row('ours', 'x', Mean(value, 0, 1, 9), 0.8, at_most).reached is reached


def test_a_report_is_a_table_and_valid_json() -> None:
    rows = (Row('ours', 'top-1', Mean(0.91, 0.9, 0.92, 100), 0.92), Row('blind', 'x', mean([])))
    report = Report('classify', rows, ('A note.',))
    assert '| ours | top-1 | 0.910 | 0.900 - 0.920 | 100 | >= 0.92: MISSED |' in report.as_text()
    found = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert found['rows'][0]['reached'] is False and found['rows'][1]['value'] is None


def test_auc_counts_pairs_in_order() -> None:
    scores, positive = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert auc(scores, positive) == pytest.approx((2 + 0.5) / 4)


def test_shifted_vectors_are_told_apart_and_equal_ones_not() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (2, 300, 8)).astype(np.float32)
    assert np.mean(separability(one, other)) == pytest.approx(0.5, abs=0.08)
    assert np.mean(separability(one + 2.0, other)) > 0.99
