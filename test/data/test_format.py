# SPDX-License-Identifier: Apache-2.0
"""Streams on disk: atomic writing, and error messages for incomplete streams."""

from __future__ import annotations

import errno
import json
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.data.format import (
    AnnotatedQuestion,
    Annotation,
    StreamData,
    open_split,
    read_stream,
    write_stream,
)

QUESTIONS = (
    AnnotatedQuestion(0.3, 0.4, 'Is it dark?', 'no', ('yes', 'no')),
    AnnotatedQuestion(1.0, 1.1, 'What is that?', 'a “puck”\u2028'),
)


def stream(name: str = 'train-00001', side: int = 4) -> StreamData:
    frames = np.arange(20 * side * side * 3, dtype=np.uint8).reshape(20, side, side, 3)
    annotations = (
        Annotation(0.0, 1.2, 'rest', 'rest', 'push', 'puck', 'red'),
        Annotation(1.2, 2.0, 'reach:puck:red', 'reach', 'push', 'puck', 'red', object_state='x'),
    )
    state = {'light': np.linspace(0, 1, 20).astype(np.float16)}
    return StreamData(
        name,
        frames,
        np.arange(20) * 100_000_000,
        annotations,
        {'seed': 1},
        state,
        questions=QUESTIONS,
    )


def test_written_streams_are_read_back(tmp_path: Path) -> None:
    folder = write_stream(tmp_path, stream())
    found = read_stream(folder)
    np.testing.assert_array_equal(found.frames(), stream().frames)
    np.testing.assert_array_equal(found.stamps_ns(), stream().stamps_ns)
    assert found.frames().dtype == np.uint8 and found.stamps_ns().dtype == np.int64
    assert found.annotations == stream().annotations and found.questions() == QUESTIONS
    assert list(found.state()) == ['light']
    np.testing.assert_array_equal(found.state()['light'], stream().state['light'])
    assert found.meta['seed'] == 1 and found.frame_count == 20
    assert [p.name for p in tmp_path.iterdir()] == ['train-00001']


def test_frames_may_be_stored_as_jpegs(tmp_path: Path) -> None:
    shade = np.repeat(np.arange(0, 200, 10, dtype=np.uint8), 16 * 16 * 3).reshape(20, 16, 16, 3)
    folder = write_stream(tmp_path, replace(stream(), frames=shade, quality=95))
    found = read_stream(folder)
    assert not (folder / 'frames.npy').exists() and found.frames().shape == shade.shape
    np.testing.assert_allclose(found.frames()[7:9].astype(int), shade[7:9], atol=2)
    path = folder / 'frames.jpegs'
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match='train-00001'):
        read_stream(folder)


def test_frames_of_any_memory_order_are_written(tmp_path: Path) -> None:
    fortran_order = np.asfortranarray(stream().frames)
    folder = write_stream(tmp_path, replace(stream(), frames=fortran_order))
    np.testing.assert_array_equal(np.load(folder / 'frames.npy'), stream().frames)


def test_state_and_questions_may_be_absent(tmp_path: Path) -> None:
    folder = write_stream(tmp_path, replace(stream(), state={}, questions=()))
    assert read_stream(folder).questions() == () and read_stream(folder).state() == {}
    assert not (folder / 'questions.jsonl').exists() and not (folder / 'state.npz').exists()


def test_keys_of_later_versions_are_ignored(tmp_path: Path) -> None:
    folder = write_stream(tmp_path, stream())
    for name in ('annotations.jsonl', 'questions.jsonl'):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        text = ''.join(json.dumps({**row, 'new': 1}) + '\n' for row in rows)
        (folder / name).write_text(text)
    found = read_stream(folder)
    assert found.annotations == stream().annotations and found.questions() == QUESTIONS


@pytest.mark.parametrize(
    'values',
    [
        (-0.1, 1.0, 'q', 'a'),
        (1.0, 1.0, 'q', 'a'),
        (float('nan'), 1.0, 'q', 'a'),
        (0.0, float('inf'), 'q', 'a'),
        (0.0, 1.0, ' ', 'a'),
        (0.0, 1.0, 'q', ''),
        (0.0, 1.0, 'q', 'a', ('a', '')),
        (0.0, 1.0, 'q', 7),
    ],
)
def test_an_invalid_question_is_rejected(values: tuple[object, ...]) -> None:
    with pytest.raises(InputError):
        AnnotatedQuestion(*values)  # type: ignore[arg-type]


def edit(path: Path, **values: object) -> None:
    """Change the first line of a file of JSON lines."""
    first, *others = path.read_text().splitlines()
    path.write_text('\n'.join([json.dumps({**json.loads(first), **values}), *others]) + '\n')


def break_stream(folder: Path, how: str) -> None:
    meta, annotations, questions, state = (
        folder / name
        for name in ('meta.json', 'annotations.jsonl', 'questions.jsonl', 'state.npz')
    )
    if how == 'truncated':
        path = folder / 'frames.npy'
        path.write_bytes(path.read_bytes()[:-1])
    elif how == 'missing':
        meta.unlink()
    elif how == 'json':
        annotations.write_text('{')
    elif how == 'list':
        meta.write_text('[]')
    elif how == 'gap':
        annotations.write_text(annotations.read_text().splitlines()[1] + '\n')
    elif how == 'nan':
        edit(annotations, start=float('nan'))
    elif how == 'text':
        edit(annotations, start='0')
    elif how == 'count':
        np.save(folder / 'stamps.npy', np.arange(7))
    elif how == 'meta count':
        edit(meta, frame_count=7)
    elif how == 'floats':
        np.save(folder / 'frames.npy', np.zeros((20, 4, 4, 3), np.float32))
    elif how == 'partial':
        edit(meta, complete=False)
    elif how == 'question':
        edit(questions, prompt='')
    elif how == 'question json':
        questions.write_text('nonsense\n')
    elif how == 'state':
        np.savez(state, light=np.zeros(19))
    elif how == 'state zip':
        state.write_bytes(state.read_bytes()[:-40])


@pytest.mark.parametrize(
    'how',
    [
        'truncated',
        'missing',
        'json',
        'list',
        'gap',
        'nan',
        'text',
        'count',
        'meta count',
        'floats',
        'partial',
        'question',
        'question json',
        'state',
        'state zip',
    ],
)
def test_a_broken_stream_is_named_and_the_others_are_kept(tmp_path: Path, how: str) -> None:
    write_stream(tmp_path, stream('train-00000'))
    break_stream(write_stream(tmp_path, stream('train-00001')), how)
    with pytest.raises(InputError, match='train-00001'):
        read_stream(tmp_path / 'train-00001')
    split = open_split(tmp_path)
    assert [s.name for s in split.streams] == ['train-00000']
    assert [name for name, _ in split.skipped] == ['train-00001']


def test_a_split_contains_the_streams_of_its_folder(tmp_path: Path) -> None:
    for name in ('b', 'a', '.c.123'):
        write_stream(tmp_path, stream(name))
    (tmp_path / 'notes.txt').write_text('no stream')
    split = open_split(tmp_path)
    assert [s.name for s in split.streams] == ['a', 'b'] and split.skipped == ()
    with pytest.raises(InputError, match='gone'):
        open_split(tmp_path / 'gone')


def test_a_full_disk_keeps_existing_streams_and_leaves_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_stream(tmp_path, stream())

    def fail(path: Path, *_: object, **__: object) -> None:
        assert (path.parent / 'frames.npy').is_file()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, 'write_text', fail)
        with pytest.raises(OutputError, match=rf'{tmp_path}.*No space left'):
            write_stream(tmp_path, replace(stream(), meta={'seed': 2}))
    assert read_stream(folder).meta['seed'] == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_at_the_last_byte_is_reported(tmp_path: Path) -> None:
    data = stream(side=16)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    header = len((write_stream(tmp_path / 'a', data) / 'frames.npy').read_bytes())
    header -= data.frames.nbytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (header + data.frames.nbytes - 1, before[1]))
    try:
        with pytest.raises(OutputError, match='File too large'):
            write_stream(tmp_path / 'b', data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / 'b').iterdir()) == []


def test_an_interrupt_leaves_no_partial_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, 'write_text', interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_stream(tmp_path, stream())
    assert list(tmp_path.iterdir()) == []
