# SPDX-License-Identifier: Apache-2.0
"""Recordings for fine-tuning: errors in annotation lines and unreadable recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.numbered_recordings import caption_line, question_line, video, write_lines

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.annotation_file import AnnotationError
from vljepa_ros.model import registry
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train.fine_tuning.config import Recording
from vljepa_ros.train.fine_tuning.recordings import Importer, long_enough


@pytest.fixture(scope='module')
def importer(start: Path) -> Importer:
    config = registry.read_config(start)
    return Importer(config, TextTower(config.text_tower, torch.device('cpu')))


@pytest.mark.parametrize(
    ('line', 'parts'),
    [
        (caption_line(0, 1, 'so ' * 13), ['text', '13 tokens', '12']),
        (question_line(0, 'Is it?', 'so ' * 13), ['answer', '13 tokens', '12']),
        (question_line(0, 'so ' * 127), ['prompt', '127 tokens', '126']),
        (
            question_line(0, candidates=['yes', 'so ' * 63]),
            ['candidate', '63 tokens', '62'],
        ),
        (caption_line(0, 9), ['9 s']),
        (caption_line(0, 1, ''), ['text', 'empty']),
    ],
)
def test_an_unusable_line_is_named(
    importer: Importer, tmp_path: Path, line: dict[str, Any], parts: list[str]
) -> None:
    source = video(tmp_path / 'a.avi')
    file = write_lines(tmp_path / 'a.jsonl', question_line(1, answer='so ' * 12), line)
    with pytest.raises(AnnotationError) as caught:
        importer.read([Recording(str(source))], tmp_path / 'out')
    assert str(caught.value).startswith(f'{file}:2: ') and all(
        p in str(caught.value) for p in parts
    )


def test_recordings_with_the_same_name_are_kept_separate(
    importer: Importer, tmp_path: Path
) -> None:
    given = []
    for place in ('a', 'b'):
        (tmp_path / place).mkdir()
        write_lines(tmp_path / place / 'run.jsonl', caption_line(0, 1, place))
        given.append(Recording(str(video(tmp_path / place / 'run.avi'))))
    for _ in range(2):  # a second run starts from the beginning
        streams = importer.read(given, tmp_path / 'out')
        assert [s.annotations[0].text for s in streams] == ['a', 'b']
        assert {s.frames().shape for s in streams} == {(20, 32, 32, 3)}


def test_a_recording_may_have_two_annotation_files(importer: Importer, tmp_path: Path) -> None:
    source = str(video(tmp_path / 'run.avi'))
    files = [
        str(write_lines(tmp_path / f'{i}.jsonl', caption_line(i, i + 1, f'{i}'))) for i in (0, 1)
    ]
    streams = importer.read([Recording(source, file) for file in files], tmp_path / 'out')
    assert [[a.text for a in s.annotations] for s in streams] == [['0', ''], ['', '1']]


def test_all_annotation_files_are_read_before_any_images(
    importer: Importer, tmp_path: Path
) -> None:
    write_lines(tmp_path / 'bad.jsonl', caption_line(0, 1), '{')
    missing = Recording(
        str(tmp_path / 'gone.avi'), str(write_lines(tmp_path / 'x.jsonl', caption_line(0, 1)))
    )
    bad = Recording('anything', str(tmp_path / 'bad.jsonl'))
    with pytest.raises(AnnotationError, match=r'bad\.jsonl:2: .*JSON'):
        importer.read([missing, bad], tmp_path / 'out')
    with pytest.raises(InputError, match=r'gone\.avi'):
        importer.read([missing], tmp_path / 'out')


def test_a_recording_shorter_than_a_clip_is_left_out(
    importer: Importer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = []
    for name, count in (('long', 50), ('short', 25)):  # 2 s and 1 s
        write_lines(tmp_path / f'{name}.jsonl', caption_line(0, 0.5))
        given.append(Recording(str(video(tmp_path / f'{name}.avi', count))))
    streams = importer.read(given, tmp_path / 'out')
    assert [s.name for s in long_enough(streams, 20)] == ['long']
    assert 'short' in caplog.text and '20 frames' in caplog.text
    with pytest.raises(InputError, match=r'21 frames.*clips\.tubelets'):
        long_enough(streams, 21)
