# SPDX-License-Identifier: Apache-2.0
"""Verdicts from scores of hops: five hops a second, scores given by each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import AbstainReason, Answer, Event, State, StreamKey
from vljepa_ros.expectations.judge import judge_all
from vljepa_ros.expectations.recording import Track, Watched
from vljepa_ros.expectations.results import Judged, Verdict, junit
from vljepa_ros.expectations.spec import (
    AnswerIs,
    Events,
    Expectation,
    Expectations,
    Kind,
    Never,
    Order,
    Throughout,
    Trigger,
    Within,
)

HOP_S = 0.2
HOLDS, BROKEN, CANNOT_TELL = Verdict.HOLDS, Verdict.BROKEN, Verdict.CANNOT_TELL


def seen(
    *parts: tuple[float, float],
    unfamiliar: bool = False,
    answers: dict[Expectation, Answer | InputError] | None = None,
    events: int = 0,
) -> Watched:
    """Return a recording whose score is `score` for `seconds`, for each (seconds, score).

    The statements 'a' and 'not a' have the scores and their complements.
    """
    scores = np.concatenate([np.full(round(s / HOP_S), value) for s, value in parts])
    times = [HOP_S * (i + 1) for i in range(len(scores))]
    track = Track(times, [np.array([s], np.float32) for s in scores], [unfamiliar] * len(scores))
    key = StreamKey('camera', '?', 'model')
    listed = tuple(Event(0, key, 's', i, 0, 1, State.ENDED, 'text', 0.9) for i in range(events))
    return Watched(
        times[-1],
        HOP_S,
        {'camera': track},
        listed,
        answers or {},
        {'/goal': (1.0, 5.0)},
        0,
        lambda vectors, text: vectors[:, 0] if text == 'a' else 1 - vectors[:, 0],
    )


def judged(kind: Kind, recording: Watched, at_least: float = 0.5) -> Judged:
    item = Expectation(kind, 'name', line=3, at_least=at_least)
    [result] = judge_all(Expectations(Path('e.yaml'), (item,)), recording)
    return result


@pytest.mark.parametrize(
    ('after', 'verdict'), [(4.0, HOLDS), (2.5, HOLDS), (8.0, HOLDS), (0.0, BROKEN)]
)
def test_within_needs_a_true_run_in_the_span(after: float, verdict: Verdict) -> None:
    """The statement is true from 5 s to 10 s."""
    recording = seen((5, 0.05), (5, 0.9), (5, 0.05))
    result = judged(Within('a', after, 3.0), recording)
    assert result.verdict is verdict
    if verdict is HOLDS:
        assert result.score == pytest.approx(0.9) and result.end_s is not None


def test_a_run_that_begins_in_time_may_be_confirmed_later() -> None:
    recording = seen((5, 0.05), (5, 0.9))
    assert judged(Within('a', 3.0, 2.2), recording).verdict is HOLDS
    assert judged(Within('a', 3.0, 1.8), recording).verdict is BROKEN


def test_three_true_hops_are_too_few() -> None:
    assert judged(Within('a', 0.0, 10.0), seen((5, 0.05), (0.6, 0.9), (5, 0.05))).verdict is BROKEN
    assert judged(Never('a'), seen((5, 0.05), (0.6, 0.9), (5, 0.05))).verdict is HOLDS


def test_scores_between_the_thresholds_cannot_be_told() -> None:
    recording = seen((5, 0.05), (2, 0.3), (5, 0.05))
    assert judged(Within('a', 0.0, 10.0), recording).verdict is CANNOT_TELL
    assert judged(Never('a'), recording).verdict is CANNOT_TELL
    assert judged(Within('a', 0.0, 10.0), recording, at_least=0.25).verdict is HOLDS
    assert judged(Never('a'), recording, at_least=0.9).verdict is HOLDS


def test_never_names_the_evidence() -> None:
    result = judged(Never('a'), seen((5, 0.05), (5, 0.9), (5, 0.05)))
    assert result.verdict is BROKEN
    assert (result.start_s, result.end_s) == (pytest.approx(5.2), pytest.approx(10.0))
    assert judged(Never('a', start=11.0), seen((5, 0.05), (5, 0.9), (5, 0.05))).verdict is HOLDS


@pytest.mark.parametrize(
    ('parts', 'verdict'),
    [
        ([(10, 0.9)], HOLDS),
        ([(5, 0.9), (0.6, 0.1), (5, 0.9)], HOLDS),
        ([(5, 0.9), (2, 0.1), (5, 0.9)], BROKEN),
        ([(5, 0.9), (2, 0.3), (5, 0.9)], CANNOT_TELL),
    ],
)
def test_throughout(parts: list[tuple[float, float]], verdict: Verdict) -> None:
    assert judged(Throughout('a'), seen(*parts)).verdict is verdict


def test_unfamiliar_scenes_cannot_be_told() -> None:
    recording = seen((10, 0.9), unfamiliar=True)
    for kind in (Within('a', 1.0), Never('a'), Throughout('a'), Order(('a', 'not a'))):
        result = judged(kind, recording)
        assert result.verdict is CANNOT_TELL and 'unfamiliar' in result.reason


def test_a_span_after_a_gap_cannot_be_told() -> None:
    recording = seen((5, 0.05), (5, 0.05))
    track = recording.tracks['camera']
    for values in (track.times_s, track.vectors, track.is_unfamiliar):
        del values[10:40]  # type: ignore[attr-defined]  # hops from 2 s to 8 s
    assert judged(Within('a', 3.0, 3.0), recording).verdict is CANNOT_TELL


def test_order() -> None:
    recording = seen((5, 0.05), (5, 0.95))
    assert judged(Order(('not a', 'a')), recording).verdict is HOLDS
    result = judged(Order(('a', 'not a')), recording)
    assert result.verdict is BROKEN and 'not a' in result.reason
    assert judged(Order(('a', 'not a')), seen((5, 0.95))).verdict is BROKEN


@pytest.mark.parametrize(
    ('kind', 'verdict'),
    [
        (Events(at_most=3), HOLDS),
        (Events(at_most=2), BROKEN),
        (Events(at_least=4), BROKEN),
        (Events(at_most=18, per_minute=True), HOLDS),
        (Events(at_most=17, per_minute=True), BROKEN),
    ],
)
def test_the_number_of_events(kind: Events, verdict: Verdict) -> None:
    """Three events in ten seconds."""
    assert judged(kind, seen((10, 0.5), events=3)).verdict is verdict


@pytest.mark.parametrize(
    ('answer', 'verdict'),
    [
        (Answer('yes', 0.9, False, 0, 'm', None), HOLDS),
        (Answer('no', 0.9, False, 0, 'm', None), BROKEN),
        (Answer('yes', 0.4, False, 0, 'm', None), CANNOT_TELL),
        (Answer('yes', 0.9, True, 0, 'm', None, abstain_reason=AbstainReason.UNFAMILIAR),
         CANNOT_TELL),
        (InputError('nothing stored'), CANNOT_TELL),
    ],
)  # fmt: skip
def test_answers(answer: Answer | InputError, verdict: Verdict) -> None:
    kind = AnswerIs('q', 'yes', at=1.0)
    recording = seen((10, 0.5), answers={Expectation(kind, 'name', line=3): answer})
    assert judged(kind, recording).verdict is verdict


def test_a_message_is_a_time() -> None:
    """The second message is at 5 s; the statement is true from 5 s to 6 s."""
    recording = seen((5, 0.05), (1, 0.9), (10, 0.05))
    assert judged(Within('a', Trigger('/goal', 2), 1.0), recording).verdict is HOLDS
    assert judged(Within('a', Trigger('/goal', 1), 1.0), recording).verdict is BROKEN


def test_a_time_after_the_end_is_an_error_with_its_line() -> None:
    with pytest.raises(InputError, match=r'e\.yaml, line 3: 60 s'):
        judged(Within('a', 60.0), seen((10, 0.9)))


def test_the_junit_report_is_valid_xml_whatever_the_texts() -> None:
    from xml.etree import ElementTree

    item = Expectation(Never('a'), '<b>\x00 \u202e\U0001f525 "&', line=7)
    results = [
        Judged(item, BROKEN, '</testsuite>\x1b[31m'),
        Judged(item, CANNOT_TELL, 'x'),
        Judged(item, HOLDS, 'y', picture=Path('p.jpg')),
    ]
    root = ElementTree.fromstring(junit('bag', results))
    assert (root.get('tests'), root.get('failures'), root.get('skipped')) == ('3', '1', '1')
    cases = list(root)
    assert [next(iter(case)).tag for case in cases] == ['failure', 'skipped', 'system-out']
    assert '\U0001f525' in str(cases[0].get('name'))
