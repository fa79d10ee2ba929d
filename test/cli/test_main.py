# SPDX-License-Identifier: Apache-2.0
"""Exit statuses, one clear line for invalid input, and a fast start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import bags
from helpers.printed import numbers

from vljepa_ros.cli import annotate, common, main

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Any]


def assert_rejected(found: Any, *parts: str) -> None:
    """Expect exit status 2, no stdout, and one line on stderr that contains `parts`."""
    assert found.status == 2 and found.out == ''
    assert found.err.count('\n') == 1 and 'Traceback' not in found.err, found.err
    assert all(part in found.err for part in parts), found.err


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (['annotate', '{bag}', '--model', 'nope'], ["'nope'"]),
        (
            ['annotate', '{bag}', '--topic', '/x'],
            ["'/x'", '/camera/image_raw/compressed'],
        ),
        (['annotate', '{bag}', '--fps', '3'], ['fps']),
        (['annotate', '{bag}', '--fps', '0'], ['--fps', '0 is not positive']),
        (['annotate', '{bag}', '--fps', 'nan'], ['--fps']),
        (['annotate', '{bag}', '--fps', 'x'], ['--fps', "'x'"]),
        (['annotate', '{bag}', '--crop', '0,0,0.001,0.001'], ['--crop', 'at least 0.05']),
        (['annotate', ''], ['SOURCE', 'empty']),
        (['play', ''], ['BAG', 'empty']),
        (['memory', ''], ['FILE', 'empty']),
        (['play', '{bag}', '--model', 'small'], ['--model']),
        (
            ['annotate', '{bag}', '--prompt', 'x' * 5000],
            ['prompt', '5,000 characters'],
        ),
        (['annotate', '{bag}', '--threads', '-1'], ['--threads']),
        (['annotate', '/nowhere/at/all'], ['/nowhere/at/all']),
        (['annotate', '/' + 'x' * 300], ['File name too long']),
        (['annotate'], ['SOURCE']),
        (['ask', '{bag}'], ['PROMPT']),
        (['ask', '{bag}', 'x\0y'], ['NUL']),
        (['ask', '{bag}', 'x', '--candidate', ' '], ['candidate', 'empty']),
        (
            ['ask', '{bag}', '', '--candidate', 'yes', '--candidate', 'no', '--model', 'nope'],
            ['prompt is empty'],
        ),
        (['ask', '{bag}', 'x', '--at', '99'], ['99 s', '7.9 s']),
        (['ask', '{bag}', 'x', '--at', '0'], ['too few images']),
        (['ask', '{bag}', 'x', '--at', '-1'], ['--at']),
        (['ask', '{bag}', 'x', '--at', 'nan'], ['--at']),
        (['ask', '{bag}', 'x', '--at', '1', '--to', '2'], ['--at', '--to']),
        (['ask', '{bag}', 'x', '--from', '3', '--to', '2'], ['--to (2)', '--from (3)']),
        (['ask', '{bag}', 'x', '--from', '50'], ['50 s']),
        (['ask', '{bag}', 'x', '--at', 'noon'], ['noon']),
        (['search', '{bag}', ' '], ['text', 'empty']),
        (['search', '{bag}', 'x', '--limit', '0'], ['--limit (0)']),
        (['search', '{bag}', 'x', '--limit', '1001', '--model', 'nope'], ['--limit (1001)']),
        (['memory', '{bag}'], ['folder']),
        (['search', '{bag}', 'x', '--from', '500'], ['500 s', '7.9 s']),
        (['embed', '{bag}'], ['--out']),
        (['embed', '{bag}', '--out', '/nowhere/x.npz'], ['/nowhere']),
        (['embed', '{bag}', '--out', '', '--model', 'nope'], ['--out', 'empty']),
        (['embed', '{bag}', '--out', '.', '--model', 'nope'], ['--out', 'folder']),
        (['embed', '{bag}', '--out', '/dev/null', '--model', 'nope'], ['/dev/null']),
        (['embed', '{bag}', '--out', 'x' * 300, '--model', 'nope'], ['--out', 'xxx']),
        (['models', '--model', 'gone'], ["'gone'"]),
        (['models', '--model', 'x' * 300], ["'xxx"]),
        (['train', '/nowhere.yaml'], ['/nowhere.yaml']),
        (['play', '/nowhere'], ['/nowhere']),
        (['play', '{bag}', '--rate', '0'], ['--rate (0)']),
        (['play', '{bag}', '--rate', '2', '--lossless'], ['not allowed']),
        (['play', '{bag}', '--topic-remap', 'a=b'], ['FROM:=TO']),
        (['play', '{file}'], ['file.txt', 'bag']),
        (['play', '/' + 'x' * 300], ['File name too long']),
        (['demo', '--sample', '/nowhere'], ['/nowhere']),
        (['fly'], ['fly']),
        ([], ['COMMAND']),
    ],
)
def test_invalid_input_is_reported_in_one_line_with_status_2(
    vljepa: Run, bag: Path, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    file = tmp_path / 'file.txt'
    file.write_text('x')
    assert_rejected(vljepa(*[a.format(bag=bag, file=file) for a in arguments]), *parts)


def test_recordings_with_several_cameras_require_a_topic(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 3, '/a/image_raw') + bags.colors(['red'], 3, '/b/image_raw')
    folder = bags.write(tmp_path / 'two', rows)
    assert_rejected(vljepa('ask', folder, 'x'), 'a, b', '--topic')
    assert_rejected(vljepa('embed', folder, '--out', tmp_path / 'x.npz'), 'cameras')
    assert_rejected(vljepa('search', folder, 'x'), 'a, b', '--topic')
    assert not (tmp_path / 'x.npz').exists()


def test_a_truncated_bag_fails_with_one_line(vljepa: Run, bag: Path) -> None:
    file = next(bag.glob('*.mcap'))
    file.write_bytes(file.read_bytes()[:3000])
    assert_rejected(vljepa('annotate', bag), 'ends early', 'mcap recover')


def test_play_reports_a_missing_ros_installation(
    vljepa: Run, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ('rclpy', 'vljepa_ros.client', 'vljepa_ros.nodes')
    for name in [module for module in sys.modules if module.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert_rejected(vljepa('play', bag), 'rclpy')


@pytest.mark.ros
@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        (
            ['--namespace', 'bad ns'],
            ['Invalid topic name', "'/bad ns/frame_processed'"],
        ),
        (['--topic-remap', f'{bags.TOPIC}:=a b'], ['Invalid topic name', "'a b'"]),
        (['--topic-remap', f'{bags.TOPIC}:=/a/{{x}}'], ["'/a/{x}'"]),
        (['--topic-remap', f'{bags.TOPIC}:=a//b'], ["must not contain repeated '/'"]),
    ],
)
def test_play_reports_an_invalid_topic_name(
    vljepa: Run, bag: Path, arguments: list[str], parts: list[str]
) -> None:
    assert_rejected(vljepa('play', bag, *arguments), *parts)


@pytest.mark.ros
def test_play_reports_a_domain_that_is_not_a_number(
    vljepa: Run, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', 'abc')
    assert_rejected(vljepa('play', bag), 'ROS_DOMAIN_ID')


def test_a_missing_package_is_reported_by_name(
    vljepa: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name='torch')

    monkeypatch.setattr(annotate, 'run', run)
    assert_rejected(vljepa('annotate', 'x'), 'torch')


def test_ctrl_c_exits_without_output(vljepa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(annotate, 'run', run)
    found = vljepa('annotate', 'x')
    assert (found.status, found.out, found.err) == (130, '', '')


def test_a_broken_pipe_exits_without_output() -> None:
    code = (
        'import sys; from vljepa_ros.cli import models, main\n'
        'models.run = lambda _: [print("x" * 1000, flush=True) for i in range(10000)] and 0\n'
        'sys.exit(main.main(["models"]))'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 141 and process.stderr.read() == ''


@pytest.mark.parametrize(
    ('command', 'status'),
    [
        ('models >&-', 0),
        ('models --json 2>&-', 0),
        ('models --model gone 2>&-', 2),
        ('models --model gone 2>/dev/full', 2),
        ('models >/dev/full', 75),
        ('--help | true', 0),
        ("memory '' >&-", 2),
    ],
)
def test_closed_or_full_outputs_give_no_traceback(command: str, status: int) -> None:
    found = subprocess.run(
        ['bash', '-c', f'{sys.executable} -m vljepa_ros.cli.main {command}'],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert found.returncode == status, found.stderr
    assert 'Traceback' not in found.stderr and found.stderr.count('\n') <= 1


def test_invalid_unicode_is_printed_escaped() -> None:
    code = (
        'import sys; from vljepa_ros.cli import models, main\n'
        'models.run = lambda _: print(chr(0xdcff) + chr(0x2603)) or 0\n'
        'sys.exit(main.main(["models"]))'
    )
    found = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        timeout=120,
        cwd=ROOT,
        env=os.environ | {'PYTHONIOENCODING': 'utf-8:strict'},
    )
    assert (found.returncode, found.stdout) == (0, '\\udcff\u2603\n'.encode()), found.stderr


def test_the_parser_imports_no_large_packages() -> None:
    code = (
        'import sys; from vljepa_ros.cli import main; main.make_parser()\n'
        'print([m for m in ("torch", "numpy", "cv2", "rosbags", "rich", "rclpy", "yaml") '
        'if m in sys.modules])'
    )
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == '[]'


def test_every_command_has_help_model_and_json(vljepa: Run) -> None:
    for command in main.COMMANDS:
        found = vljepa(command, '--help')
        assert found.status == 0
        assert '--json' in found.out or command == 'data'  # its commands do
        without = ('calibrate', 'data', 'train', 'play', 'top')
        assert '--model' in found.out.lower() or command in without


def test_progress_is_printed_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(common.time, 'monotonic', lambda: now_s[0])
    for _ in common.progress(range(10), 'streams', 10):
        now_s[0] += 25.0
    lines = capsys.readouterr().err.splitlines()
    assert [numbers(line) for line in lines] == [[3, 10], [6, 10], [9, 10]]
    assert all('streams' in line for line in lines)


def test_play_refuses_a_ros_1_bag_with_the_command_that_converts_it(
    vljepa: Run, tmp_path: Path
) -> None:
    path = bags.write_ros1(tmp_path / 'run.bag', bags.colors(['red'], 2))
    assert_rejected(vljepa('play', path), 'run.bag', 'ROS 1', 'rosbags-convert')


def shell(*arguments: bytes | str | Path, out: str | None = None) -> subprocess.CompletedProcess:
    """Run the command in a new process, with stdout to `out`."""
    command = [sys.executable, '-m', 'vljepa_ros.cli.main', *arguments]
    # argparse ignores the errors of unbuffered output.
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
    with open(out or os.devnull, 'wb') as stream:
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.PIPE
        )


@pytest.mark.parametrize(
    'arguments', [['models', '--json'], ['models'], ['--help'], ['--version']]
)
def test_a_full_disk_behind_stdout_is_one_line_and_status_75(arguments: list[str]) -> None:
    done = shell(*arguments, out='/dev/full')
    assert done.returncode == 75, done.stderr
    assert done.stderr == b'vljepa: error: No space left on device\n'


def test_a_name_that_is_not_utf_8_is_read_and_shown(vljepa: Run, tmp_path: Path) -> None:
    path = bags.write_mcap(tmp_path / 'x.mcap', bags.colors(['red'], 20))
    path = path.rename(os.fsdecode(os.fsencode(tmp_path) + b'/r\xff\xe9.mcap'))
    assert vljepa('annotate', path, '--json').status == 0
    done = shell('annotate', os.fsencode(tmp_path) + b'/n\xff.avi')
    assert done.returncode == 2 and done.stderr.count(b'\n') == 1
    assert b'no such file' in done.stderr and b'n\\udcff.avi' in done.stderr


def test_an_unexpected_error_is_one_line_and_status_1(
    vljepa: Run, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError('division by zero')

    monkeypatch.setattr(common, 'open_given', fail)
    found = vljepa('annotate', bag)
    assert (found.status, found.out, found.err.count('\n')) == (1, '', 1)
    assert 'ZeroDivisionError: division by zero' in found.err and 'VLJEPA_DEBUG=1' in found.err
    monkeypatch.setenv('VLJEPA_DEBUG', '1')
    assert 'Traceback' in vljepa('annotate', bag).err
