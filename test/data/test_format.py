# SPDX-License-Identifier: Apache-2.0
"""Streams on disk: whole or not at all, and what is wrong with those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.data.format import Annotation, StreamData, open_split, read_stream, write_stream
from vljepa_ros.errors import InputError


def stream(name: str = 'train-00001') -> StreamData:
    frames = np.arange(20 * 4 * 4 * 3, dtype=np.uint8).reshape(20, 4, 4, 3)
    said = (
        Annotation(0.0, 1.2, 'rest', 'rest', 'push', 'puck', 'red'),
        Annotation(1.2, 2.0, 'reach:puck:red', 'reach', 'push', 'puck', 'red', object_state='x'),
    )
    return StreamData(name, frames, np.arange(20) * 100_000_000, said, {'seed': 1})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = write_stream(tmp_path, stream())
    found = read_stream(folder)
    np.testing.assert_array_equal(found.frames(), stream().frames)
    np.testing.assert_array_equal(found.stamps_ns(), stream().stamps_ns)
    assert found.annotations == stream().annotations
    assert found.meta['seed'] == 1 and found.frame_count == 20
    assert [p.name for p in tmp_path.iterdir()] == ['train-00001']


def break_stream(folder: Path, how: str) -> None:
    if how == 'truncated':
        path = folder / 'frames.npy'
        path.write_bytes(path.read_bytes()[:200])
    elif how == 'missing':
        (folder / 'meta.json').unlink()
    elif how == 'json':
        (folder / 'annotations.jsonl').write_text('{')
    elif how == 'gap':
        lines = (folder / 'annotations.jsonl').read_text().splitlines()
        (folder / 'annotations.jsonl').write_text(lines[1] + '\n')
    elif how == 'count':
        np.save(folder / 'stamps.npy', np.arange(7))
    elif how == 'partial':
        meta = json.loads((folder / 'meta.json').read_text())
        (folder / 'meta.json').write_text(json.dumps({**meta, 'complete': False}))


@pytest.mark.parametrize('how', ['truncated', 'missing', 'json', 'gap', 'count', 'partial'])
def test_a_broken_stream_is_named_and_the_others_are_kept(tmp_path: Path, how: str) -> None:
    write_stream(tmp_path, stream('train-00000'))
    break_stream(write_stream(tmp_path, stream('train-00001')), how)
    with pytest.raises(InputError, match='train-00001'):
        read_stream(tmp_path / 'train-00001')
    split = open_split(tmp_path)
    assert [s.name for s in split.streams] == ['train-00000']
    assert [name for name, _ in split.skipped] == ['train-00001']
