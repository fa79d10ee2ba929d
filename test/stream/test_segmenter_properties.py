# SPDX-License-Identifier: Apache-2.0
"""Properties of change detection that hold for any stream, tested on generated streams."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Reason, StreamKey
from vljepa_ros.stream.segmenter import RISE, Segmenter

HOP = 200_000_000
KEY, OTHER = StreamKey('camera', 'what?', 'model'), StreamKey('rear', 'what?', 'model')
DIM = 6

seeds = st.integers(0, 2**32 - 1)
settings_of = st.builds(
    SegmenterSettings,
    change_threshold=st.floats(0.0, 3.0),
    confirm_hops=st.integers(1, 8),
    min_segment_s=st.floats(0.0, 3.0),
    drift_threshold=st.floats(0.0, 0.5),
)


@st.composite
def streams(draw: st.DrawFn, key: StreamKey = KEY) -> list[Embedding]:
    """Generate runs of one concept each, with noise, lost hops and state resets."""
    rng = np.random.default_rng(draw(seeds))
    lengths = draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
    noise = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    found, number, reset_count = list[Embedding](), 0, 0
    for length in lengths:
        meaning = rng.normal(size=DIM)
        if rng.random() < 0.2:
            reset_count, number = reset_count + 1, int(rng.integers(0, 50))  # time may go back
        for _ in range(length):
            vector = (meaning + noise * rng.normal(size=DIM)).astype(np.float32)
            vector /= np.linalg.norm(vector)
            found.append(Embedding(number * HOP, (number - 8) * HOP, key, vector, reset_count))
            number += int(rng.integers(1, 3))
    return found


def push_all(segmenter: Segmenter, stream: Sequence[Embedding]) -> list[Change]:
    return [change for embedding in stream for change in segmenter.push(embedding)]


def plain(changes: Sequence[Change]) -> list[tuple[object, ...]]:
    """Return changes without vectors and with rounded scores."""
    return [
        (
            c.stamp_ns,
            c.key,
            c.segment_id,
            c.segment_start_ns,
            round(c.score, 4),
            c.reason,
            c.previous,
        )
        for c in changes
    ]


@given(streams(), settings_of)
def test_segments_tile_the_stream(stream: list[Embedding], settings: SegmenterSettings) -> None:
    segmenter = Segmenter(settings, 's')
    changes = push_all(segmenter, stream) + segmenter.end()
    closed = [c.previous for c in changes if c.previous]
    opened = [c for c in changes if c.reason not in (Reason.DRIFT, Reason.END)]
    assert (
        [s.segment_id for s in closed] == [c.segment_id for c in opened] == [*range(len(opened))]
    )
    assert [s.start_ns for s in closed] == [c.segment_start_ns for c in opened]
    for before, after in zip(closed, opened[1:], strict=False):
        if after.reason is Reason.MEANING:
            assert before.start_ns < before.end_ns == after.segment_start_ns
    reset_counts = [e.reset_count for e in stream]
    assert sum(c.reason is Reason.RESET for c in opened) == len(set(reset_counts)) - 1
    assert opened[0].segment_start_ns == stream[0].stamp_ns
    assert closed[-1].end_ns == stream[-1].stamp_ns


@given(st.integers(1, 300), seeds, settings_of)
@example(9, 3843039, SegmenterSettings(drift_threshold=0.0))  # the means differ by rounding
def test_a_constant_stream_is_one_segment(
    length: int, seed: int, settings: SegmenterSettings
) -> None:
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    stream = [Embedding(n * HOP, (n - 8) * HOP, KEY, vector) for n in range(length)]
    changes = push_all(Segmenter(settings, 's'), stream)
    assert [c.reason for c in changes] == [Reason.FIRST]


@given(streams(), streams(OTHER), settings_of, seeds)
def test_interleaved_streams_give_the_same_changes_as_separate_streams(
    one: list[Embedding], other: list[Embedding], settings: SegmenterSettings, seed: int
) -> None:
    alone = [push_all(Segmenter(settings, 's'), stream) for stream in (one, other)]
    rng, rest, mixed = np.random.default_rng(seed), [list(one), list(other)], list[Change]()
    segmenter = Segmenter(settings, 's')
    while any(rest):
        stream = rest[int(rng.integers(2))]
        for _ in range(min(int(rng.integers(1, 9)), len(stream))):
            mixed += segmenter.push(stream.pop(0))
        segmenter = copy.deepcopy(segmenter)  # nothing is held elsewhere
    for key, expected in zip((KEY, OTHER), alone, strict=True):
        assert plain([c for c in mixed if c.key == key]) == plain(expected)


@given(streams(), seeds)
def test_changes_are_invariant_to_a_rotation_of_all_vectors(
    stream: list[Embedding], seed: int
) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIM, DIM)))
    turned = [
        dataclasses.replace(e, vector=(turn @ e.vector.astype(float)).astype(np.float32))
        for e in stream
    ]
    found, expected = (push_all(Segmenter(SegmenterSettings(), 's'), s) for s in (turned, stream))
    assert plain(found) == plain(expected)


@given(st.lists(streams(), min_size=1, max_size=8), st.floats(0.5, 60.0))
def test_texts_in_every_span_are_bounded_by_the_budget(
    parts: list[list[Embedding]], budget: float
) -> None:
    settings = SegmenterSettings(0.3, 1, 0.0, 0.01, budget)
    segmenter, stamp, texts = Segmenter(settings, 's'), 0, list[int]()
    for embedding in (e for part in parts for e in part):
        stamp += HOP
        changes = segmenter.push(Embedding(stamp, 0, KEY, embedding.vector))
        texts += [stamp] * len(changes)
    most = math.log(2 / 0.01) / RISE + 2
    for first, start in enumerate(texts):
        for count, end in enumerate(texts[first:], 1):
            assert count <= most + budget * (end - start) / 60e9


BAD = ('nan', 'infinite', 'zeros', 'shorter', 'repeated', 'backward')


@given(streams(), settings_of, st.sampled_from(BAD), seeds)
def test_invalid_input_raises_and_leaves_the_state_unchanged(
    stream: list[Embedding], settings: SegmenterSettings, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    at = int(rng.integers(1, len(stream) + 1))
    newest = stream[at - 1]
    vectors = {
        'nan': np.full(DIM, np.nan),
        'infinite': np.full(DIM, np.inf),
        'zeros': np.zeros(DIM),
        'shorter': np.ones(DIM - 1),
    }
    stamps = {'repeated': newest.stamp_ns, 'backward': newest.stamp_ns - int(rng.integers(1, HOP))}
    bad = dataclasses.replace(
        newest,
        stamp_ns=stamps.get(kind, newest.stamp_ns + HOP),
        vector=vectors.get(kind, rng.normal(size=DIM)).astype(np.float32),
    )
    segmenter = Segmenter(settings, 's')
    changes = push_all(segmenter, stream[:at])
    with pytest.raises(InputError):
        segmenter.push(bad)
    changes += push_all(segmenter, stream[at:])
    assert plain(changes) == plain(push_all(Segmenter(settings, 's'), stream))
