# SPDX-License-Identifier: Apache-2.0
"""`vljepa demo` as a process: clear failures and complete cleanup."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.ros_processes import ROOT, state_of
from helpers.waiting import eventually


def demo(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', 'vljepa_ros.cli.main', 'demo', *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
        # As in a terminal, also if the tests run as a background job, which ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def children(pid: int) -> list[int]:
    """Return the running child processes of a process."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != 'Z':
            found.append(int(path.parent.name))
    return found


def has_loaded_torch(pid: int) -> bool:
    """Return whether a process has loaded torch, as nodes do when they load their model."""
    try:
        return 'libtorch' in Path(f'/proc/{pid}/maps').read_text()
    except OSError:
        return False


def test_a_node_that_cannot_start_fails_the_demo_with_the_end_of_its_log(
    tiny_folder: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(tiny_folder, tmp_path / 'damaged')
    (damaged / 'weights.safetensors').write_bytes(b'x')
    out, err = (process := demo('--model', damaged)).communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith('vljepa: the stack failed: ') and 'ended' in err.splitlines()[0]
    assert 'weights.safetensors' in err and 'Traceback' not in err
    assert 'starting the stack' in out


def test_the_demo_meets_its_targets_and_live_equals_offline() -> None:
    out, err = (process := demo('--json')).communicate(timeout=300)
    found = json.loads(out)
    assert process.returncode == 0, (found, err)
    assert found['passed'] and found['failed'] == [] and found['live_equals_offline']
    assert found['precision'] >= 0.7 and found['recall'] >= 0.7
    assert all(found['f1'] - f1 >= 0.2 for f1 in found['baselines'].values())
    assert found['answers'] == 3


def test_an_unknown_model_is_reported_in_one_line_before_the_stack_starts() -> None:
    out, err = (process := demo('--model', 'nope', '--json')).communicate(timeout=60)
    assert process.returncode == 2 and out == ''
    assert err.count('\n') == 1 and "unknown model 'nope'" in err


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie that init has not reaped yet."""
    try:
        return state_of(Path(f'/proc/{pid}')) == 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_no_process_behind(
    tiny_folder: Path, number: signal.Signals, status: int
) -> None:
    process = demo('--model', tiny_folder)
    eventually(lambda: len(children(process.pid)) == 5, 120.0)
    started = children(process.pid)
    eventually(lambda: any(map(has_loaded_torch, started)), 120.0)  # in the middle of the start
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status and err == ''
    eventually(lambda: all(map(has_ended, started)), 20.0)


def test_a_sample_without_questions_is_reported_in_one_line(tmp_path: Path) -> None:
    _, err = (process := demo('--sample', tmp_path)).communicate(timeout=60)
    assert process.returncode == 2 and err.count('\n') == 1 and 'ground_truth.json' in err
