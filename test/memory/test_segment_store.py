# SPDX-License-Identifier: Apache-2.0
"""Segment store: restarts, kills, full disks, and refused files."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_models import FakeLanguage, color_vector
from helpers.full_disk import Disk, locked
from helpers.waiting import eventually

from vljepa_ros.core.errors import BusyError, InputError, OutputError
from vljepa_ros.core.settings import MemorySettings
from vljepa_ros.core.types import (
    Change,
    Embedding,
    Event,
    Moment,
    Reason,
    Segment,
    State,
    StreamKey,
)
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.segment_store import Store

S = 1_000_000_000
KEY = StreamKey('camera', 'What?', 'm')


def hop(second: float, color: str = 'red', key: StreamKey = KEY) -> Embedding:
    return Embedding(round(second * S), 0, key, color_vector(color))


def opening(
    second: int, number: int, color: str, before: str = '', key: StreamKey = KEY
) -> Change:
    """Return the change that begins a segment after a segment of five seconds."""
    return Change(
        second * S,
        key,
        's',
        number,
        second * S,
        1.0,
        Reason.MEANING if before else Reason.FIRST,
        color_vector(color),
        Segment(number - 1, (second - 5) * S, second * S) if before else None,
        color_vector(before) if before else None,
    )


def record_red_and_blue(memory: Memory, key: StreamKey = KEY) -> None:
    """Record five seconds of red and three of blue, with texts."""
    memory.change(opening(0, 0, 'red', key=key))
    for second in range(8):
        if second == 5:
            memory.change(opening(5, 1, 'blue', 'red', key))
        memory.record(hop(second, 'red' if second < 5 else 'blue', key))
    memory.event(Event(0, key, 's', 0, 0, 0, State.ENDED, 'it was red', 1.0, nearest=True))
    memory.event(Event(0, key, 's', 1, 0, 0, State.STARTED, 'it is blue', 1.0))


def found(memory: Memory) -> list[Moment]:
    return memory.search(FakeLanguage(), 'red')


MOMENTS = [
    Moment('camera', 0, 4 * S, 1.0, 'it was red'),
    Moment('camera', 5 * S, 7 * S, 0.0, 'it is blue'),
]


def test_stored_data_survives_the_process(tmp_path: Path) -> None:
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    record_red_and_blue(memory)
    assert found(memory) == MOMENTS
    memory.close()
    again = Memory('m', store=Store(tmp_path / 'memory.db'))
    assert found(again) == MOMENTS
    recalled = again.recall('', 0, 4 * S, 'What?')
    assert recalled is not None
    [seen] = recalled.seen
    assert np.allclose(seen.vector, color_vector('red')) and seen.end_ns == 4 * S
    assert (seen.text, seen.nearest) == ('it was red', True)
    part = again.recall('', 0, 1 * S, 'What?')
    assert part is not None and [s.text for s in part.seen] == ['']  # the text describes its end
    own = again.recall('', 5 * S, 8 * S, 'What?')
    assert own is not None and [s.nearest for s in own.seen] == [False]
    again.change(opening(20, 0, 'red'))  # ids of another session would differ; what ran is over
    assert found(again)[-1] == MOMENTS[1]


def test_gaps_and_restarts_do_not_extend_segments(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    record_red_and_blue(memory)
    memory.close()
    memory = Memory('m', store=Store(path))
    later = opening(1000, 0, 'red')
    memory.change(dataclasses.replace(later, session_id='t'))
    memory.record(hop(1000))
    memory.record(hop(1003))
    memory.commit()
    for _ in range(2):
        memory.close()
        memory = Memory('m', store=Store(path))
        spans = sorted((m.start_ns // S, m.end_ns // S) for m in found(memory))
        assert spans == [(0, 4), (5, 7), (1000, 1003)]
    assert memory.recall('', 500 * S, 600 * S, '') is None


def test_stamps_from_an_unset_clock_delete_no_stored_data(tmp_path: Path) -> None:
    path, late = tmp_path / 'memory.db', 1_700_000_000
    memory = Memory('m', store=Store(path))
    memory.change(opening(late, 0, 'red'))
    for second in range(late, late + 5):
        memory.record(hop(second, 'red'))
    memory.commit()
    assert memory.problem == ''
    memory.close()

    memory = Memory('m', store=Store(path))
    memory.change(dataclasses.replace(opening(100, 0, 'blue'), session_id='t'))
    memory.record(hop(100, 'blue'))
    memory.commit()
    assert "'camera'" in memory.problem and '1,699,999,904 s' in memory.problem
    assert [m.start_ns // S for m in found(memory)] == [late]
    memory.record(hop(late + 600, 'blue'))  # now it is set
    memory.record(hop(late + 300, 'blue'))  # data of this process is not older data of the file
    memory.commit()
    assert memory.problem == ''
    memory.close()
    stamps = Memory('m', store=Store(path)).recall('', late * S, 0, 'What?')
    assert stamps is not None and stamps.seen[-1].end_ns == (late + 300) * S


def test_stamps_of_the_future_in_the_file_stop_no_recording(tmp_path: Path) -> None:
    """The process ends while stamps are a month ahead."""
    path, month = tmp_path / 'memory.db', 30 * 86_400
    memory = Memory('m', store=Store(path))
    memory.change(opening(1000, 0, 'red'))
    for second in range(1000, 1060):
        memory.record(hop(second, 'red'))
    for second in range(1060, 1065):
        memory.record(hop(second + month, 'red'))
    reset = opening(1060 + month, 1, 'red', 'red')
    before = Segment(0, 1000 * S, 1059 * S)
    memory.change(dataclasses.replace(reset, reason=Reason.RESET, previous=before))
    memory.close()

    memory = Memory('m', store=Store(path))
    for second in range(1100, 1120):
        memory.record(hop(second, 'red'))
    memory.commit()
    assert memory.problem == ''
    memory.close()
    stamps = Store(path, read_only=True).hops(KEY).stamps_ns // S
    assert stamps.tolist() == [*range(1000, 1060), *range(1100, 1120)]


def test_lasting_stamps_of_the_future_stop_no_recording_with_a_clock(
    tmp_path: Path,
) -> None:
    path, month = tmp_path / 'memory.db', 30 * 86_400
    today = time.time_ns() // S
    memory = Memory('m', store=Store(path))
    for second in range(today, today + 20):
        memory.record(hop(second + month, 'red'))
    for second in range(today - 100, today):
        memory.record(hop(second, 'red'))
    for second in range(today, today + 20):
        memory.record(hop(second + month, 'red'))
    memory.close()
    memory = Memory('m', store=Store(path), now=lambda: (today + 60) * S)
    memory.record(hop(today + 60, 'red'))
    memory.commit()
    assert memory.problem == ''
    memory.close()
    memory = Memory('m', store=Store(path), now=lambda: 0)  # the clock is not set
    memory.record(hop(60, 'red'))
    memory.commit()
    assert 'not recording' in memory.problem


def test_a_segment_that_is_open_during_a_restart_stays_one_segment(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    record_red_and_blue(memory)
    memory.close()
    memory = Memory('m', store=Store(path))
    memory.record(hop(8, 'blue'))
    memory.record(hop(10))
    memory.change(opening(10, 2, 'red', 'blue'))
    assert [(m.start_ns // S, m.end_ns // S, m.text) for m in found(memory)] == [
        (0, 4, 'it was red'),
        (10, 10, ''),
        (5, 8, 'it is blue'),
    ]


def test_deleted_data_is_also_deleted_on_disk(tmp_path: Path) -> None:
    settings = MemorySettings(kept_s=100.0, hops_kept_s=3.0)
    memory = Memory('m', settings, Store(tmp_path / 'memory.db'))
    record_red_and_blue(memory)
    memory.record(hop(3))  # time goes back
    memory.change(
        Change(3 * S, KEY, 's', 2, 3 * S, 1.0, Reason.RESET, color_vector('red'),
               Segment(1, 5 * S, 7 * S), color_vector('blue'))
    )  # fmt: skip
    expected = found(memory)
    memory.close()
    store = Store(tmp_path / 'memory.db', read_only=True)
    assert store.hops(KEY)[0].tolist() == [3 * S]
    assert [s.name for s in store.segments(KEY)] == [('s', 2)]
    assert found(Memory('m', settings, store)) == expected


KILLED_PROCESS = """
import sys
from pathlib import Path
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.segment_store import Store
from test_segment_store import opening, hop
memory = Memory('m', store=Store(Path(sys.argv[1])))
memory.change(opening(0, 0, 'red'))
for second in range(1000):
    memory.record(hop(second))
    if second == 500:
        memory.commit()
print('recorded', flush=True)
sys.stdin.read()
"""


def test_a_kill_loses_only_data_after_the_last_commit(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    here = Path(__file__).parent
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join([str(here), str(here.parent), *sys.path])
    }
    process = subprocess.Popen(
        [sys.executable, '-c', KILLED_PROCESS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == 'recorded\n'
    with pytest.raises(BusyError, match='process'):
        Store(path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stamps, vectors, _ = Store(path).hops(KEY)
    assert stamps.tolist()[:501] == [second * S for second in range(501)]
    assert np.allclose(vectors, color_vector('red'))


def test_the_file_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    memory.record(hop(0))
    memory.commit()
    reader = Store(tmp_path / 'memory.db', read_only=True)
    memory.record(hop(1))
    memory.commit()
    assert reader.hops(KEY)[0].tolist() == [0, S]
    with pytest.raises(OutputError, match='readonly'):
        reader.put_hop(KEY, 2 * S, color_vector('red'))


def test_vectors_of_other_models_have_the_same_retention_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('vljepa_ros.memory.embedding_memory.SELDOM', 10)
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    record_red_and_blue(memory)
    memory.close()
    other = dataclasses.replace(KEY, model_id='n')

    def left() -> tuple[int, int]:
        store = Store(path, read_only=True)
        return len(store.hops(KEY)[0]), len(store.segments(KEY))

    memory = Memory('n', MemorySettings(kept_s=300.0, hops_kept_s=100.0), Store(path))
    for seconds, expected in ((range(10, 80), (8, 2)), (range(80, 150), (0, 2))):
        for second in seconds:
            memory.record(hop(second, key=other))
        memory.commit()
        assert left() == expected
    for second in range(150, 400):
        memory.record(hop(second, key=other))
    memory.commit()
    assert left() == (0, 0)


def test_republished_open_segments_are_continued(tmp_path: Path) -> None:
    """A restarted node receives opening changes that are older than its file."""
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    memory.change(opening(0, 0, 'red'))
    for second in range(10):
        memory.record(hop(second))
    memory.event(Event(0, KEY, 's', 0, 0, 0, State.STARTED, 'it is red', 1.0))
    memory.close()
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    memory.change(opening(0, 0, 'red'))
    for second in range(10, 20):
        memory.record(hop(second))
    memory.commit()
    assert memory.problem == ''
    assert [(m.start_ns // S, m.end_ns // S, m.text) for m in found(memory)] == [
        (0, 19, 'it is red')
    ]


def test_deleted_streams_of_other_models_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('vljepa_ros.memory.embedding_memory.SELDOM', 10)
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    record_red_and_blue(memory)
    memory.close()
    other = dataclasses.replace(KEY, model_id='n')
    memory = Memory('n', MemorySettings(kept_s=50.0), Store(tmp_path / 'memory.db'))
    assert memory.foreign == 1
    for second in range(100, 130):
        memory.record(hop(second, key=other))
    assert memory.foreign == 0


def test_the_size_limit_first_deletes_the_oldest_streams_of_other_models(
    tmp_path: Path,
) -> None:
    path, keys = tmp_path / 'memory.db', []
    for number in range(4):
        keys.append(dataclasses.replace(KEY, model_id=f'm{number}'))
        memory = Memory(f'm{number}', MemorySettings(most_bytes=100_000), Store(path))
        for second in range(1000):  # of 8 numbers: 48 bytes each
            memory.record(hop(second, key=keys[-1]))
        memory.close()
    store = Store(path, read_only=True)
    assert [len(store.hops(key)[0]) for key in keys] == [0, 0, 1000, 1000]
    assert Memory('m3', store=store).foreign == 1  # empty streams are omitted


def test_vectors_of_another_model_are_stored_but_not_compared(tmp_path: Path) -> None:
    memory = Memory('m', store=Store(tmp_path / 'memory.db'))
    record_red_and_blue(memory)
    memory.close()
    other = Memory('other', store=Store(tmp_path / 'memory.db'))
    assert other.foreign == 1 and other.sources == () and found(other) == []
    record_red_and_blue(other, StreamKey('camera', 'What?', 'other'))
    other.close()
    assert found(Memory('m', store=Store(tmp_path / 'memory.db'))) == MOMENTS


def works_again(memory: Memory) -> bool:
    memory.commit()
    return memory.problem == ''


def test_the_memory_does_not_wait_while_another_process_locks_the_file(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    record_red_and_blue(memory)
    memory.commit()
    other = locked(path)
    began_s = time.monotonic()
    for second in range(8, 308):
        memory.record(hop(second))
        memory.commit()
    assert found(memory)[0].text == 'it was red'
    assert time.monotonic() - began_s < 5.0

    def is_reported() -> bool:
        memory.commit()
        text = f'{path} cannot be written: database is locked; '
        return text in memory.problem and 'changes wait in RAM' in memory.problem

    eventually(is_reported)
    other.execute('ROLLBACK')
    eventually(lambda: works_again(memory))
    memory.close()
    assert len(Store(path, read_only=True).hops(KEY).stamps_ns) == 308


def test_a_memory_that_is_closed_while_its_file_is_locked_ends_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    record_red_and_blue(memory)
    memory.commit()
    other = locked(path)
    memory.record(hop(8))
    began_s = time.monotonic()
    memory.close()
    assert time.monotonic() - began_s < 4.0
    assert 'are lost' in caplog.text and str(path) in caplog.text
    other.execute('ROLLBACK')
    assert found(Memory('m', store=Store(path))) == MOMENTS


def test_the_memory_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('vljepa_ros.memory.write_queue.SLOW_S', 0.1)
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    disk.hang()
    began_s = time.monotonic()
    for second in range(300):
        memory.record(hop(second))
        memory.commit()
    assert time.monotonic() - began_s < 5.0

    def is_reported() -> bool:
        memory.commit()
        return 'the disk has not responded for ' in memory.problem and '; 30' in memory.problem

    eventually(is_reported)
    disk.resume()
    eventually(lambda: works_again(memory))
    memory.close()
    assert len(Store(path, read_only=True).hops(KEY).stamps_ns) == 300


def test_changes_beyond_the_queue_are_dropped_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('vljepa_ros.memory.write_queue.MOST_PENDING', 50)
    path = tmp_path / 'memory.db'
    memory = Memory('m', store=Store(path))
    memory.record(hop(0))
    memory.commit()
    other = locked(path)
    for second in range(1, 200):
        memory.record(hop(second))

    def is_reported() -> bool:
        memory.commit()
        return '50 changes wait in RAM, 149 were dropped' in memory.problem

    eventually(is_reported)
    assert found(memory)[0].end_ns == 199 * S  # it is still in RAM
    other.execute('ROLLBACK')
    eventually(lambda: works_again(memory))
    memory.record(hop(200))
    memory.close()
    stamps = Store(path, read_only=True).hops(KEY).stamps_ns // S
    assert len(stamps) < 60 and stamps[-1] == 200


def test_the_memory_continues_in_ram_on_a_full_disk(tmp_path: Path, disk: Disk) -> None:
    store = Store(tmp_path / 'memory.db')
    memory = Memory('m', store=store)
    memory.record(hop(0))
    memory.commit()
    disk.fill()
    for second in range(1, 2000):
        memory.record(hop(second))

    def is_reported() -> bool:
        memory.commit()
        return 'full' in memory.problem and str(store.path) in memory.problem

    eventually(is_reported)
    recalled = memory.recall('', 0, 0, '')
    assert recalled is not None and recalled.seen[-1].end_ns == 1999 * S
    disk.clear()
    memory.record(hop(2000))
    eventually(lambda: works_again(memory))
    memory.close()
    stamps = Store(tmp_path / 'memory.db').hops(KEY)[0]
    assert (stamps // S).tolist() == list(range(2001))


def test_the_file_stays_within_the_size_limit(tmp_path: Path) -> None:
    store = Store(tmp_path / 'memory.db')
    memory = Memory('m', MemorySettings(most_bytes=200_000), store)
    for second in range(20_000):
        memory.record(hop(second))
    memory.commit()
    assert (tmp_path / 'memory.db').stat().st_size < 1.5 * 200_000
    assert store.hops(KEY)[0][-1] == 19_999 * S


@pytest.mark.parametrize('what', ['text', 'other', 'newer'])
def test_a_file_that_is_not_a_memory_is_rejected_and_left_unchanged(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / 'memory.db'
    if what == 'text':
        path.write_text('no database ' * 1000)
    else:
        base = sqlite3.connect(path)
        base.execute(
            'CREATE TABLE birds (name TEXT)' if what == 'other' else 'PRAGMA user_version=9'
        )
        base.commit()
        base.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r'memory\.db'):
        Store(path)
    assert path.read_bytes() == before


def test_a_missing_file_is_created_or_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='no such file'):
        Store(tmp_path / 'memory.db', read_only=True)
    with pytest.raises(OutputError, match=r'nowhere/memory\.db'):
        Store(tmp_path / 'nowhere' / 'memory.db')
    Store(tmp_path / 'memory.db').close()
    Store(tmp_path / 'memory.db').close()


OLDER = """
DROP TABLE hops;
CREATE TABLE hops (
    stream INTEGER, stamp_ns INTEGER, vector BLOB, PRIMARY KEY (stream, stamp_ns)
) WITHOUT ROWID;
DROP TABLE segments;
CREATE TABLE segments (
    stream INTEGER, session TEXT, number INTEGER, start_ns INTEGER, end_ns INTEGER, vector BLOB,
    text TEXT DEFAULT '', nearest INTEGER DEFAULT 0, PRIMARY KEY (stream, session, number)
) WITHOUT ROWID;
CREATE INDEX ended ON segments (end_ns);
PRAGMA user_version = 2;
"""


def test_a_file_of_the_previous_version_is_read_and_upgraded(tmp_path: Path) -> None:
    path, vector = tmp_path / 'memory.db', color_vector('red')
    store = Store(path)
    store.put_hop(KEY, S, vector)  # makes the stream
    store.close()
    base = sqlite3.connect(path)
    base.executescript(OLDER)
    blob = vector.astype(np.float16).tobytes()
    base.execute('INSERT INTO hops VALUES (1, ?, ?)', (S, blob))
    base.execute(
        "INSERT INTO segments VALUES (1, 's', 0, ?, ?, ?, 'it was red', 1)", (S, 2 * S, blob)
    )
    base.commit()
    base.close()
    reader = Store(path, read_only=True)
    assert reader.hops(KEY).unfamiliar.tolist() == [0.0]
    assert [(s.text, s.nearest, s.unfamiliar) for s in reader.segments(KEY)] == [
        ('it was red', True, 0.0)
    ]
    reader.close()
    memory = Memory(KEY.model_id, store=Store(path))
    memory.record(dataclasses.replace(hop(3, 'red'), unfamiliar=0.75))
    memory.close()
    again = Store(path, read_only=True)
    assert again.hops(KEY).stamps_ns.tolist() == [S, 3 * S]
    assert again.hops(KEY).unfamiliar.tolist() == [0.0, 0.75]
    assert [s.text for s in again.segments(KEY)] == ['it was red']


def test_unfamiliarity_is_stored(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    memory = Memory(KEY.model_id, store=Store(path))
    memory.record(dataclasses.replace(hop(0, 'red'), unfamiliar=0.25))
    memory.record(dataclasses.replace(hop(1, 'red'), unfamiliar=0.75))
    memory.change(dataclasses.replace(opening(0, 0, 'red'), unfamiliar=0.5))
    memory.close()
    recalled = Memory(KEY.model_id, store=Store(path)).recall('', 0, 0, '')
    assert recalled is not None and [s.unfamiliar for s in recalled.seen] == [0.5]
