# SPDX-License-Identifier: Apache-2.0
"""`vljepa memory` reads a file while a node writes it, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_models import FACTS, color_vector

from vljepa_ros.core.types import Change, Embedding, Event, Reason, Segment, State, StreamKey
from vljepa_ros.memory.embedding_memory import Memory
from vljepa_ros.memory.segment_store import Store

Run = Callable[..., Any]
S = 1_000_000_000
START = 1_790_000_000
KEY = StreamKey('front', 'What?', FACTS.model_id)


def record_segment(memory: Memory, second: int, number: int, color: str, before: str = '') -> None:
    """Record the start of a segment of three seconds, with its text."""
    at_ns, vector = (START + second) * S, color_vector(color)
    previous = Segment(number - 1, at_ns - 3 * S, at_ns) if before else None
    reason = Reason.MEANING if before else Reason.FIRST
    old = color_vector(before) if before else None
    memory.change(Change(at_ns, KEY, 's', number, at_ns, 1.0, reason, vector, previous, old))
    memory.event(Event(at_ns, KEY, 's', number, at_ns, at_ns, State.STARTED, f'it is {color}', 1))
    for hop in range(3):
        memory.record(Embedding(at_ns + hop * S, at_ns, KEY, vector))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """Create a memory file that another process is still writing."""
    path = tmp_path / 'memory.db'
    memory = Memory(FACTS.model_id, store=Store(path))
    record_segment(memory, 0, 0, 'red')
    record_segment(memory, 3, 1, 'blue', before='red')
    memory.commit()
    yield path
    memory.close()


def test_segments_are_listed_with_their_texts(vljepa: Run, file: Path) -> None:
    found = vljepa('memory', file, '--json')
    assert (found.status, found.err) == (0, '')
    assert found.lines == [
        {
            'source': 'front',
            'prompt': 'What?',
            'model_id': FACTS.model_id,
            'start': START + start,
            'end': START + end,
            'text': text,
        }
        for start, end, text in ((0, 3, 'it is red'), (3, 5, 'it is blue'))
    ]
    late = vljepa('memory', file, '--json', '--from', START + 4)
    assert [line['text'] for line in late.lines] == ['it is blue']
    printed = vljepa('memory', file).out.splitlines()
    assert len(printed) == 2 and printed[0].endswith('3.0 s  front  it is red')


def test_moments_of_a_text_are_found(vljepa: Run, file: Path) -> None:
    found = vljepa('memory', file, '--search', 'blue', '--limit', 1, '--json')
    (moment,) = found.lines
    assert (moment['start'], moment['end'], moment['text']) == (START + 3, START + 5, 'it is blue')
    assert moment['score'] == pytest.approx(1.0)
    assert 'front  it is blue' in vljepa('memory', file, '--search', 'blue').out


def test_an_unreadable_file_fails_with_one_line(vljepa: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('not a database')
    other = Memory('other', store=Store(tmp_path / 'other.db'))
    other.record(Embedding(S, 0, StreamKey('front', 'What?', 'other'), color_vector('red')))
    other.close()
    for arguments, message in (
        ((tmp_path / 'none.db',), 'none.db'),
        ((tmp_path / 'notes.txt',), 'notes.txt'),
        ((file, '--source', 'rear'), "'rear'"),
        ((file, '--search', ''), 'empty'),
        ((file, '--search', 'red', '--limit', '0'), 'limit (0)'),
        ((file, '--from', '1e12'), '--from (1e+12)'),
        ((tmp_path / 'other.db', '--search', 'red'), 'other'),
    ):
        found = vljepa('memory', *arguments)
        assert found.status == 2 and message in found.err, found.err
        assert found.out == '' and len(found.err.splitlines()) == 1
