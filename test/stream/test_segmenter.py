# SPDX-License-Identifier: Apache-2.0
"""Rules of change detection, on vectors with known angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Reason, StreamKey
from vljepa_ros.stream.segmenter import MAX_STREAMS, Segmenter

HOP = 200_000_000
KEY = StreamKey('camera', 'what?', 'model')
SETTINGS = SegmenterSettings(
    change_threshold=0.9, confirm_hops=2, min_segment_s=0.6, drift_threshold=0.1
)


def at(degrees: float) -> np.ndarray:
    return np.array(
        [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0], np.float32
    )


def hop(number: int, degrees: float, key: StreamKey = KEY, window: int = 8) -> Embedding:
    return Embedding(number * HOP, max(0, number - window) * HOP, key, at(degrees))


def run(angles: list[float], settings: SegmenterSettings = SETTINGS) -> list[Change]:
    segmenter = Segmenter(settings, 's')
    return [c for n, a in enumerate(angles) for c in segmenter.push(hop(n, a))]


def test_the_first_embedding_opens_segment_zero() -> None:
    (change,) = run([0])
    assert (change.reason, change.segment_id, change.segment_start_ns) == (Reason.FIRST, 0, 0)
    assert change.previous is None and change.session_id == 's' and change.key == KEY


@pytest.mark.parametrize('last', [2, 3, 5, 8])
def test_larger_changes_are_confirmed_sooner_by_wards_criterion(last: int) -> None:
    settings, before = SegmenterSettings(0.9, 2, 0.6, 2.0), 40
    # What `last` hops at this distance cost beside the 40: n k / (n + k) |m - r|^2.
    distance = 0.9 / (2 * before * last / (before + last))
    for more, begins in ((0.95, None), (1.05, last)):
        angle = math.degrees(math.acos(1 - more * distance))
        changes = run([0] * before + [angle] * last, settings)[1:]
        assert [c.segment_start_ns for c in changes] == ([before * HOP] if begins else [])


@pytest.mark.parametrize('noise', [0.0, 0.3, 0.6, 1.0])
def test_the_default_threshold_suits_quiet_and_noisy_streams(noise: float) -> None:
    rng, meanings = np.random.default_rng(1), np.eye(256)[[0, 1, 0, 2]]
    vectors = np.repeat(meanings, 50, axis=0)
    vectors = vectors + noise / 16 * rng.normal(size=vectors.shape)
    segmenter, changes = Segmenter(SegmenterSettings(), 's'), list[Change]()
    for n, vector in enumerate(vectors.astype(np.float32)):
        changes += segmenter.push(Embedding(n * HOP, max(0, n - 8) * HOP, KEY, vector))
    starts = [c.segment_start_ns // HOP for c in changes if c.reason is Reason.MEANING]
    assert starts == [50, 100, 150]


def test_a_change_requires_confirmation_and_starts_at_its_first_hop() -> None:
    changes = run([0] * 10 + [90] * 3)
    assert [c.reason for c in changes] == [Reason.FIRST, Reason.MEANING]
    change = changes[1]
    assert change.segment_start_ns == 10 * HOP and change.stamp_ns == 11 * HOP
    assert change.segment_id == 1
    assert change.previous is not None and change.previous_vector is not None
    assert (change.previous.segment_id, change.previous.start_ns, change.previous.end_ns) == (
        0,
        0,
        10 * HOP,
    )
    assert change.score == pytest.approx(1.0)
    np.testing.assert_allclose(change.vector, at(90), atol=1e-6)
    np.testing.assert_allclose(change.previous_vector, at(0), atol=1e-6)


def test_one_outlier_is_not_a_change_and_joins_the_segment() -> None:
    changes = run([0] * 10 + [90] + [0] * 10)
    assert [c.reason for c in changes] == [Reason.FIRST]


def test_a_segment_is_no_shorter_than_the_minimum() -> None:
    changes = run([0, 0, 90, 90, 90, 90, 90, 90])
    starts = [c.segment_start_ns for c in changes if c.reason is Reason.MEANING]
    assert all(start >= 3 * HOP for start in starts)


def test_slow_drift_is_reported_once_per_step() -> None:
    settings = SegmenterSettings(90.0, 2, 0.0, 0.1)
    changes = run([0] * 5 + [40] * 60, settings)
    drifts = [c for c in changes if c.reason is Reason.DRIFT]
    assert 1 <= len(drifts) <= 3
    assert all(c.segment_id == 0 and c.previous is None for c in drifts)
    assert drifts[0].score > 0.1


def test_pending_change_does_not_trigger_drift_update() -> None:
    settings = SegmenterSettings(0.9, 6, 0.0, 0.01)
    changes = run([0] * 6 + [90] * 6, settings)
    assert [(c.reason, c.stamp_ns // HOP) for c in changes] == [
        (Reason.FIRST, 0),
        (Reason.MEANING, 11),
    ]


@pytest.mark.parametrize(
    ('stamp', 'window_start', 'reset_count'), [(3, 3, 1), (9, 9, 1), (12, 12, 1), (50, 49, 0)]
)
def test_a_state_reset_opens_a_segment(stamp: int, window_start: int, reset_count: int) -> None:
    segmenter = Segmenter(SETTINGS, 's')
    for n in range(10):
        segmenter.push(hop(n, 0))
    (change,) = segmenter.push(Embedding(stamp * HOP, window_start * HOP, KEY, at(0), reset_count))
    assert change.reason is Reason.RESET and change.segment_id == 1
    assert change.segment_start_ns == stamp * HOP
    assert change.previous is not None and change.previous.end_ns == 9 * HOP


@pytest.mark.parametrize('stamp', [9, 8, 3, 0])
def test_a_stamp_that_repeats_or_goes_back_is_refused(stamp: int) -> None:
    segmenter, clean = Segmenter(SETTINGS, 's'), Segmenter(SETTINGS, 's')
    for n in range(10):
        segmenter.push(hop(n, 0))
        clean.push(hop(n, 0))
    again = hop(stamp, 90)
    assert segmenter.is_repeated(again) == (stamp == 9)
    with pytest.raises(InputError, match=r'\d\.\d00 s .*1\.800 s'):
        segmenter.push(again)
    later = [hop(n, 90) for n in range(10, 14)]
    found, expected = ([c for e in later for c in s.push(e)] for s in (segmenter, clean))
    assert [(c.segment_start_ns, c.score) for c in found] == [
        (c.segment_start_ns, c.score) for c in expected
    ]
    assert found


@pytest.mark.parametrize('how', ['a change', 'a reset', 'the end'])
def test_a_drifted_segment_is_updated_before_it_ends(how: str) -> None:
    segmenter = Segmenter(SegmenterSettings(5.0, 2, 0.0, 0.1), 's')
    for n, angle in enumerate([0] * 4 + [40] * 4):  # too little to begin a segment with
        changes = segmenter.push(hop(n, angle))
    assert changes == []
    if how == 'a change':
        changes = [c for n in (8, 9) for c in segmenter.push(hop(n, 180))]
    elif how == 'a reset':
        changes = segmenter.push(hop(60, 40))
    else:
        changes = segmenter.end()
    drift, last = changes
    assert drift.reason is Reason.DRIFT and drift.segment_id == 0 and drift.previous is None
    assert last.previous is not None and last.previous.segment_id == 0
    assert drift.stamp_ns == (7 * HOP if how == 'a reset' else last.stamp_ns)
    np.testing.assert_allclose(drift.vector, at(40), atol=1e-6)  # its end
    assert last.previous_vector is not None
    np.testing.assert_allclose(last.previous_vector, at(20), atol=1e-6)  # all of it


def test_the_end_of_a_segment_includes_settled_vectors() -> None:
    def ended(angles: Sequence[float]) -> Sequence[Change]:
        segmenter = Segmenter(SegmenterSettings(5.0, 8, 0.0, 0.1), 's')
        changes = [c for n, angle in enumerate(angles) for c in segmenter.push(hop(n, angle))]
        assert [c.reason for c in changes][-1] is Reason.MEANING
        return changes[1:-1]

    (drift,) = ended([0] * 8 + [40] * 4 + [180] * 8)  # the run of 8 has pushed all of it out
    np.testing.assert_allclose(drift.vector, at(40), atol=1e-6)
    assert ended([0] * 4 + [40] * 4 + [0] * 4 + [180] * 8) == []


def test_lost_hops_are_not_a_reset_while_windows_overlap() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    segmenter.push(hop(0, 0))
    assert segmenter.push(hop(5, 0)) == []


def test_windows_of_one_image_are_one_stream_until_too_many_are_lost() -> None:
    """The windows of a model for single images never overlap."""
    segmenter = Segmenter(SegmenterSettings(), 's')
    changes = [
        change
        for n in (*range(30), 33, 50)  # 0.8 s are lost, and 3.4 s
        for change in segmenter.push(Embedding(n * HOP, n * HOP, KEY, at(0)))
    ]
    assert [(c.reason, c.stamp_ns // HOP) for c in changes] == [
        (Reason.FIRST, 0),
        (Reason.RESET, 50),
    ]


def test_single_images_at_a_slow_rate_are_one_stream_once_the_hop_is_known() -> None:
    segmenter = Segmenter(SegmenterSettings(), 's')
    changes = [
        change
        for n in (*range(0, 200, 20), 260)  # 4 s apart, and then 16 s
        for change in segmenter.push(Embedding(n * HOP, n * HOP, KEY, at(0)))
    ]
    assert [(c.reason, c.stamp_ns // HOP) for c in changes] == [
        (Reason.FIRST, 0),
        (Reason.RESET, 20),
        (Reason.RESET, 260),
    ]


def test_a_constant_stream_is_one_segment() -> None:
    """Its noise decreases to zero, and rounding errors must not begin a segment."""
    vector = np.random.default_rng(0).normal(size=64)
    vector = np.asarray(vector / np.linalg.norm(vector), np.float32)
    segmenter = Segmenter(SegmenterSettings(change_threshold=0.0), 's')
    changes = [
        change
        for n in range(4000)
        for change in segmenter.push(Embedding(n * HOP, max(0, n - 8) * HOP, KEY, vector))
    ]
    assert [c.reason for c in changes] == [Reason.FIRST]


def test_end_closes_every_stream_once() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    other = StreamKey('rear', 'what?', 'model')
    for n in range(4):
        segmenter.push(hop(n, 0))
        segmenter.push(hop(n, 30, other))
    ended = segmenter.end()
    assert [(c.key.source, c.reason) for c in ended] == [
        ('camera', Reason.END),
        ('rear', Reason.END),
    ]
    assert ended[0].previous is not None and ended[0].previous.end_ns == 3 * HOP
    assert segmenter.end() == []
    assert segmenter.push(hop(9, 0))[0].segment_id == 1  # ids go on


@pytest.mark.parametrize('bad', [[np.nan, 0, 0], [np.inf, 0, 0], [0, 0, 0], [1, 0]])
def test_an_invalid_vector_is_refused_and_leaves_the_state_unchanged(bad: list[float]) -> None:
    segmenter, clean = Segmenter(SETTINGS, 's'), Segmenter(SETTINGS, 's')
    for n in range(5):
        segmenter.push(hop(n, 0))
        clean.push(hop(n, 0))
    with pytest.raises(InputError):
        segmenter.push(Embedding(5 * HOP, 0, KEY, np.array(bad, np.float32)))
    found = [c for n in (6, 7) for c in segmenter.push(hop(n, 90))]
    expected = [c for n in (6, 7) for c in clean.push(hop(n, 90))]
    assert [(c.stamp_ns, c.segment_start_ns, c.score) for c in found] == [
        (c.stamp_ns, c.segment_start_ns, c.score) for c in expected
    ]
    assert found


def test_beyond_the_maximum_number_of_streams_the_oldest_ends() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    for n in range(MAX_STREAMS):
        segmenter.push(hop(n, 0, StreamKey('camera', str(n), 'model')))
    ended, opened = segmenter.push(hop(MAX_STREAMS, 0, StreamKey('camera', 'one more', 'model')))
    assert ended.reason is Reason.END and ended.key.prompt == '0'
    assert opened.reason is Reason.FIRST


def test_end_closes_the_selected_streams() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    other = StreamKey('rear', 'what?', 'model')
    segmenter.push(hop(0, 0))
    segmenter.push(hop(0, 0, other))
    assert [c.key for c in segmenter.end(lambda key: key == other)] == [other]
    assert segmenter.push(hop(1, 0, other))[0].reason is Reason.FIRST
    assert segmenter.push(hop(1, 0)) == []


def test_segment_ids_continue_in_a_second_segmenter_of_a_session() -> None:
    next_id: dict[StreamKey, int] = {}
    ids = [Segmenter(SETTINGS, 's', next_id).push(hop(0, 0))[0].segment_id for _ in range(3)]
    assert ids == [0, 1, 2]


def test_outliers_count_in_the_mean() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    angles = [0, 0, 0, 0, 80, 0]  # one hop far off, and back
    for number, angle in enumerate(angles):
        segmenter.push(hop(number, angle))
    (end,) = segmenter.end()
    total = np.sum([at(angle) for angle in angles], axis=0)
    np.testing.assert_allclose(end.vector, total / np.linalg.norm(total), atol=1e-6)


# How unfamiliar a segment is.


def shared(number: int, degrees: float, unfamiliar: float) -> Embedding:
    return replace(hop(number, degrees), unfamiliar=unfamiliar)


def test_unfamiliarity_of_a_segment_is_the_mean_of_its_hops() -> None:
    segmenter, changes = Segmenter(SETTINGS, 's'), list[Change]()
    shares = [0.25, *[0.125] * 11, *[0.75, 0.25, 0.25]]
    for number, share in enumerate(shares):
        changes += segmenter.push(shared(number, 0 if number < 12 else 90, share))
    first, second = changes
    assert (first.reason, first.unfamiliar) == (Reason.FIRST, 0.25)
    assert (second.reason, second.unfamiliar) == (Reason.MEANING, 0.5)  # 0.75 and 0.25, so far
    assert second.previous_unfamiliar == pytest.approx((0.25 + 11 * 0.125) / 12)
    (end,) = segmenter.end()
    assert end.previous_unfamiliar == end.unfamiliar == pytest.approx(1.25 / 3)


def test_a_segment_that_becomes_familiar_is_decoded_again() -> None:
    segmenter, changes = Segmenter(SETTINGS, 's'), list[Change]()
    for number in range(60):
        changes += segmenter.push(shared(number, 0, 0.9 if number < 4 else 0.0))
    (first, familiar) = changes
    assert (first.reason, first.unfamiliar) == (Reason.FIRST, pytest.approx(0.9))
    assert familiar.reason is Reason.DRIFT and familiar.unfamiliar < 0.5
    assert familiar.segment_id == first.segment_id


def test_late_subscribers_get_the_last_published_unfamiliarity() -> None:
    segmenter = Segmenter(SETTINGS, 's')
    for number in range(60):
        segmenter.push(shared(number, 0, 0.9 if number < 4 else 0.0))
    (opened,) = segmenter.opened()
    assert opened.unfamiliar < 0.5
