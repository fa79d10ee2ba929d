# SPDX-License-Identifier: Apache-2.0
"""Frame store: retention, lookup, and order of deletion."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_models import FACTS
from helpers.full_disk import Disk, locked
from helpers.waiting import eventually

from vljepa_ros.core.errors import BusyError, InputError
from vljepa_ros.core.settings import FrameStoreSettings
from vljepa_ros.core.types import Change, Image, Reason, Segment, Slot, StreamKey
from vljepa_ros.memory.frame_store import FrameStore, StoredHop
from vljepa_ros.memory.segment_store import Store

MS = 1_000_000
HOP = 200 * MS
WINDOW = FACTS.window_tubelets


def gray(level: int) -> Image:
    return np.full((16, 16, 3), level, np.uint8)


def noise(number: int) -> Image:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)


def size_of_noise() -> int:
    """Return the size of one hop of noise in bytes."""
    frame_store = FrameStore(FACTS)
    add(frame_store, range(64), image_of=noise)
    return frame_store.held_bytes // 64


def add(
    frame_store: FrameStore,
    numbers: range,
    source: str = 'camera',
    reset_count: int = 0,
    start: int = 0,
    image_of: object = gray,
) -> None:
    """Add hops of two frames, 100 ms apart, with this gray level."""
    for n in numbers:
        stamps = (start + n * HOP, start + n * HOP + 100 * MS)
        image = image_of(n % 250)  # type: ignore[operator]
        frame_store.add(source, [Slot(s, s, image) for s in stamps], reset_count, n)


SIZE = size_of_noise()


def ended(start: int, end: int, reason: Reason = Reason.MEANING, at: int | None = None) -> Change:
    """Return the change that ends a segment from hop `start` to `end`, at hop `at` or `end`."""
    vector = np.zeros(8, np.float32)
    stamps = [n * HOP + 100 * MS for n in (end if at is None else at, start, end)]
    key = StreamKey('camera', 'What?', 'm')
    return Change(
        stamps[0], key, 's', 1, stamps[0], 1.0, reason, vector, Segment(0, *stamps[1:]), vector
    )


def numbers(hops: list[StoredHop]) -> list[int]:
    return [hop.number for hop in hops]


def everything(frame_store: FrameStore, source: str = 'camera') -> list[int]:
    return numbers(frame_store.hops(source, 0, 2**62, 10**6))


def test_frames_of_a_span_are_returned() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(20))
    hops = frame_store.hops('camera', 3 * HOP, 6 * HOP + 100 * MS, 100)
    assert numbers(hops) == [3, 4, 5, 6]
    assert (hops[0].start_ns, hops[0].stamp_ns) == (3 * HOP, 3 * HOP + 100 * MS)
    for hop in hops:
        first, second = frame_store.images(hop)
        assert first.shape == second.shape == (16, 16, 3)
        assert np.abs(first.astype(int) - hop.number).max() <= 1  # JPEG
    assert frame_store.span('camera') == (0, 19 * HOP + 100 * MS)
    assert frame_store.span('rear') is None


def test_the_two_frames_of_a_hop_are_decoded_separately() -> None:
    """They are stored as one image; each is decoded as if it had been encoded separately."""
    frame_store = FrameStore(dataclasses.replace(FACTS, image_size=96))
    ramp = np.linspace(0, 255, 96 * 96 * 3).reshape(96, 96, 3).astype(np.uint8)
    images = [ramp, 255 - ramp]
    frame_store.add('camera', [Slot(n, n, image) for n, image in enumerate(images)], 0, 0)
    for stored, image in zip(frame_store.images(frame_store.hops('camera', 0, 9, 9)[0]), images):
        assert np.abs(stored.astype(int) - image).mean() < 3
        assert np.abs(stored[[0, -1]].astype(int) - image[[0, -1]]).mean() < 3


def test_the_context_of_a_span_ends_at_a_gap() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(10))
    add(frame_store, range(14, 30))  # frames were dropped
    add(frame_store, range(31, 40), reset_count=1)
    by_number = {hop.number: hop for hop in frame_store.hops('camera', 0, 10**18, 100)}
    assert numbers(frame_store.before(by_number[9], 3)) == [6, 7, 8]
    assert numbers(frame_store.before(by_number[15], 3)) == [14]
    assert numbers(frame_store.before(by_number[31], 3)) == []
    assert numbers(frame_store.before(by_number[0], 3)) == []


def test_a_repeated_frame_has_its_stamp_twice() -> None:
    frame_store = FrameStore(FACTS)
    for number in range(6):
        stamp = number // 2 * HOP
        frame_store.add('camera', [Slot(stamp, stamp, gray(number))] * 2, 0, number)
    hops = frame_store.hops('camera', 0, 10**18, 100)
    assert numbers(hops) == [0, 1, 2, 3, 4, 5]
    assert numbers(frame_store.before(hops[4], 3)) == [1, 2, 3]


def test_frames_of_several_cameras_are_separate() -> None:
    frame_store = FrameStore(FACTS)
    for number in range(8):
        add(frame_store, range(number, number + 1), 'front')
        add(frame_store, range(number, number + 1), 'rear', image_of=lambda n: gray(200))
    assert frame_store.sources == ('front', 'rear')
    hop = frame_store.hops('rear', 5 * HOP, 6 * HOP, 9)[0]
    assert numbers(frame_store.before(hop, 3)) == [2, 3, 4]
    assert frame_store.images(hop)[0].mean() == pytest.approx(200, abs=1)


def test_stamps_that_go_back_delete_later_frames() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(20))
    add(frame_store, range(20), 'rear')
    add(frame_store, range(3), reset_count=1, start=5 * HOP)
    assert everything(frame_store) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert everything(frame_store, 'rear') == list(range(20))


def test_the_size_limit_deletes_the_oldest_frames_outside_last_windows() -> None:
    room, count = 700, 1500
    frame_store = FrameStore(FACTS, FrameStoreSettings(most_bytes=room * SIZE))
    for number in range(count):
        add(frame_store, range(number, number + 1), image_of=noise)
        if number % 20 == 0 and number:  # segments of twenty hops
            frame_store.keep(ended(number - 20, number))
    left = everything(frame_store)
    assert 0.9 * room <= len(left) <= room + 64
    windows = {n for n in range(count - 20) if n % 20 >= 20 - WINDOW}
    assert windows <= set(left)
    others = [n for n in range(count) if n not in windows]
    kept = [n for n in left if n not in windows]
    assert kept == others[-len(kept) :]


def test_a_tiny_size_limit_also_deletes_the_oldest_last_windows() -> None:
    frame_store = FrameStore(FACTS, FrameStoreSettings(most_bytes=100 * SIZE))
    for number in range(1500):
        add(frame_store, range(number, number + 1), image_of=noise)
        if number % 20 == 0 and number:
            frame_store.keep(ended(number - 20, number))
    left = everything(frame_store)
    assert left[-1] == 1499 and left == sorted(left)
    assert 90 <= len(left) <= 100 + 64  # less than the newest minute


def test_frames_older_than_the_retention_time_are_deleted() -> None:
    frame_store = FrameStore(FACTS, FrameStoreSettings(kept_s=10.0))
    add(frame_store, range(128))
    newest = 127 * HOP + 100 * MS
    assert everything(frame_store)[0] == next(
        n for n in range(128) if n * HOP + 100 * MS >= newest - 10_000 * MS
    )


def test_landmarks_are_the_ends_of_segments() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(100))
    for start, end in ((0, 20), (20, 45), (45, 80)):
        frame_store.keep(ended(start, end))
    assert numbers(frame_store.landmarks('camera', 0, 10**12, 4)) == [19, 44, 79, 99]
    found = numbers(frame_store.landmarks('camera', 0, 10**12, 16))
    assert {19, 44, 79, 99} <= set(found) and len(found) > 8
    assert all(b - a >= WINDOW / 2 for a, b in itertools.pairwise(found))


def test_landmarks_of_many_segments_cover_the_span_evenly() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(1000))
    for end in range(5, 1000, 5):
        frame_store.keep(ended(end - 5, end))
    found = numbers(frame_store.landmarks('camera', 0, 10**12, 10))
    assert found[-1] == 999 and len(found) == 10
    assert all(n % 5 == 4 for n in found)
    assert all(60 <= b - a <= 140 for a, b in itertools.pairwise(found))


def test_long_and_open_segments_have_landmarks() -> None:
    """The span has two segments of four hops and ten minutes of an open segment."""
    frame_store = FrameStore(FACTS)
    add(frame_store, range(3000))
    for start, end in ((0, 20), (20, 40)):
        frame_store.keep(ended(start, end))
    found = numbers(frame_store.landmarks('camera', 0, 10**12, 16))
    assert found[:2] == [19, 39] and found[-1] == 2999
    assert len([n for n in found if n > 40]) >= 10
    inside = numbers(frame_store.landmarks('camera', 100 * HOP, 1000 * HOP + 100 * MS, 16))
    assert inside[-1] == 1000 and inside[0] >= 100
    assert frame_store.landmarks('camera', 10**15, 10**16, 16) == []


def test_the_last_window_of_a_segment_ends_before_the_next_segment(disk: Disk) -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(40))
    frame_store.keep(ended(0, 10))  # its change is of hop 10
    frame_store.keep(ended(10, 19, Reason.END))
    priorities = dict(disk.query('SELECT number, kept FROM hops WHERE kept > 0'))
    assert priorities == {6: 1, 7: 1, 8: 1, 9: 2, 16: 1, 17: 1, 18: 1, 19: 2}


def test_a_segment_of_deleted_frames_protects_no_window(disk: Disk) -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(40))
    add(frame_store, range(2), reset_count=1)
    frame_store.keep(ended(20, 39, Reason.RESET, at=1))
    assert disk.query('SELECT number FROM hops WHERE kept > 0') == []


def test_landmarks_without_segments_are_evenly_spaced() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(101))
    found = numbers(frame_store.landmarks('camera', 0, 100 * HOP + 100 * MS, 4))
    assert found[-1] == 100 and all(abs(b - a - 25) <= 1 for a, b in itertools.pairwise(found))


def test_frames_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    code = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_frame_store import FACTS, FrameStore, add
frame_store = FrameStore(FACTS, path=Path(sys.argv[1]))
add(frame_store, range(10))
frame_store.commit()
add(frame_store, range(10, 15))
print('committed', flush=True)
time.sleep(60)
"""
    path, here = tmp_path / 'frames.db', Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, '-c', code, str(path), str(here), str(here.parent)],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(BusyError, match='process'):
        FrameStore(FACTS, path=path)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    again = FrameStore(FACTS, path=path)
    assert everything(again)[:10] == list(range(10))
    assert again.held_bytes > 0
    before = everything(again)
    add(again, range(3), reset_count=7, start=10**12)
    again.close()
    assert everything(FrameStore(FACTS, path=path)) == [*before, 0, 1, 2]


def test_stamps_from_an_unset_clock_delete_no_frames(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(10), start=10**15)
    frame_store.close()
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(3), reset_count=7)
    frame_store.commit()
    assert 'camera' in frame_store.problem
    assert everything(frame_store) == list(range(10))
    add(frame_store, range(3), reset_count=8, start=10**15 + 10**12)
    frame_store.commit()
    assert frame_store.problem == '' and everything(frame_store) == [*range(10), 0, 1, 2]


@pytest.mark.parametrize('late', [50 * MS, 100 * MS])
def test_a_hop_that_overlaps_the_newest_stored_hop_deletes_no_frames(
    tmp_path: Path, late: int
) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(10))
    frame_store.close()
    frame_store = FrameStore(FACTS, path=path)
    for reset_count in (7, 8):  # the second reset goes back to the overlap and replaces the first
        add(frame_store, range(3), reset_count=reset_count, start=9 * HOP + late)
        assert everything(frame_store) == [*range(10), 1, 2]
    hops = frame_store.hops('camera', 9 * HOP, 10**18, 9)
    assert [hop.reset_count for hop in hops] == [0, 8, 8]
    frame_store.commit()
    assert "'camera'" in frame_store.problem


def test_a_hop_that_begins_after_the_newest_stored_hop_is_stored(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(10))
    frame_store.close()
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(2), reset_count=7, start=9 * HOP + 100 * MS + 1)
    frame_store.commit()
    assert everything(frame_store) == [*range(10), 0, 1] and frame_store.problem == ''


def test_frames_of_the_future_delete_no_frames_and_stop_no_recording(tmp_path: Path) -> None:
    path, month = tmp_path / 'frames.db', 30 * 86_400 * 1000 * MS
    frame_store = FrameStore(FACTS, FrameStoreSettings(kept_s=100.0), path)
    add(frame_store, range(128))
    add(frame_store, range(128, 143), reset_count=1, start=month)
    add(frame_store, range(143, 192), reset_count=2)
    assert everything(frame_store) == [*range(128), *range(143, 192)]
    add(frame_store, range(192, 207), reset_count=3, start=month)
    frame_store.close()
    frame_store = FrameStore(FACTS, FrameStoreSettings(kept_s=100.0), path)
    add(frame_store, range(300, 310), reset_count=7)
    frame_store.commit()
    assert frame_store.problem == ''
    assert everything(frame_store) == [*range(128), *range(143, 192), *range(300, 310)]


def test_frames_of_the_past_delete_no_frames_until_they_have_lasted() -> None:
    frame_store = FrameStore(FACTS)
    add(frame_store, range(1000, 1100))
    add(frame_store, range(50), reset_count=1)
    frame_store.commit()
    assert "'camera': stamps went back by 2" in frame_store.problem
    add(frame_store, range(1150, 1160), reset_count=2)
    assert everything(frame_store) == [*range(1000, 1100), *range(1150, 1160)]
    add(frame_store, range(60), reset_count=3)  # a bag that is played again
    assert everything(frame_store) == list(range(60))


def test_frames_of_another_image_size_are_refused_and_left_unchanged(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(4))
    frame_store.close()
    with pytest.raises(InputError, match=r'16x16.*24x24'):
        FrameStore(dataclasses.replace(FACTS, image_size=24), path=path)
    assert everything(FrameStore(FACTS, path=path)) == [0, 1, 2, 3]


def test_an_invalid_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / 'notes'
    path.write_text('no database ' * 100)
    with pytest.raises(InputError, match='notes'):
        FrameStore(FACTS, path=path)


def test_a_full_disk_is_reported_and_writing_continues_later(tmp_path: Path, disk: Disk) -> None:
    frame_store = FrameStore(FACTS, path=tmp_path / 'frames.db')
    add(frame_store, range(10), image_of=noise)
    frame_store.commit()
    disk.fill()
    add(frame_store, range(10, 40), image_of=noise)

    def is_reported() -> bool:
        frame_store.commit()
        return 'full' in frame_store.problem

    eventually(is_reported)
    assert set(everything(frame_store)) >= set(range(10))
    disk.clear()
    add(frame_store, range(40, 50), image_of=noise)
    eventually(lambda: works_again(frame_store))
    assert everything(frame_store) == list(range(50))
    size = frame_store.held_bytes
    frame_store.close()
    assert FrameStore(FACTS, path=tmp_path / 'frames.db').held_bytes == size


def works_again(frame_store: FrameStore) -> bool:
    frame_store.commit()
    return frame_store.problem == ''


def test_frames_do_not_wait_while_another_process_locks_the_file(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(10))
    frame_store.commit()
    other = locked(path)
    began_s = time.monotonic()
    add(frame_store, range(10, 200))
    frame_store.keep(ended(10, 150))
    frame_store.commit()
    assert everything(frame_store) == list(range(10))
    assert time.monotonic() - began_s < 5.0

    def is_reported() -> bool:
        frame_store.commit()
        return f'{path} cannot be written: database is locked; 19' in frame_store.problem

    eventually(is_reported)
    other.execute('ROLLBACK')
    eventually(lambda: works_again(frame_store))
    assert everything(frame_store) == list(range(200))


def test_the_log_does_not_grow_during_a_long_transaction_of_a_reader(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    log, limit = tmp_path / 'frames.db-wal', 8_000_000
    frame_store = FrameStore(FACTS, FrameStoreSettings(most_bytes=100_000), path)
    add(frame_store, range(10), image_of=noise)
    frame_store.commit()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute('BEGIN')
    other.execute('SELECT count(*) FROM hops').fetchall()
    numbers = itertools.count(10)

    def is_reported() -> bool:
        for _ in range(200):
            number = next(numbers)
            add(frame_store, range(number, number + 1), image_of=noise)
        frame_store.commit()
        return 'frames.db-wal has 8 MB' in frame_store.problem

    eventually(is_reported, 60.0)
    assert log.stat().st_size < 1.2 * limit
    assert frame_store.file_bytes == path.stat().st_size + log.stat().st_size
    other.execute('COMMIT')
    eventually(lambda: works_again(frame_store))
    assert log.stat().st_size < limit
    assert everything(frame_store)[-1] == (next(numbers) - 1)


def test_frames_stay_in_ram_if_the_disk_is_full_at_startup(
    tmp_path: Path, full_disk: None
) -> None:
    frame_store = FrameStore(FACTS, path=tmp_path / 'frames.db')
    add(frame_store, range(10), image_of=noise)
    for _ in range(2):  # the problem is still reported
        frame_store.commit()
        assert str(tmp_path / 'frames.db') in frame_store.problem
        assert 'full' in frame_store.problem
    assert everything(frame_store) == list(range(10))


def test_images_of_a_deleted_hop_are_an_error() -> None:
    frame_store = FrameStore(FACTS, FrameStoreSettings(most_bytes=100_000))
    add(frame_store, range(10), image_of=noise)
    frame_store.commit()
    hop = frame_store.hops('camera', 0, HOP, 9)[0]
    add(frame_store, range(10, 1000), image_of=noise)
    with pytest.raises(InputError, match='deleted'):
        frame_store.images(hop)


def test_cameras_with_different_clocks_do_not_delete_frames_of_each_other() -> None:
    frame_store = FrameStore(FACTS, FrameStoreSettings(kept_s=100.0))
    add(frame_store, range(64), 'sim')
    add(frame_store, range(64), 'live', start=1_700_000_000 * 1000 * MS)
    assert everything(frame_store, 'sim') == everything(frame_store, 'live') == list(range(64))


def test_hops_with_equal_stamps_are_ordered_by_number() -> None:
    """The camera is so slow that one image fills twenty hops."""
    frame_store = FrameStore(FACTS)
    for number in range(60):
        stamp = number // 20 * 20 * HOP
        frame_store.add('camera', [Slot(stamp, stamp, gray(number))] * 2, 0, number)
    hops = frame_store.hops('camera', 0, 10**18, 100)
    assert numbers(frame_store.before(hops[40], 4)) == [36, 37, 38, 39]
    assert numbers(frame_store.before(hops[50], 4)) == [46, 47, 48, 49]


def test_deleted_space_is_returned_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(3000), image_of=noise)
    frame_store.close()
    before = path.stat().st_size
    frame_store = FrameStore(FACTS, FrameStoreSettings(most_bytes=200 * SIZE), path)
    add(frame_store, range(3000, 4500), image_of=noise)
    frame_store.close()
    assert path.stat().st_size < before / 2


def test_memory_and_frame_store_reject_files_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    Store(path).close()
    with pytest.raises(InputError, match=r'memory\.db'):
        FrameStore(FACTS, path=path)
    FrameStore(FACTS, path=tmp_path / 'frames.db').close()
    with pytest.raises(InputError, match=r'frames\.db'):
        Store(tmp_path / 'frames.db')


def test_a_file_damaged_at_run_time_is_reported_without_an_exception(
    tmp_path: Path, disk: Disk
) -> None:
    path = tmp_path / 'frames.db'
    frame_store = FrameStore(FACTS, path=path)
    add(frame_store, range(200), image_of=noise)
    eventually(lambda: disk.query('SELECT count(*) FROM hops', 0) == [(200,)])
    eventually(lambda: disk.query('PRAGMA wal_checkpoint(TRUNCATE)', 0) == [(0, 0, 0)])
    with path.open('r+b') as file:
        file.seek(4096)
        file.write(b'\xff' * (path.stat().st_size - 4096))
    disk.query('PRAGMA shrink_memory', 0)
    for reset_count in (0, 1):
        add(frame_store, range(200, 400), reset_count=reset_count, image_of=noise)
        frame_store.commit()
    assert str(path) in frame_store.problem


def test_a_very_long_retention_time_is_accepted() -> None:
    frame_store = FrameStore(FACTS, FrameStoreSettings(kept_s=1e9))
    add(frame_store, range(200))
    frame_store.commit()
    assert frame_store.problem == '' and len(everything(frame_store)) == 200
