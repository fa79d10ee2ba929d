# SPDX-License-Identifier: Apache-2.0
"""Offline change detection on the whole recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_models import fake_model, solid_image

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Frame, Reason, State, StreamKey
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.stream.offline_segmenter import OfflineSegmenter, clustered
from vljepa_ros.stream.segmenter import Segmenter

pytest.importorskip('sklearn')
HOP = 200_000_000
KEY, OTHER = StreamKey('camera', 'what?', 'model'), StreamKey('rear', 'what?', 'model')


def hop(number: int, direction: int, key: StreamKey = KEY, reset_count: int = 0) -> Embedding:
    return Embedding(number * HOP, 0, key, np.eye(4, dtype=np.float32)[direction], reset_count)


def cut(hops: list[Embedding], settings: SegmenterSettings | None = None) -> list[Change]:
    segmenter = OfflineSegmenter(settings or SegmenterSettings(), 's')
    assert [change for embedding in hops for change in segmenter.push(embedding)] == []
    return segmenter.end()


def test_all_changes_come_at_the_end_with_final_vectors() -> None:
    hops = [hop(n, 0) for n in range(5)] + [hop(n, 1) for n in range(5, 15)]
    first, change, end = cut(hops)
    assert [c.reason for c in (first, change, end)] == [Reason.FIRST, Reason.MEANING, Reason.END]
    assert first.previous is None and first.segment_start_ns == 0
    assert change.segment_start_ns == change.stamp_ns == 5 * HOP and change.score == 1.0
    for closing, number, start, until, direction in ((change, 0, 0, 5, 0), (end, 1, 5, 14, 1)):
        closed = closing.previous
        assert closed is not None and closing.previous_vector is not None
        assert (closed.segment_id, closed.start_ns, closed.end_ns) == (
            number,
            start * HOP,
            until * HOP,
        )
        np.testing.assert_array_equal(closing.previous_vector, np.eye(4)[direction])


def test_streams_are_separate_and_split_at_state_resets() -> None:
    hops = [hop(n, 0) for n in range(4)] + [hop(n, 2, OTHER) for n in range(4)]
    hops += [hop(n, 0, reset_count=1) for n in (2, 3)]
    found = cut(hops)
    own = [c for c in found if c.key == KEY]
    assert [c.reason for c in own] == [Reason.FIRST, Reason.RESET, Reason.END]
    assert own[1].previous is not None and own[1].previous.end_ns == 3 * HOP
    assert own[1].segment_start_ns == 2 * HOP
    assert [c.reason for c in found if c.key == OTHER] == [Reason.FIRST, Reason.END]


@pytest.mark.parametrize(
    ('budget', 'segments'), [(1.0, 1), (6.0, 1), (12.1, 2), (30.0, 5), (600.0, 6)]
)
def test_a_budget_limits_the_number_of_segments(budget: float, segments: int) -> None:
    directions = np.repeat([0, 1, 0, 2, 3, 1], 8)
    hops = [hop(n, int(d)) for n, d in enumerate(np.append(directions, [1] * 3))]  # ten seconds
    found = cut(hops, SegmenterSettings(events_per_minute=budget))
    assert len(found) == segments + 1


def test_the_merge_cost_threshold_is_the_same_as_online() -> None:
    """n k / (n + k) |m - r|^2 of two runs of length 6 and 3, at 90 degrees, is 4."""
    vectors = np.eye(2)[[0] * 6 + [1] * 3]
    for threshold, segments in ((3.99, 2), (4.01, 1)):
        assert len(clustered(vectors, threshold=threshold)) == segments


def test_an_invalid_vector_is_refused_and_leaves_the_state_unchanged() -> None:
    segmenter = OfflineSegmenter(SegmenterSettings(), 's')
    segmenter.push(hop(0, 0))
    with pytest.raises(InputError, match='finite'):
        segmenter.push(Embedding(HOP, 0, KEY, np.full(4, np.nan, np.float32)))
    (first, end) = segmenter.end()
    assert end.previous is not None and end.previous.end_ns == 0 == first.stamp_ns


def test_the_pipeline_decodes_each_offline_segment_once() -> None:
    pipeline = Pipeline(fake_model(), segmenter=OfflineSegmenter(SegmenterSettings(), 'offline'))
    for n in range(60):
        assert (
            pipeline.push(Frame(n * 100_000_000, solid_image('red' if n < 30 else 'green'))) == []
        )
    events = pipeline.finish()
    ended = [e for e in events if e.state is State.ENDED]
    assert [e.text for e in ended] == ['the scene is red', 'the scene is green']
    assert pipeline.writer.decodes == 2


@pytest.mark.parametrize(
    ('stamp', 'values', 'message'),
    [
        (4, [1.0, 0.0], '2 .*3'),
        (2, [1.0, 0.0, 0.0], r'0\.400 s .*0\.600 s'),
    ],
)
def test_invalid_embeddings_are_rejected_and_leave_the_state_unchanged(
    stamp: int, values: list[float], message: str
) -> None:
    offline = OfflineSegmenter(SegmenterSettings(), 's')
    for n in range(4):
        offline.push(Embedding(n * HOP, 0, KEY, np.array([1, 0, 0], np.float32)))
    with pytest.raises(InputError, match=message):
        offline.push(Embedding(stamp * HOP, 0, KEY, np.array(values, np.float32)))
    assert [c.reason for c in offline.end()] == [Reason.FIRST, Reason.END]


def test_lost_embeddings_start_a_segment_as_online() -> None:
    found = []
    for segmenter in (
        OfflineSegmenter(SegmenterSettings(), 's'),
        Segmenter(SegmenterSettings(), 's'),
    ):
        changes = []
        for n in (0, 1, 2, 30, 31):
            vector = np.array([1, 0, 0], np.float32)
            changes += segmenter.push(Embedding(n * HOP, (n - 1) * HOP, KEY, vector))
        changes += segmenter.end()
        found.append([(c.reason, c.segment_start_ns) for c in changes])
    assert found[0] == found[1] and [reason for reason, _ in found[0]][1] is Reason.RESET


def test_unfamiliarity_of_a_segment_is_the_mean_of_its_hops() -> None:
    offline = OfflineSegmenter(SegmenterSettings(), 's')
    for number in range(40):
        share = [0.25, 0.75][number % 2] if number < 20 else 0.0
        offline.push(replace(hop(number, int(number >= 20)), unfamiliar=share))
    first, second, end = offline.end()
    assert (first.unfamiliar, second.unfamiliar) == (0.5, 0.0)
    assert (second.previous_unfamiliar, end.previous_unfamiliar) == (0.5, 0.0)
