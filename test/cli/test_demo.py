# SPDX-License-Identifier: Apache-2.0
"""Checks of `vljepa demo` before it starts processes, and the arguments that it passes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import bags

from vljepa_ros.cli import demo
from vljepa_ros.cli.main import main
from vljepa_ros.model import registry


@pytest.fixture
def error_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command, which must not start the stack, and return its error line."""
    monkeypatch.setattr(demo, 'StackProcesses', None)
    monkeypatch.setattr(demo.signal, 'signal', lambda *_: None)  # it would outlive the test

    def run(*arguments: object) -> str:
        assert main(['demo', *map(str, arguments), '--json']) == 2
        out, err = capsys.readouterr()
        assert out == '' and err.count('\n') == 1
        return err

    return run


def test_help_states_the_default_of_threads_and_the_time_limit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(['demo', '--help'])
    text = ' '.join(capsys.readouterr().out.split())
    threads = text.partition('--threads N ')[2]
    assert threads.partition(')')[0].endswith('(default: 1')
    assert f'within {demo.LIMIT_S:g} s' in text


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (('--model', 'nope'), "unknown model 'nope'"),
        (('--device', 'gpu'), "unknown device 'gpu'"),
        (('--dtype', 'int8'), "unknown dtype 'int8'"),
        (('--threads', '-1'), '--threads (-1)'),
    ],
)
def test_an_invalid_argument_is_reported_before_the_stack_starts(
    error_of: Any, arguments: tuple[str, ...], named: str
) -> None:
    assert named in error_of(*arguments)


def test_a_damaged_model_yaml_is_reported_before_the_stack_starts(
    error_of: Any, tmp_path: Path
) -> None:
    (tmp_path / 'model.yaml').write_text('name: [')
    assert 'model.yaml' in error_of('--model', tmp_path)


def test_a_sample_without_its_files_or_keys_is_reported(error_of: Any, tmp_path: Path) -> None:
    assert 'ground_truth.json' in error_of('--sample', tmp_path)
    (tmp_path / 'ground_truth.json').write_text('{}')
    error = error_of('--sample', tmp_path)
    assert 'ground_truth.json' in error and "'annotations'" in error
    sample = demo.sample_folder()
    (tmp_path / 'ground_truth.json').write_text((sample / 'ground_truth.json').read_text())
    (tmp_path / 'questions.json').write_text(json.dumps([{'kind': 'open'}]))
    error = error_of('--sample', tmp_path)
    assert 'questions.json' in error and "'at'" in error
    (tmp_path / 'questions.json').write_text('[]')
    assert 'no bag file' in error_of('--sample', tmp_path)


def test_a_question_after_the_last_image_is_reported(error_of: Any, tmp_path: Path) -> None:
    sample = recorded_at(tmp_path / 'bag', 20, 4)
    question = json.loads((demo.sample_folder() / 'questions.json').read_text())[0]
    truth = (demo.sample_folder() / 'ground_truth.json').read_text()
    (sample / 'ground_truth.json').write_text(truth)
    (sample / 'questions.json').write_text(json.dumps([question | {'at': 7.5}]))
    error = error_of('--sample', sample)
    assert 'questions.json' in error and '7.5 s is after the last image (4 s)' in error


def test_an_unwritable_log_folder_is_reported(error_of: Any, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    assert str(tmp_path / 'file') in error_of('--keep-logs', tmp_path / 'file')


def test_the_stack_and_the_comparison_share_one_device_and_dtype(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, 'pick_device', lambda device: torch.device('cuda'))
    loaded: list[tuple[Any, ...]] = []
    monkeypatch.setattr(registry, 'load', lambda *given: loaded.append(given))
    args = argparse.Namespace(model='small', device='auto', dtype='bfloat16', threads=1)
    demo.settle(args)
    commands = demo.node_commands(args, '/camera/compressed')
    demo.common.load_model(args)
    assert loaded[0][1:3] == ('cuda', 'bfloat16')
    for name in ('perception_node', 'decoder_node', 'query_node'):
        line = ' '.join(commands[name])
        assert '-p device:=cuda ' in line and '-p dtype:=bfloat16' in line


@pytest.mark.parametrize(
    ('successes', 'right', 'answered'),
    [
        ((True, True, True), (True, True, False), True),
        ((True, True, False), (True, True, False), False),
        ((True, True), (True, True), False),  # one was never answered
    ],
)
def test_all_answered_requires_a_response_to_every_question(
    successes: tuple[bool, ...], right: tuple[bool, ...], answered: bool
) -> None:
    live = demo.Live(['first', 'second', 'third'], str)  # type: ignore[list-item]
    for success, good in zip(successes, right, strict=True):
        live.answers.append((live._pending.pop(0), {'success': success}, good))
    assert live.all_answered is answered


class FinishedProcesses:
    """Processes that have already ended successfully, without output."""

    names = ()
    stdout: tuple[str, ...] = ()

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> FinishedProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self, *_: object, **__: object) -> None:
        pass

    def process(self, _: str) -> FinishedProcesses:
        return self

    def poll(self) -> int:
        return 0

    def wait(self) -> int:
        return 0

    def send_signal(self, _: int) -> None:
        pass


def recorded_at(folder: Path, rate_hz: int, seconds: int) -> Path:
    """Write a bag with this frame rate, whose last image is `seconds` after the first."""
    rows = bags.colors(['red'], rate_hz * seconds + 1)
    period_ns = 1_000_000_000 // rate_hz
    stamps = [bags.START_NS + i * period_ns for i in range(len(rows))]
    return bags.write(
        folder,
        [
            (topic, stamp, bags.compressed(stamp, message.data))
            for stamp, (topic, _, message) in zip(stamps, rows, strict=True)
        ],
    )


@pytest.mark.parametrize('rate_hz', [5, 20])
def test_the_printed_length_of_the_bag_is_measured_by_its_stamps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rate_hz: int
) -> None:
    monkeypatch.setattr(demo, 'StackProcesses', FinishedProcesses)
    args = argparse.Namespace(
        model='small', device='cpu', dtype='float32', threads=1, keep_logs=None
    )
    lines: list[str] = []
    demo.Live([], lines.append).run(recorded_at(tmp_path / 'bag', rate_hz, 4), args)
    assert f'playing bag: {bags.TOPIC}, 4 s' in lines
