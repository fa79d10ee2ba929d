# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import eventually

from vljepa_ros.cli import stack_processes as processes
from vljepa_ros.cli.stack_processes import StackProcesses


def python(code: str) -> list[str]:
    return [sys.executable, '-c', code]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f'/proc/{pid}/stat').read_text().split()[2] != 'Z'


def test_all_processes_end_with_the_context(tmp_path: Path) -> None:
    with StackProcesses(dict(os.environ), tmp_path) as running:
        for name in 'ab':
            running.start(name, python('import time; time.sleep(60)'))
        pids = [running.process(name).pid for name in running.names]
        assert all(is_alive(pid) for pid in pids)
    assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_ignores_sigint_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, 'GOODBYE_S', 0.5)
    code = (
        'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); '
        'print("up", flush=True); time.sleep(60)'
    )
    with StackProcesses(dict(os.environ), tmp_path) as running:
        running.start('ignores_sigint', python(code))
        pid = running.process('ignores_sigint').pid
        assert eventually(lambda: 'up' in running.tail('ignores_sigint'))
    assert not is_alive(pid)


def test_processes_end_at_once_in_a_background_job_that_ignores_sigint(tmp_path: Path) -> None:
    code = 'import time; print("up", flush=True); time.sleep(60)'
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts `vljepa demo &`
    try:
        with StackProcesses(dict(os.environ), tmp_path) as running:
            running.start('a', python(code))
            process = running.process('a')
            assert eventually(lambda: 'up' in running.tail('a'))
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.returncode == -signal.SIGINT  # not killed after the time limit


def test_all_processes_end_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyError), StackProcesses(dict(os.environ), tmp_path) as running:
        running.start('a', python('import time; time.sleep(60)'))
        pid = running.process('a').pid
        raise KeyError
    assert not is_alive(pid)


def test_tail_returns_the_last_lines_of_a_log(tmp_path: Path) -> None:
    with StackProcesses(dict(os.environ), tmp_path) as running:
        running.start('dead', python('for i in range(99): print("line", i)\nraise SystemExit(3)'))
        assert running.process('dead').wait(10) == 3
        tail = running.tail('dead')
    assert tail.count('\n') == processes.TAIL_LINES and tail.endswith('dead: line 98')


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel ends orphans on Linux only')
def test_children_end_if_the_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, sys, time
from vljepa_ros.cli.stack_processes import StackProcesses
with StackProcesses(dict(os.environ), pathlib.Path({str(tmp_path)!r})) as running:
    running.start('child', [sys.executable, '-c', 'import time; time.sleep(60)'])
    print(running.process('child').pid, flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not is_alive(child))


def test_node_commands_contain_namespace_and_parameters() -> None:
    commands = processes.stack_commands('robot', 'tiny', '/c/image_raw/compressed', Path('p.yaml'))
    assert list(commands) == list(processes.NODES)
    vision = ' '.join(commands['perception_node'])
    assert '-r __ns:=/robot --params-file p.yaml' in vision
    assert '-p model:=tiny' in vision and '-p camera.topic:=/c/image_raw ' in vision
    assert 'model:=' not in ' '.join(commands['change_detection_node'])


def test_nodes_with_a_model_get_its_device_and_dtype() -> None:
    commands = processes.stack_commands('robot', 'tiny', '/c', None, 'cuda:1', 2, 'bfloat16')
    for name, command in commands.items():
        line = ' '.join(command)
        has_device = '-p device:=cuda:1 -p dtype:=bfloat16 -p threads:=2' in line
        assert has_device == (name != 'change_detection_node')
