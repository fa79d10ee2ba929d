# SPDX-License-Identifier: Apache-2.0
"""Scripts in benchmarks/: metadata of the measurement, and one-line errors."""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

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
    """Create two streams of two seconds in which the image changes halfway."""
    folder = tmp_path_factory.mktemp('data') / 'validation'
    for index in range(2):
        frames = np.full((20, 32, 32, 3), 40 * index, np.uint8)
        frames[10:, :, :16] = 255
        annotations = (
            Annotation(0.0, 1.0, 'rest', 'rest', 'push', 'puck', 'red'),
            Annotation(1.0, 2.0, 'reach:puck:red', 'reach', 'push', 'puck', 'red'),
        )
        stamps = np.arange(20) * 100_000_000
        write_stream(folder, StreamData(f'validation-{index}', frames, stamps, annotations, {}))
    return folder


@pytest.fixture
def run_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> Callable[..., str]:
    """Run a script in this process with three concepts only, as encoding all takes minutes."""
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    changes = importlib.import_module('changes')
    monkeypatch.setattr(changes, 'meanings', lambda: ['rest', 'dark', 'reach:puck:red'])

    def run(name: str, *arguments: object) -> str:
        given = [*map(str, arguments), '--model', str(tiny_folder)]
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *given])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run


def test_the_sweep_reports_all_settings_with_model_and_versions(
    run_script: Callable[..., str], split: Path
) -> None:
    found = json.loads(run_script('segmenter', split, '--json'))
    assert found['model_id'].startswith('tiny-') and found['dtype'] == 'float32'
    assert found['versions'] == {
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
    }
    assert found['device'] in ('cpu', 'cuda') and 'commit' in found
    assert found['streams'] == 2 and len(found['settings']) == 5 * 4
    for row in found['settings']:
        assert {'change_threshold', 'drift_threshold', 'kept', 'labelled', 'delay_s'} <= set(row)
        assert 2 / 4 <= row['decodes'] <= 20 / 4 and 0 <= row['labelled'] <= row['boundaries']


def test_the_sweep_prints_a_table_by_default(run_script: Callable[..., str], split: Path) -> None:
    out = run_script('segmenter', split, '--streams', 1)
    assert out.startswith('| `change_threshold` | `drift_threshold` | CIDEr-D kept |')
    assert out.count('**') == 4 and '| **1.4** | **0.2** |' in out and torch.__version__ in out


def test_all_change_detection_rules_are_compared(
    run_script: Callable[..., str], split: Path, tmp_path: Path
) -> None:
    pytest.importorskip('matplotlib')
    plot = tmp_path / 'changes.png'
    found = json.loads(run_script('changes', split, '--json', '--plot', plot))
    names = [row['rule'] for row in found['rules']]
    assert {'ours', 'cumulative sum', 'Bayesian change points'} <= set(names)
    for row in found['rules']:
        assert len(row['curve']['labelled']) == len(row['curve']['threshold']) > 10
    assert plot.read_bytes().startswith(b'\x89PNG')


def test_watch_precision_recall_and_delay_of_known_scores(
    run_script: Callable[..., str], split: Path
) -> None:
    found = json.loads(run_script('watching', split, '--json'))
    assert found['conditions'] == 4 and len(found['settings']) == 5 * 3  # rest, and reach
    watching = importlib.import_module('watching')
    at_s = np.arange(10) / 5

    def watched(scores: list[float], *spans_s: tuple[float, float]) -> object:
        return watching.Watched(np.array(scores, np.float32), at_s, spans_s)

    late = watched([0, 0, 1, 0, 1, 1, 1, 0, 0, 0], (0.4, 1.0))
    assert late.fires_s(0.5, 1) == pytest.approx(0.4)
    assert late.fires_s(0.5, 3) == pytest.approx(1.2) and late.fires_s(0.5, 4) is None
    early = watched([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], (1.0, 2.0))
    absent = watched([0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    quiet = watched([0] * 10)
    found = watching.marks([late, early, absent, quiet], 0.5, 3)
    assert found == pytest.approx(
        {
            'precision': 1 / 3,
            'recall': 1 / 2,
            'absent': 1 / 2,
            'delay_s': 0.8,
            'early': 0.0,  # no watch is long enough
            'late': 0.0,
        }
    )
    at_s = np.arange(30) / 5
    held = watched([1.0] * 16 + [0.3] * 2 + [0.1] * 12, (0.4, 3.2))  # 0.3 is not below 0.4 x 0.5
    assert held.ceases_s(0.5, 2) == [(pytest.approx(3.8), 3.2)]
    early = watched([1.0] * 10 + [0.1] * 20, (0.4, 3.2))
    never = watched([1.0] * 30, (0.4, 3.2))
    found = watching.marks([held, early, never, never], 0.5, 2)
    assert (found['early'], found['late']) == (1 / 4, 2 / 4)


@pytest.mark.parametrize('number', range(8))
def test_every_rule_detects_clear_changes(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    rule = importlib.import_module('change_rules').RULES[number]
    if rule.needs:
        pytest.importorskip(rule.needs)
    rng = np.random.default_rng(0)
    meanings = np.repeat(np.eye(32)[[0, 1, 2, 0]], 20, axis=0)
    vectors = meanings + 0.3 / np.sqrt(32) * rng.normal(size=meanings.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = [rule.cut(vectors, threshold) for threshold in rule.thresholds]
    assert any(np.array_equal(starts, [20, 40, 60]) for starts in found), rule.name
    counts = [len(starts) for starts in found]
    assert counts[0] >= counts[-1]


@pytest.mark.parametrize('kind', ['tiny_bidirectional', 'tiny_dual_encoder'])
def test_latency_is_measured_without_weights(tiny_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = importlib.import_module(f'helpers.{kind}').save(tmp_path / kind)
    (folder / 'weights.safetensors').unlink()
    found = json.loads(
        script('benchmarks/vision_latency.py', tiny_folder, folder, '--json').stdout
    )
    names = [item['model_id'].split('-')[0] for item in found]
    assert names == ['tiny', kind.removesuffix('_encoder')]
    for item in found:
        assert [cost['prompts'] for cost in item['costs']] == [1, 8]
        assert all(0 < cost['hop_ms'] <= cost['slow_hop_ms'] for cost in item['costs'])
        share, hop_ms, period_ms = (
            item['costs'][0][key] for key in ('share_of_period', 'hop_ms', 'period_ms')
        )
        assert share == pytest.approx(hop_ms / period_ms)
    assert not (folder / 'weights.safetensors').exists()


@pytest.mark.parametrize(
    ('name', 'arguments', 'token'),
    [
        ('benchmarks/segmenter.py', ('nowhere',), 'nowhere'),
        ('benchmarks/segmenter.py', ('.', '--streams', '-1'), '--streams (-1)'),
        ('benchmarks/segmenter.py', (), 'split'),
        ('benchmarks/vision_latency.py', ('nope', '--json'), "unknown model 'nope'"),
        ('benchmarks/decoding.py', ('--model', 'nope'), "unknown model 'nope'"),
        ('benchmarks/decoding.py', ('--device', 'gpu'), "unknown device 'gpu'"),
    ],
)
def test_invalid_input_gives_a_one_line_error(
    name: str, arguments: tuple[str, ...], token: str
) -> None:
    result = script(name, *arguments)
    assert result.returncode == 2 and result.stdout == ''
    assert result.stderr.count('\n') == 1 and token in result.stderr


def test_a_folder_without_complete_streams_gives_a_one_line_error(tmp_path: Path) -> None:
    result = script('benchmarks/segmenter.py', tmp_path)
    assert result.returncode == 2 and result.stderr.count('\n') == 1
    assert str(tmp_path) in result.stderr


def test_all_text_decoders_are_compared_on_predictions(
    run_script: Callable[..., str], split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = importlib.import_module('text_decoders')
    data = split.parent
    if not (data / 'train').exists():
        shutil.copytree(split, data / 'train')
    one_length = {'noise_length': (0.5,)}  # four moments are too few to choose by
    variants = {
        name: decoders.WAYS[name] | one_length for name in ('text alone', 'means, even noise')
    }
    monkeypatch.setattr(decoders, 'WAYS', variants)
    monkeypatch.setattr('vljepa_ros.evaluate.moments.CONTEXT_S', 0.4)  # streams of two seconds
    texts = {'rest': ('zebra',), 'reach': ('giraffe',)}  # in no reference text
    monkeypatch.setattr(
        decoders, 'ConceptTexts', lambda concepts: SimpleNamespace(sentences=texts)
    )
    found = json.loads(run_script('text_decoders', data, '--steps', 2, '--json'))
    by_decoder = {row['way']: row for row in found['rows']}
    assert [*by_decoder] == [decoders.OWN, decoders.NEAREST, decoders.PLACED, *variants]
    assert [by_decoder[way]['noise'] for way in variants] == ['none', 'even 0.5']
    assert found['judged_on'] == found['learned_from'] == 4
    assert all(by_decoder[way]['CIDEr-D']['value'] == 0 for way in (decoders.NEAREST, *variants))
    assert by_decoder[decoders.OWN]['correct sentences']['count'] == 4
