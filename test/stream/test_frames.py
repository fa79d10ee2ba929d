# SPDX-License-Identifier: Apache-2.0
"""Stamps: what is dropped, what resets, which frame fills which slot."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.stream.frames import Intake, Sampler

S = 1_000_000_000
MS = 1_000_000


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


def test_a_stamp_that_stands_still_or_goes_back_a_little_is_dropped_and_counted() -> None:
    intake = Intake(2 * S)
    assert intake.admit(10 * S).accepted
    still, back = intake.admit(10 * S), intake.admit(9 * S)
    assert not still.accepted and 'stands still' in still.message
    assert not back.accepted and 'goes back by 1.000 s' in back.message
    assert (intake.dropped_still, intake.dropped_back, intake.resets) == (1, 1, 0)
    assert intake.admit(10 * S + 1).epoch == 0


@pytest.mark.parametrize(
    ('stamp', 'words'), [(7 * S, 'back by 3.000'), (13 * S, 'forward by 3.000')]
)
def test_a_jump_starts_anew(stamp: int, words: str) -> None:
    intake = Intake(2 * S)
    intake.admit(10 * S)
    verdict = intake.admit(stamp)
    assert verdict.accepted and verdict.epoch == 1 and words in verdict.message
    assert intake.resets == 1
    assert intake.admit(stamp + S).epoch == 1


def test_a_gap_of_exactly_max_gap_resets_nothing() -> None:
    intake = Intake(2 * S)
    intake.admit(10 * S)
    assert intake.admit(12 * S).epoch == 0
    assert intake.admit(10 * S).epoch == 1  # back by max_gap is a loop


def test_a_dropped_frame_does_not_move_the_reference_stamp() -> None:
    intake = Intake(2 * S)
    intake.admit(10 * S)
    intake.admit(9 * S)
    assert intake.admit(12 * S).epoch == 0


def test_a_change_of_size_is_reported_once_and_resets_nothing() -> None:
    intake = Intake(2 * S)
    assert intake.admit(0, (480, 640)).message == ''
    verdict = intake.admit(S, (240, 320))
    assert verdict.accepted and verdict.epoch == 0
    assert verdict.message == 'camera changed size from 640x480 to 320x240'
    assert intake.admit(S + 1, (240, 320)).message == ''
    assert intake.size_changes == 1


def test_every_slot_takes_the_newest_frame_at_or_before_it() -> None:
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.integers(5 * MS, 260 * MS, 200))
    sampler, slots = Sampler(100 * MS, 2 * S), []
    for number, stamp in enumerate(stamps.tolist()):
        slots += sampler.push(stamp, image(number % 256))
    times = np.array([slot.slot_ns for slot in slots])
    assert (np.diff(times) == 100 * MS).all() and times[0] == stamps[0]
    for slot in slots:
        newest = int(np.flatnonzero(stamps <= slot.slot_ns)[-1])
        assert slot.stamp_ns == stamps[newest]
        assert slot.image[0, 0, 0] == newest % 256
    assert times[-1] + 100 * MS > stamps[-1]


def test_a_slot_at_a_frame_is_filled_at_once() -> None:
    sampler = Sampler(100 * MS, 2 * S)
    assert len(sampler.push(5, image(0))) == 1
    assert len(sampler.push(5 + 99 * MS, image(1))) == 0
    assert [s.image[0, 0, 0] for s in sampler.push(5 + 200 * MS, image(2))] == [1, 2]


def test_after_drops_the_newest_slots_take_the_new_frame_and_older_ones_are_skipped() -> None:
    sampler = Sampler(100 * MS, 2 * S)
    sampler.push(0, image(0))
    slots = sampler.push(730 * MS, image(7), room=2)
    assert [(slot.slot_ns // MS, slot.image[0, 0, 0]) for slot in slots] == [(600, 7), (700, 7)]
    assert sampler.skipped == 5
    assert sampler.push(790 * MS, image(8), room=2) == []  # no slot is due, and none is skipped
    slots = sampler.push(810 * MS, image(9))  # nothing was dropped: as ever
    assert [(slot.slot_ns // MS, slot.image[0, 0, 0]) for slot in slots] == [(800, 8)]
    assert sampler.skipped == 5


def test_a_frame_is_repeated_no_longer_than_max_gap_and_the_rest_is_skipped() -> None:
    sampler = Sampler(100 * MS, 300 * MS)
    sampler.push(0, image(0))
    slots = sampler.push(1000 * MS, image(1))
    assert [slot.slot_ns // MS for slot in slots] == [100, 200, 300, 1000]
    assert sampler.skipped == 6
