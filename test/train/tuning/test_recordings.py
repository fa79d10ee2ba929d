# SPDX-License-Identifier: Apache-2.0
"""Recordings for tuning: which line cannot be used, and what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import asked, lines, said, video

from vljepa_ros.data.told import AnnotationError
from vljepa_ros.errors import InputError
from vljepa_ros.model import registry
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.train.tuning.config import Recording
from vljepa_ros.train.tuning.recordings import Importer, long_enough


@pytest.fixture(scope='module')
def importer(start: Path) -> Importer:
    config = registry.read_config(start)
    return Importer(config, TextTower(config.text_tower, torch.device('cpu')))


@pytest.mark.parametrize(
    ('line', 'part'),
    [
        (said(0, 1, 'so ' * 13), 'text of 13 tokens is too long (at most 12)'),
        (asked(0, 'Is it?', 'so ' * 13), 'answer of 13 tokens is too long (at most 12)'),
        (asked(0, 'so ' * 127), 'prompt of 127 tokens is too long (at most 126)'),
        (
            asked(0, candidates=['yes', 'so ' * 63]),
            'candidate of 63 tokens is too long (at most 62)',
        ),
        (said(0, 9), '9 s is after the end'),
        (said(0, 1, ''), 'text is empty'),
    ],
)
def test_the_line_that_cannot_be_used_is_named(
    importer: Importer, tmp_path: Path, line: dict[str, Any], part: str
) -> None:
    source = video(tmp_path / 'a.avi')
    file = lines(tmp_path / 'a.jsonl', asked(1, answer='so ' * 12), line)
    with pytest.raises(AnnotationError) as caught:
        importer.read([Recording(str(source))], tmp_path / 'out')
    assert str(caught.value).startswith(f'{file}:2: {part}')


def test_recordings_of_one_name_are_kept_apart(importer: Importer, tmp_path: Path) -> None:
    given = []
    for place in ('a', 'b'):
        (tmp_path / place).mkdir()
        lines(tmp_path / place / 'run.jsonl', said(0, 1, place))
        given.append(Recording(str(video(tmp_path / place / 'run.avi'))))
    for _ in range(2):  # a second run begins anew
        streams = importer.read(given, tmp_path / 'out')
        assert [s.annotations[0].text for s in streams] == ['a', 'b']
        assert {s.frames().shape for s in streams} == {(20, 32, 32, 3)}


def test_two_files_may_speak_of_one_recording(importer: Importer, tmp_path: Path) -> None:
    source = str(video(tmp_path / 'run.avi'))
    files = [str(lines(tmp_path / f'{i}.jsonl', said(i, i + 1, f'{i}'))) for i in (0, 1)]
    streams = importer.read([Recording(source, file) for file in files], tmp_path / 'out')
    assert [[a.text for a in s.annotations] for s in streams] == [['0', ''], ['', '1']]


def test_files_are_all_read_before_the_pictures_of_any(importer: Importer, tmp_path: Path) -> None:
    lines(tmp_path / 'bad.jsonl', said(0, 1), '{')
    missing = Recording(str(tmp_path / 'gone.avi'), str(lines(tmp_path / 'x.jsonl', said(0, 1))))
    bad = Recording('anything', str(tmp_path / 'bad.jsonl'))
    with pytest.raises(AnnotationError, match=r'bad\.jsonl:2: is no JSON'):
        importer.read([missing, bad], tmp_path / 'out')
    with pytest.raises(InputError, match=r'no such file or folder: .*gone\.avi'):
        importer.read([missing], tmp_path / 'out')


def test_a_recording_shorter_than_a_clip_is_left_out(
    importer: Importer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = []
    for name, count in (('long', 50), ('short', 25)):  # 2 s and 1 s
        lines(tmp_path / f'{name}.jsonl', said(0, 0.5))
        given.append(Recording(str(video(tmp_path / f'{name}.avi', count))))
    streams = importer.read(given, tmp_path / 'out')
    assert [s.name for s in long_enough(streams, 20)] == ['long']
    assert 'skipped short: shorter than a clip (20 frames)' in caplog.text
    with pytest.raises(InputError, match=r'no recording is 21 frames long.*clips\.tubelets'):
        long_enough(streams, 21)
