# SPDX-License-Identifier: Apache-2.0
"""`vljepa report` with the fake model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vljepa_ros.core.exit_status import ExitStatus

Run = Callable[..., Any]


def test_the_page_is_written_and_summarized(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'report.html'
    found = vljepa('report', bag, '--out', out, '--watch', 'it is blue', '--ask', 'Is it red?')
    assert found.status == 0 and '3 segments' in found.out
    text = out.read_text()
    assert text.startswith('<!doctype html>') and 'the scene is blue' in text
    assert 'it is blue' in text and 'Is it red?' in text


def test_json_describes_the_lanes(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'report.html'
    found = vljepa('report', bag, '-o', out, '--prompt', 'A?', '--prompt', 'B?', '--json').json
    assert found['bytes'] == out.stat().st_size
    assert [lane['prompt'] for lane in found['lanes']] == ['A?', 'B?']
    assert [s['text'] for s in found['lanes'][0]['segments']][1] == 'the scene is blue'


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [(('--watch', ''), 'empty'), (('--ask', ' '), 'empty'), (('--watch', 'a') * 51, '50')],
)
def test_bad_input_is_one_line_and_writes_nothing(
    vljepa: Run, bag: Path, tmp_path: Path, arguments: tuple[str, ...], token: str
) -> None:
    out = tmp_path / 'report.html'
    found = vljepa('report', bag, '--out', out, *arguments)
    assert found.status == ExitStatus.BAD_INPUT and token in found.err
    assert len(found.err.splitlines()) == 1 and not out.exists()


def test_the_folder_must_exist(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    found = vljepa('report', bag, '--out', tmp_path / 'no' / 'report.html')
    assert found.status == ExitStatus.BAD_INPUT and found.out == ''
