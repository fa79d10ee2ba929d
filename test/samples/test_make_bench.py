# SPDX-License-Identifier: Apache-2.0
"""The script that makes the sample: bad input is one line, and nothing is lost by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / 'samples' / 'make_bench.py'), *map(str, arguments)],
        text=True,
        capture_output=True,
        cwd=ROOT,
        timeout=300,
    )


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (('--seconds', '0'), '--seconds'),
        (('--seconds', 'nan'), '--seconds'),
        (('--seed', '5'), 'seeds 5..5'),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    result = make('--out', tmp_path / 'bench', *arguments)
    assert result.returncode == 2 and result.stderr.count('\n') == 1 and named in result.stderr


def test_a_folder_that_is_no_sample_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'thesis.txt').write_text('years of work')
    result = make('--out', tmp_path)
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert str(tmp_path) in result.stderr and (tmp_path / 'thesis.txt').exists()
