# SPDX-License-Identifier: Apache-2.0
"""The scripts of benchmarks/: a figure's circumstances, and bad input as one line."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vljepa_ros.data.format import Annotation, StreamData, write_stream

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, arguments)],
        text=True,
        capture_output=True,
        cwd=ROOT,
        timeout=300,
    )


@pytest.fixture(scope='module')
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams of two seconds; the picture changes halfway."""
    folder = tmp_path_factory.mktemp('data') / 'validation'
    for index in range(2):
        frames = np.full((20, 32, 32, 3), 40 * index, np.uint8)
        frames[10:, :, :16] = 255
        said = (
            Annotation(0.0, 1.0, 'rest', 'rest', 'push', 'puck', 'red'),
            Annotation(1.0, 2.0, 'reach:puck:red', 'reach', 'push', 'puck', 'red'),
        )
        stamps = np.arange(20) * 100_000_000
        write_stream(folder, StreamData(f'validation-{index}', frames, stamps, said, {}))
    return folder


@pytest.fixture
def sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> Callable[..., str]:
    """The sweep in this process, with three meanings only: to encode all takes minutes."""
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    segmenter = importlib.import_module('segmenter')
    monkeypatch.setattr(segmenter, 'meanings', lambda: ['rest', 'dark', 'reach:puck:red'])

    def run(*arguments: object) -> str:
        given = [*map(str, arguments), '--model', str(tiny_folder)]
        monkeypatch.setattr(sys, 'argv', ['segmenter.py', *given])
        segmenter.main()
        return capsys.readouterr().out

    return run


def test_the_sweep_gives_every_setting_with_its_circumstances(
    sweep: Callable[..., str], split: Path
) -> None:
    found = json.loads(sweep(split, '--json'))
    assert found['model_id'].startswith('tiny-') and found['dtype'] == 'float32'
    assert found['versions'] == {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
    }
    assert found['device'] in ('cpu', 'cuda') and 'commit' in found
    assert found['streams'] == 2 and len(found['settings']) == 10 * 3 * 4
    scores = [row['f1'] for row in found['settings']]
    assert scores == sorted(scores, reverse=True)


def test_the_sweep_is_a_table_for_people(sweep: Callable[..., str], split: Path) -> None:
    out = sweep(split, '--streams', 1)
    assert 'precision' in out and torch.__version__ in out


@pytest.mark.parametrize(
    ('name', 'arguments', 'named'),
    [
        ('benchmarks/segmenter.py', ('nowhere',), 'nowhere'),
        ('benchmarks/segmenter.py', ('.', '--streams', '-1'), '--streams (-1)'),
        ('benchmarks/segmenter.py', (), 'split'),
        ('benchmarks/decoding.py', ('--model', 'nope'), "unknown model 'nope'"),
        ('benchmarks/decoding.py', ('--device', 'gpu'), "unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_line(name: str, arguments: tuple[str, ...], named: str) -> None:
    result = script(name, *arguments)
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.count('\n') == 1 and named in result.stderr


def test_a_folder_without_a_whole_stream_is_one_line(tmp_path: Path) -> None:
    result = script('benchmarks/segmenter.py', tmp_path)
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert str(tmp_path) in result.stderr
