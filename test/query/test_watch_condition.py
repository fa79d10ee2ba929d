# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

import pytest
from helpers import fake_models

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import AbstainReason, Embedding, Moment, StreamKey
from vljepa_ros.query.watch_condition import EFFECTS, Condition, Effect, HopVerdict


def hop(number: int, prompt: str = 'a', source: str = 'front') -> Embedding:
    key = StreamKey(source, prompt, 'm')
    return Embedding(number * 200, number * 200 - 700, key, fake_models.color_vector('red'))


def test_fires_at_the_first_score_that_reaches_the_threshold() -> None:
    condition = Condition('it is open', 0.5)
    assert condition.push(hop(1), 0.49) is None
    assert condition.score == 0.49
    assert condition.push(hop(2), 0.5) == Moment('front', -300, 400, 0.5, 'it is open')


def test_the_best_score_of_all_prompts_of_a_hop_counts() -> None:
    condition = Condition('it is open', 0.5)
    assert condition.push(hop(1, 'a'), 0.1) is None
    assert condition.push(hop(1, 'b'), 0.7) is not None
    assert condition.score == 0.7


def test_until_not_requires_all_prompts_of_a_hop_below_the_threshold() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    assert condition.push(hop(1, 'a'), 0.1) is None  # b may still come
    assert condition.push(hop(1, 'b'), 0.9) is None
    assert condition.push(hop(2, 'a'), 0.1) is None
    assert condition.push(hop(2, 'b'), 0.125) == Moment('front', -300, 400, 0.875, 'it is open')


def test_until_not_with_one_prompt_fires_from_the_second_hop_on() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    assert condition.push(hop(1), 0.9) is None
    assert condition.push(hop(2), 0.8) is None
    assert condition.push(hop(3), 0.19) is not None


def test_until_not_of_a_false_condition_fires_with_the_first_hop() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    assert condition.push(hop(1), 0.0) is None
    assert condition.push(hop(2), 0.9) == Moment('front', -500, 200, 1.0, 'it is open')


def test_a_removed_prompt_does_not_delay_a_condition() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    for prompt in 'ab':
        condition.push(hop(1, prompt), 0.9)
    assert condition.push(hop(2, 'a'), 0.9) is None  # b is no longer asked
    assert condition.push(hop(3, 'a'), 0.1) is not None


def fired_at(condition: Condition, scores: list[float]) -> int | None:
    """Return the number of the hop at which the condition fires."""
    fired = (n for n, score in enumerate(scores, 1) if condition.push(hop(n), score))
    return next(fired, None)


def test_a_score_that_fluctuates_around_the_threshold_does_not_fire() -> None:
    scores = [0.6, 0.4, 0.6, 0.4, 0.6, 0.55, 0.1]
    assert fired_at(Condition('it is open', 0.5, hops=2), scores) == 6
    assert fired_at(Condition('it is open', 0.5, hops=3), scores) is None


def test_a_score_slightly_below_the_threshold_does_not_fire_until_not() -> None:
    scores = [0.9, 0.25, 0.21, 0.1, 0.6, 0.19, 0.1, 0.1]
    assert fired_at(Condition('it is open', 0.5, until_not=True, hops=2), scores) == 7
    assert fired_at(Condition('it is open', 0.5, until_not=True), scores) == 4


def test_consecutive_hops_are_counted_by_their_best_prompt() -> None:
    condition = Condition('it is open', 0.5, hops=2)
    assert condition.push(hop(1, 'a'), 0.9) is None
    assert condition.push(hop(1, 'b'), 0.1) is None
    assert condition.push(hop(2, 'a'), 0.1) is None
    assert condition.push(hop(2, 'b'), 0.9) is not None


@pytest.mark.parametrize('until_not', [False, True])
def test_a_state_reset_ends_a_run_of_hops(until_not: bool) -> None:
    condition = Condition('it is open', 0.5, until_not, hops=2)
    score = 0.1 if until_not else 0.9
    later = [dataclasses.replace(hop(n), reset_count=1) for n in (3600, 3601)]
    assert condition.push(hop(1), score) is None
    assert condition.push(later[0], score) is None
    assert condition.push(later[1], score) is not None


def test_consecutive_hops_are_counted_per_source() -> None:
    condition = Condition('it is open', 0.5, hops=2)
    assert condition.push(hop(1, source='front'), 0.9) is None
    assert condition.push(hop(1, source='rear'), 0.9) is None
    assert condition.push(hop(2, source='front'), 0.9) is not None


def test_hops_of_other_sources_are_ignored() -> None:
    condition = Condition('it is open', 0.5, source='rear')
    assert condition.push(hop(1, source='front'), 0.9) is None
    assert condition.push(hop(1, source='rear'), 0.9) is not None


def test_a_condition_on_any_source_fires_for_one_source() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    for number in (1, 2):
        assert condition.push(hop(number, source='front'), 0.9) is None
        assert condition.push(hop(number, source='rear'), 0.9) is None
    fired = condition.push(hop(3, source='rear'), 0.1)
    assert fired is not None
    assert fired.source == 'rear'


@pytest.mark.parametrize(
    ('text', 'threshold', 'message'),
    [
        ('', 0.5, 'empty'),
        ('  ', 0.5, 'empty'),
        ('x' * 5000, 0.5, 'long'),
        ('a', 1.5, r'threshold \(1.5\)'),
        ('a', float('nan'), r'threshold \(nan\)'),
        ('a', -0.1, r'threshold \(-0.1\)'),
    ],
)
def test_a_bad_condition_is_refused(text: str, threshold: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Condition(text, threshold)


def test_a_condition_applies_only_to_its_source() -> None:
    assert Condition('it is open', 0.5).concerns('front')
    assert Condition('it is open', 0.5, source='rear').concerns('rear')
    assert not Condition('it is open', 0.5, source='rear').concerns('front')


def unfamiliar(number: int, share: float) -> Embedding:
    return dataclasses.replace(hop(number), unfamiliar=share)


def test_an_unfamiliar_hop_restarts_the_count() -> None:
    condition = Condition('it is open', 0.5, hops=2)
    for number, share in enumerate([0.0, 0.5, 0.49]):
        assert condition.push(unfamiliar(number, share), 0.9) is None
        assert condition.score == (0.0 if share == 0.5 else 0.9)
        assert condition.unfamiliar == share
    assert condition.push(unfamiliar(3, 0.0), 0.9) is not None


def test_an_unfamiliar_hop_does_not_fire_until_not() -> None:
    condition = Condition('it is open', 0.5, until_not=True)
    for number, share in enumerate([0.0, 0.9, 0.9, 0.9]):
        assert condition.push(unfamiliar(number, share), 0.9 if number == 0 else 0.0) is None
    assert condition.push(unfamiliar(4, 0.1), 0.1) is not None


def test_abstain_reason_describes_the_newest_hop() -> None:
    condition = Condition('it is open', 0.5)
    assert condition.abstain_reason is AbstainReason.NOT_SEEN
    for share, reason in ((0.5, AbstainReason.UNFAMILIAR), (0.4, AbstainReason.NONE)):
        condition.push(unfamiliar(round(10 * share), share), 0.0)
        assert condition.abstain_reason is reason


# Score of a hop at threshold 0.5, or None for an unfamiliar scene; whether it counts.
VERDICTS = [
    (HopVerdict.TRUE, 0.5, (True, False)),
    (HopVerdict.UNCLEAR, 0.49, (False, False)),
    (HopVerdict.UNCLEAR, 0.2, (False, False)),
    (HopVerdict.FALSE, 0.19, (False, True)),
    (HopVerdict.UNFAMILIAR, None, (False, False)),
]


@pytest.mark.parametrize('until_not', [False, True])
@pytest.mark.parametrize(('verdict', 'score', 'counts'), VERDICTS)
def test_a_hop_counts_or_restarts_the_count(
    verdict: HopVerdict, score: float | None, counts: tuple[bool, bool], until_not: bool
) -> None:
    expected = counts[until_not]
    assert (EFFECTS[until_not, verdict] is Effect.COUNT) is expected
    condition = Condition('it is open', 0.5, until_not, hops=3)
    counted = 0.0 if until_not else 1.0
    last = dataclasses.replace(hop(4), unfamiliar=0.9 if score is None else 0.0)
    condition.push(hop(1), 0.3)  # with one hop before, the number of prompts is known
    fired = [condition.push(hop(n), counted) for n in (2, 3)]
    fired.append(condition.push(last, score or 0.0))
    assert [moment is not None for moment in fired] == [False, False, expected]
    later = [condition.push(hop(n), counted) is not None for n in (5, 6, 7)]
    assert later == ([True, True, True] if expected else [False, False, True])


def test_every_verdict_has_an_effect() -> None:
    assert set(EFFECTS) == {(until_not, v) for until_not in (False, True) for v in HopVerdict}
