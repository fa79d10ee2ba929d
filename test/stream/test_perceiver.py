# SPDX-License-Identifier: Apache-2.0
"""Frames in, embeddings out: hops, stamps, reset_counts, sources, prompts, the past."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_models import FACTS, FakeVision, color_vector, solid_image

from vljepa_ros.core.errors import InputError, NoFrameError, NotStoredError
from vljepa_ros.core.settings import FrameStoreSettings, PerceptionSettings
from vljepa_ros.core.types import (
    Change,
    Embedding,
    Frame,
    Image,
    Reason,
    Segment,
    StreamKey,
)
from vljepa_ros.core.vectors import unit
from vljepa_ros.memory.frame_store import FrameStore
from vljepa_ros.stream.perceiver import Perceiver

MS = 1_000_000
HOP = 200 * MS


def feed(
    perceiver: Perceiver,
    colors: list[str],
    start: int = 0,
    reset_count: int = 0,
    source: str = 'camera',
) -> list[Embedding]:
    found = []
    for number, color in enumerate(colors):
        frame = Frame(start + number * 100 * MS, solid_image(color), source)
        found += perceiver.push(frame, reset_count)
    return found


def test_each_hop_yields_one_embedding_per_prompt_with_the_newest_stamp() -> None:
    perceiver = Perceiver(FakeVision(), PerceptionSettings(prompts=('a', 'b')))
    found = feed(perceiver, ['red'] * 10, start=50)
    assert [e.stamp_ns for e in found[::2]] == [50 + (2 * k + 1) * 100 * MS for k in range(5)]
    assert [e.key.prompt for e in found] == ['a', 'b'] * 5
    assert {e.key.source for e in found} == {'camera'}
    assert {e.key.model_id for e in found} == {FACTS.model_id}
    assert [np.linalg.norm(e.vector) for e in found] == pytest.approx([1.0] * 10, abs=1e-6)


def test_window_start_is_the_oldest_attended_tubelet() -> None:
    found = feed(Perceiver(FakeVision()), ['red'] * 16)
    window = FACTS.window_tubelets
    assert [e.window_start_ns // HOP for e in found] == [max(0, k + 1 - window) for k in range(8)]


def test_a_new_reset_count_resets_the_state() -> None:
    perceiver = Perceiver(FakeVision())
    feed(perceiver, ['red'] * 5)
    found = feed(perceiver, ['blue'] * 4, start=30, reset_count=1)
    assert [(e.window_start_ns, e.reset_count) for e in found] == [(30, 1), (30, 1)]
    fresh = feed(Perceiver(FakeVision()), ['blue'] * 4, start=30)
    np.testing.assert_array_equal(found[-1].vector, fresh[-1].vector)


def test_cameras_have_separate_states() -> None:
    perceiver, alone = Perceiver(FakeVision()), Perceiver(FakeVision())
    mixed = []
    for number in range(8):
        for source, color in (('front', 'red'), ('rear', 'blue')):
            mixed += perceiver.push(Frame(number * 100 * MS, solid_image(color), source))
    expected = feed(alone, ['red'] * 8, source='front')
    front = [e for e in mixed if e.key.source == 'front']
    assert perceiver.sources == ('front', 'rear')
    np.testing.assert_array_equal([e.vector for e in front], [e.vector for e in expected])


def test_prompts_change_all_together_or_not_at_all() -> None:
    perceiver = Perceiver(FakeVision(), PerceptionSettings(prompts=('a',)))
    feed(perceiver, ['red'] * 2)
    for bad in (['x', 'x'], ['y' * 10_000_000], ['\0'], ['word ' * 65], ['x'] * 33):
        with pytest.raises(InputError):
            perceiver.set_prompts(bad)
        assert perceiver.prompts == ('a',)
    perceiver.set_prompts(['b', ''])
    found = feed(perceiver, ['red'] * 2, start=200 * MS)
    assert [e.key.prompt for e in found] == ['b', '']


def test_an_invalid_image_leaves_the_state_unchanged() -> None:
    perceiver, clean = Perceiver(FakeVision()), Perceiver(FakeVision())
    feed(perceiver, ['red'] * 3)
    for bad in (np.zeros((2, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2, 3))):
        with pytest.raises(InputError, match='uint8'):
            perceiver.push(Frame(250 * MS, bad))  # type: ignore[arg-type]
    feed(clean, ['red'] * 3)
    after = feed(perceiver, ['green'], start=300 * MS)
    np.testing.assert_array_equal(
        after[0].vector, feed(clean, ['green'], start=300 * MS)[0].vector
    )


def test_predict_errors_describe_the_missing_input() -> None:
    perceiver = Perceiver(FakeVision())
    with pytest.raises(NoFrameError):
        perceiver.predict('', ['what?'])
    feed(perceiver, ['red'], source='front')  # half a tubelet
    with pytest.raises(NoFrameError):
        perceiver.predict('front', ['what?'])
    feed(perceiver, ['red'] * 4, start=100 * MS, source='front')
    with pytest.raises(InputError, match=r"'rear'.*front"):
        perceiver.predict('rear', ['what?'])
    feed(perceiver, ['red'] * 4, source='rear')
    with pytest.raises(InputError, match='several cameras'):
        perceiver.predict('', ['what?'])


@pytest.mark.parametrize(
    ('prompts', 'message'),
    [(['a'] * 33, '33 prompts.* 32'), (['a', 'word ' * 65], '65 words')],
)
def test_predict_refuses_too_many_or_too_long_prompts(prompts: list[str], message: str) -> None:
    perceiver = Perceiver(FakeVision())
    feed(perceiver, ['red'] * 4)
    with pytest.raises(InputError, match=message):
        perceiver.predict('', prompts)
    assert len(perceiver.predict('', ['a'] * 32).vectors) == 32


def test_a_too_long_standing_prompt_is_refused_at_construction() -> None:
    with pytest.raises(InputError, match='65 words'):
        Perceiver(FakeVision(), PerceptionSettings(prompts=('word ' * 65,)))


def test_predict_without_a_span_equals_the_newest_hop() -> None:
    perceiver = Perceiver(FakeVision(), PerceptionSettings(prompts=('what?',)))
    newest = feed(perceiver, ['red'] * 6 + ['blue'] * 4)[-1]
    found = perceiver.predict('', ['what?', 'other'])
    assert (found.stamp_ns, found.window_start_ns) == (newest.stamp_ns, newest.window_start_ns)
    np.testing.assert_array_equal(found.vectors[0], newest.vector)
    assert found.vectors.shape == (2, 8)


def perceiver_with_frame_store(vision: FakeVision | None = None, **settings: Any) -> Perceiver:
    """Return a perceiver with a frame store."""
    frame_store = FrameStore(FACTS, FrameStoreSettings(**settings))
    return Perceiver(vision or FakeVision(), PerceptionSettings(prompts=('what?',)), frame_store)


def test_predict_of_a_span_uses_the_frames_of_that_span() -> None:
    perceiver = perceiver_with_frame_store()
    hops = feed(perceiver, ['red'] * 20 + ['blue'] * 20)
    found = perceiver.predict('', ['what?'], 1000 * MS, 1900 * MS)
    np.testing.assert_allclose(found.vectors[0], hops[6].vector, atol=1e-6)
    assert found.stamp_ns == 1900 * MS
    with pytest.raises(NotStoredError):
        perceiver.predict('', ['what?'], 9000 * MS, 9900 * MS)
    with pytest.raises(InputError, match='start'):
        perceiver.predict('', ['what?'], 1900 * MS, 1000 * MS)


def test_a_span_with_deleted_frames_is_rejected() -> None:
    perceiver = perceiver_with_frame_store(kept_s=1.0)
    feed(perceiver, ['red'] * 128)
    with pytest.raises(NotStoredError, match=r'1\.000 s to 1\.900 s .* \(stored: 11\.6'):
        perceiver.predict('', ['what?'], 1000 * MS, 1900 * MS)


def test_predict_of_a_span_requires_a_frame_store() -> None:
    perceiver = Perceiver(FakeVision())
    feed(perceiver, ['red'] * 20)
    with pytest.raises(NotStoredError, match=r'stored: none'):
        perceiver.predict('', ['what?'], 1000 * MS)


def test_a_span_with_gaps_is_evaluated_in_its_stored_parts() -> None:
    perceiver = perceiver_with_frame_store()
    feed(perceiver, ['red'] * 10)
    feed(perceiver, ['blue'] * 10, start=9000 * MS, reset_count=1)
    found = perceiver.predict('', ['what?'], 200 * MS, 9500 * MS)
    assert [(window.start_ns, window.end_ns) for window in found.windows] == [
        (200 * MS, 900 * MS),
        (9000 * MS, 9500 * MS),
    ]
    assert (found.window_start_ns, found.stamp_ns) == (200 * MS, 9500 * MS)
    first, second = (window.vectors[0] for window in found.windows)
    assert first @ color_vector('red') > 0.9 and second @ color_vector('blue') > 0.9
    np.testing.assert_allclose(found.vectors[0], unit(first + second), atol=1e-6)


def test_each_segment_of_a_long_span_is_evaluated() -> None:
    vision = StateRecordingVision()
    perceiver = perceiver_with_frame_store(vision)
    assert perceiver.frame_store is not None
    feed(perceiver, ['red'] * 200 + ['blue'] * 100 + ['green'] * 100)
    for start_ns, end_ns in ((0, 20_100 * MS), (20_100 * MS, 30_100 * MS)):
        perceiver.frame_store.keep(ended(start_ns, end_ns))
    vision.seen.clear()
    found = perceiver.predict('', ['what?'], 1, 40_000 * MS)
    spans = {window.end_ns // MS: window.start_ns // MS for window in found.windows}
    assert {19_900: 19_200, 29_900: 29_200, 39_900: 39_200}.items() <= spans.items()
    assert len(spans) == 16 and all(end - start == 700 for end, start in spans.items())
    assert len(vision.seen) == 16 and all(len(seen) == 4 for seen in vision.seen)  # a window each
    colors = [seen[-1] for seen in vision.seen]
    assert colors == sorted(colors, key=['red', 'blue', 'green'].index)
    assert set(colors) == {'red', 'blue', 'green'}  # the last of them is not over


def ended(start_ns: int, end_ns: int) -> Change:
    """Return the change that ends a segment."""
    vector = color_vector('red')
    key = StreamKey('camera', 'what?', FACTS.model_id)
    before = Segment(0, start_ns, end_ns)
    return Change(end_ns, key, 's', 1, end_ns, 1.0, Reason.MEANING, vector, before, vector)


def test_a_short_span_is_evaluated_window_by_window() -> None:
    perceiver = perceiver_with_frame_store()
    feed(perceiver, ['red'] * 42 + ['blue'] * 4 + ['red'] * 40)
    found = perceiver.predict('', ['what?'], 1000 * MS, 7000 * MS)
    assert [(window.start_ns // MS, window.end_ns // MS) for window in found.windows] == [
        (1000 + 800 * n, min(1700 + 800 * n, 6900)) for n in range(8)
    ]
    blue = [window.vectors[0] @ color_vector('blue') for window in found.windows]
    assert max(blue) > 0.5 and sorted(blue)[-3] < 0.3  # four images, and no more


def test_many_short_runs_are_sampled() -> None:
    perceiver = perceiver_with_frame_store()
    for reset_count in range(30):
        feed(perceiver, ['red'] * 4, start=reset_count * 3000 * MS, reset_count=reset_count)
    assert len(perceiver.predict('', ['what?'], 1).windows) <= 16


def test_a_long_span_without_segments_is_sampled() -> None:
    perceiver = perceiver_with_frame_store()
    feed(perceiver, ['red'] * 1000 + ['blue'] * 1000)
    found = perceiver.predict('', ['what?'], 1)
    assert len(found.windows) == 16
    colors = [int(window.vectors[0] @ color_vector('blue') > 0.9) for window in found.windows]
    assert colors == [0] * 8 + [1] * 8


def test_the_stream_continues_between_steps_of_a_past_prediction() -> None:
    vision = FakeVision()
    perceiver, alone = perceiver_with_frame_store(vision), perceiver_with_frame_store()
    feed(perceiver, ['red'] * 20 + ['blue'] * 20)
    feed(alone, ['red'] * 20 + ['blue'] * 20)
    expected = alone.predict('', ['what?'], 1000 * MS, 3000 * MS)
    steps = perceiver.predicting('', ['what?'], 1000 * MS, 3000 * MS)
    made, taken = [], 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
        made += feed(perceiver, ['green'] * 2, start=(40 + 2 * taken) * 100 * MS)
        taken += 1
    assert taken == 4 + 10  # a window before, and the hops from 1.0 to 2.9 s
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert len(made) == taken and all(e.vector @ color_vector('green') > 0.9 for e in made)


def test_spans_before_a_restart_can_be_queried(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    feed(Perceiver(FakeVision(), frame_store=frame_store), ['red'] * 40)
    frame_store.close()
    perceiver = Perceiver(FakeVision(), frame_store=FrameStore(FACTS, path=path))
    found = perceiver.predict('', ['what?'], 1000 * MS, 2000 * MS)
    assert found.source == 'camera' and found.vectors[0] @ color_vector('red') > 0.9
    with pytest.raises(NoFrameError):
        perceiver.predict('', ['what?'])


class NumberedVision(FakeVision):
    """Vision side that records the number of each image, hop by hop."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[int]] = []

    def step(self, state: Any, images: Sequence[Image]) -> None:
        self.seen.append([int(i[0, 0, 0]) * 256 + int(i[0, 0, 1]) for i in images])
        super().step(state, images)


def numbered(number: int) -> Image:
    return np.full((24, 32, 3), (number // 256, number % 256, 0), np.uint8)


def live(
    vision: NumberedVision, frame_ns: int, hop_ns: int, count: int
) -> tuple[Perceiver, list[int]]:
    """Simulate the node's newest-frame queue with `hop_ns` per hop; return the latencies."""
    perceiver, latencies = Perceiver(vision), []
    now = processed = 0
    while processed < count - 1:
        newest = min(max(now // frame_ns, processed + 1), count - 1)
        now = max(now, newest * frame_ns)
        frame = Frame(newest * frame_ns, numbered(newest))
        for [embedding] in perceiver.see(frame, dropped=newest > processed + 1):
            now += hop_ns
            latencies.append(now - embedding.stamp_ns)
        processed = newest
    return perceiver, latencies


@pytest.mark.parametrize('frame_ns', [100 * MS, 33 * MS])
@pytest.mark.parametrize('load', [1.1, 2.0])
def test_under_overload_every_hop_has_a_new_frame_and_bounded_latency(
    load: float, frame_ns: int
) -> None:
    hop_ns, seconds = round(load * HOP), 60
    vision = NumberedVision()
    perceiver, latencies = live(vision, frame_ns, hop_ns, seconds * 1000 * MS // frame_ns)
    assert max(latencies) <= 2 * hop_ns
    assert np.mean(latencies[-20:]) <= 1.2 * np.mean(latencies[:20])  # it does not grow
    newest = [hop[-1] for hop in vision.seen]
    assert newest == sorted(set(newest))
    assert perceiver.hops >= 0.9 * seconds * 1000 * MS / hop_ns  # the time is used
    missing = seconds * 10 - 2 * perceiver.hops  # of 10 slots a second, two a hop
    assert abs(perceiver.skipped_slots - missing) <= 4


@pytest.mark.parametrize('rate_hz', [2.5, 5.0])
def test_hops_of_a_slow_camera_rarely_repeat_one_frame(rate_hz: float) -> None:
    vision = NumberedVision()
    perceiver = Perceiver(vision)
    for number in range(60):
        perceiver.push(Frame(round(number * 1000 * MS / rate_hz), numbered(number)))
    still = [len(set(hop)) == 1 for hop in vision.seen]
    repeated = 10.0 / rate_hz / 2 - 1  # hops without a new frame, to each that has one
    assert still[0]  # nothing is known yet
    assert np.mean(still[10:]) <= repeated / (1 + repeated) + 0.02
    assert perceiver.skipped_slots == 0


def test_a_camera_at_the_models_rate_has_every_frame_encoded_once() -> None:
    vision, rng = NumberedVision(), np.random.default_rng(0)
    perceiver = Perceiver(vision)
    for number in range(60):
        late_ns = round(20 * MS * rng.uniform(-1, 1))
        perceiver.push(Frame(number * 100 * MS + late_ns, numbered(number)))
    seen = [frame for hop in vision.seen for frame in hop]
    assert seen == list(range(len(seen))) and len(seen) >= 58


def test_fast_cameras_under_overload_account_for_every_slot() -> None:
    """Only the newest frame is queued, as in the node; a hop takes 30 to 70 ms."""
    vision, rng, now = NumberedVision(), np.random.default_rng(0), 0
    perceiver, processed = Perceiver(vision), {name: -1 for name in 'abc'}
    slots = 0
    while now < 60_000 * MS:
        for name in processed:
            newest = now // (33 * MS)
            if newest == processed[name]:
                continue
            frame = Frame(newest * 33 * MS, numbered(newest), name)
            for _ in perceiver.see(frame, dropped=newest > processed[name] + 1):
                now += round(rng.uniform(30, 70) * MS)
                slots += 2
            processed[name] = newest
        now += MS
    assert abs(slots + perceiver.skipped_slots - 3 * 600) <= 9


def test_a_fast_camera_with_dropped_frames_skips_no_slot_if_time_suffices() -> None:
    vision = NumberedVision()
    perceiver, latencies = live(vision, 33 * MS, round(0.9 * HOP), 1800)
    assert perceiver.skipped_slots == 0
    assert perceiver.hops >= 1799 * 33 * MS // HOP - 1
    assert max(latencies) <= 2 * HOP


def test_each_hop_is_yielded_before_the_next_is_computed() -> None:
    vision = NumberedVision()
    perceiver = Perceiver(vision)
    assert list(perceiver.see(Frame(0, solid_image('red')))) == []
    hops = perceiver.see(Frame(500 * MS, solid_image('red')))  # a slow camera: three hops
    assert [len(vision.seen) for _ in hops] == [1, 2, 3]


def test_stamps_far_from_zero_give_the_same_vectors() -> None:
    colors = ['red', 'red', 'blue', 'green', 'green', 'white'] * 3
    near, far = (feed(Perceiver(FakeVision()), colors, start=s) for s in (0, 10**9 * HOP))
    np.testing.assert_array_equal([e.vector for e in near], [e.vector for e in far])


class StateRecordingVision(FakeVision):
    """Vision side that records the colors in the state at each answer."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def predict(self, state: Any, prompts: Sequence[str]) -> Any:
        self.seen.append(list(state.seen))
        return super().predict(state, prompts)


def test_a_reset_clears_the_caches() -> None:
    vision = StateRecordingVision()
    perceiver = perceiver_with_frame_store(vision)
    feed(perceiver, ['red'] * 10)
    vision.seen.clear()
    feed(perceiver, ['blue'] * 4, start=60_000 * MS, reset_count=1)
    assert not any('red' in seen for seen in vision.seen)
    vision.seen.clear()
    perceiver.predict('camera', ['a'], start_ns=60_100 * MS)
    assert not any('red' in seen for seen in vision.seen)


def test_a_span_is_evaluated_with_one_window_of_context() -> None:
    vision = StateRecordingVision()
    perceiver = perceiver_with_frame_store(vision)
    feed(perceiver, [c for c in ('red', 'green', 'blue', 'yellow', 'white') for _ in range(4)])
    vision.seen.clear()
    perceiver.predict('camera', ['a'], start_ns=1700 * MS, end_ns=1800 * MS)
    (first,) = vision.seen  # the hop of 1.7 s, and the four of its window before it
    assert first == ['blue', 'blue', 'yellow', 'yellow', 'white']


def test_unit_leaves_zero_vectors_unchanged() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
