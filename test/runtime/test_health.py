# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vljepa_ros.runtime.health import LOG_EVERY_S, SHOWN_S, Health, Level


class Clock:
    """Clock that is set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock)


def test_every_problem_is_counted_and_logging_is_throttled(health: Health, clock: Clock) -> None:
    lines = [health.report_problem('bad', f'image {n}') for n in range(3)]
    clock.now_s += LOG_EVERY_S
    lines.append(health.report_problem('bad', 'image 3'))
    assert lines == ['image 0', '', '', 'image 3 (2 similar lines omitted)']
    assert health.counts['bad'] == 4
    assert health.values()['last problem'] == 'image 3'


def test_problems_of_two_kinds_are_both_logged(health: Health) -> None:
    assert health.report_problem('bad', 'a') == 'a'
    assert health.report_problem('odd', 'b') == 'b'


def test_a_problem_is_shown_in_the_summary_for_a_limited_time(
    health: Health, clock: Clock
) -> None:
    health.report_problem('bad', 'oh', Level.ERROR)
    assert health.summary('active') == (Level.ERROR, 'oh')
    clock.now_s += SHOWN_S
    assert health.summary('active') == (Level.OK, 'active')


def test_the_summary_has_the_highest_level(health: Health) -> None:
    health.condition('waiting', 'waits')
    health.report_problem('bad', 'oh', Level.ERROR)
    assert health.summary('active') == (Level.ERROR, 'oh')


def test_a_condition_is_reported_once_and_lasts_until_it_is_cleared(
    health: Health, clock: Clock
) -> None:
    assert health.condition('waiting', 'waits')
    assert not health.condition('waiting', 'waits')
    clock.now_s += 3600
    assert health.summary('active') == (Level.WARN, 'waits')
    assert health.condition('waiting', '')
    assert health.summary('active') == (Level.OK, 'active')


def test_rate_and_latency_cover_the_time_since_the_last_report(
    health: Health, clock: Clock
) -> None:
    for latency_s in (0.010, 0.030):
        health.output(latency_s)
    clock.now_s += 0.5
    values = health.values()
    assert values['rate (Hz)'] == '4.00'
    assert values['latency mean (ms)'] == '20.0'
    assert values['latency max (ms)'] == '30.0'
    clock.now_s += 1
    assert health.values() == {'rate (Hz)': '0.00'}


def test_counters_are_reported_as_values(health: Health) -> None:
    health.count('drops', 3)
    assert health.values()['drops'] == '3'
