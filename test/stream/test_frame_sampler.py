# SPDX-License-Identifier: Apache-2.0
"""Stamps: dropped frames, resets, and assignment of frames to slots."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.stream.frame_sampler import FrameSampler
from vljepa_ros.stream.stamp_filter import StampFilter

S = 1_000_000_000
MS = 1_000_000


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def test_a_stamp_that_repeats_or_goes_back_slightly_is_dropped_and_counted() -> None:
    stamp_filter = StampFilter(2 * S)
    assert stamp_filter.admit(10 * S).accepted
    still, back = stamp_filter.admit(10 * S), stamp_filter.admit(9 * S)
    assert not still.accepted and 'repeats' in still.message
    assert not back.accepted and '1.000 s' in back.message
    assert (stamp_filter.dropped_still, stamp_filter.dropped_back, stamp_filter.resets) == (
        1,
        1,
        0,
    )
    assert stamp_filter.admit(10 * S + 1).reset_count == 0


@pytest.mark.parametrize(
    ('stamp', 'message'), [(7 * S, 'back by 3.000'), (13 * S, 'forward by 3.000')]
)
def test_a_stamp_jump_resets_the_sampler(stamp: int, message: str) -> None:
    stamp_filter = StampFilter(2 * S)
    stamp_filter.admit(10 * S)
    decision = stamp_filter.admit(stamp)
    assert decision.accepted and decision.reset_count == 1 and message in decision.message
    assert stamp_filter.resets == 1
    assert stamp_filter.admit(stamp + S).reset_count == 1


def test_a_gap_of_exactly_max_gap_is_not_a_reset() -> None:
    stamp_filter = StampFilter(2 * S)
    stamp_filter.admit(10 * S)
    assert stamp_filter.admit(12 * S).reset_count == 0
    assert stamp_filter.admit(10 * S).reset_count == 1  # back by max_gap is a loop


def test_a_dropped_frame_does_not_move_the_reference_stamp() -> None:
    stamp_filter = StampFilter(2 * S)
    stamp_filter.admit(10 * S)
    stamp_filter.admit(9 * S)
    assert stamp_filter.admit(12 * S).reset_count == 0


def test_a_change_of_size_is_reported_once_and_is_not_a_reset() -> None:
    stamp_filter = StampFilter(2 * S)
    assert stamp_filter.admit(0, (480, 640)).message == ''
    decision = stamp_filter.admit(S, (240, 320))
    assert decision.accepted and decision.reset_count == 0
    assert all(part in decision.message for part in ('size', '640x480', '320x240'))
    assert stamp_filter.admit(S + 1, (240, 320)).message == ''
    assert stamp_filter.size_changes == 1


def test_every_slot_takes_the_nearest_frame_or_the_newest_before_it() -> None:
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.integers(5 * MS, 260 * MS, 200))
    sampler, slots = FrameSampler(100 * MS, 2 * S), []
    for number, stamp in enumerate(stamps.tolist()):
        slots += sampler.push(stamp, image(number % 256))
    times = np.array([slot.slot_ns for slot in slots])
    assert (np.diff(times) == 100 * MS).all() and times[0] == stamps[0]
    for slot in slots:
        number = int(np.flatnonzero(stamps == slot.stamp_ns)[0])
        assert slot.image[0, 0, 0] == number % 256
        off, nearest = abs(slot.stamp_ns - slot.slot_ns), abs(stamps - slot.slot_ns).min()
        if nearest <= 50 * MS:  # slots of early frames are not delayed
            assert off <= max(25 * MS, nearest + 1)
        else:
            assert number == np.flatnonzero(stamps <= slot.slot_ns)[-1]
    assert times[-1] + 150 * MS > stamps[-1]


@pytest.mark.parametrize('rate_hz', [10, 20, 30, 60])
def test_stamp_jitter_does_not_change_the_sampled_frames(rate_hz: int) -> None:
    rng, sampler = np.random.default_rng(0), FrameSampler(100 * MS, 2 * S)
    per, slots = rate_hz // 10, list[int]()
    for number in range(50 * per):
        late_ms = min(10.0, 200 / rate_hz) * rng.uniform(-1, 1)
        found = sampler.push(int(number * S / rate_hz + late_ms * MS), image(number % 256))
        slots += [int(slot.image[0, 0, 0]) for slot in found]
    assert slots == [number % 256 for number in range(0, 50 * per, per)]


def test_a_slot_of_a_fast_camera_waits_for_its_nearest_frame() -> None:
    sampler = FrameSampler(100 * MS, 2 * S)
    for stamp_ms in range(0, 100, 20):
        sampler.push(stamp_ms * MS, image(stamp_ms))
    assert [slot.stamp_ns for slot in sampler.push(100 * MS, image(100))] == [100 * MS]


def test_a_slot_at_a_frame_is_filled_at_once() -> None:
    sampler = FrameSampler(100 * MS, 2 * S)
    assert len(sampler.push(5, image(0))) == 1
    assert len(sampler.push(5 + 70 * MS, image(1))) == 0
    assert [s.image[0, 0, 0] for s in sampler.push(5 + 200 * MS, image(2))] == [1, 2]


def test_after_drops_the_newest_slots_are_filled_and_older_slots_are_skipped() -> None:
    sampler = FrameSampler(100 * MS, 2 * S)
    sampler.push(0, image(0))
    slots = sampler.push(730 * MS, image(7), most=2)
    assert [(slot.slot_ns // MS, slot.image[0, 0, 0]) for slot in slots] == [(600, 7), (700, 7)]
    assert sampler.skipped == 5
    assert sampler.push(770 * MS, image(8), most=2) == []  # no slot is due, and none is skipped
    slots = sampler.push(840 * MS, image(9))  # nothing was dropped: as ever
    assert [(slot.slot_ns // MS, slot.image[0, 0, 0]) for slot in slots] == [(800, 8)]
    assert sampler.skipped == 5


def test_a_frame_is_repeated_for_at_most_max_gap() -> None:
    sampler = FrameSampler(100 * MS, 300 * MS)
    sampler.push(0, image(0))
    slots = sampler.push(1000 * MS, image(1))
    assert [slot.slot_ns // MS for slot in slots] == [100, 200, 300, 1000]
    assert sampler.skipped == 6
