# SPDX-License-Identifier: Apache-2.0
"""Script that generates the sample: one line for invalid input, and no data loss."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, meaning_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'samples' / 'make_bench.py'


def annotation(start: float, phase: str, task: str) -> Annotation:
    """Return an annotation of five seconds of a task with a red object."""
    meaning = meaning_of(task, phase, 'red')
    return Annotation(start, start + 5, meaning, phase, task, TASKS[task].object, 'red')


def test_questions_cover_the_time_before_during_and_after_darkness() -> None:
    script = runpy.run_path(str(SCRIPT))
    rows = (
        annotation(0, 'act', 'drawer-open'),
        annotation(5, 'act', 'window-close'),
        annotation(10, 'dark', 'window-close'),
        annotation(15, 'act', 'faucet-open'),
    )
    found = script['questions'](rows, np.random.default_rng(0))
    assert [(q['kind'], q['at'], q['meaning']) for q in found] == [
        ('open', 2.5, 'act:drawer-open:red'),
        ('yes/no', 12.5, 'no'),
        ('candidates', 17.5, 'act:faucet-open:red'),
    ]
    assert all(q['prompt'] for q in found)
    assert len(set(found[2]['candidates'])) == 5 and found[2]['answer'] in found[2]['candidates']
    sentences = [script['describe'](row)['sentence'] for row in rows]
    assert len(set(sentences)) == 4 and found[0]['answer'] == sentences[0]


def make(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
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
def test_invalid_input_is_reported_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    result = make('--out', tmp_path / 'bench', *arguments)
    assert result.returncode == 2 and result.stderr.count('\n') == 1 and named in result.stderr


def test_a_folder_without_a_sample_is_left_unchanged(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('notes')
    result = make('--out', tmp_path)
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert str(tmp_path) in result.stderr and (tmp_path / 'notes.txt').exists()
