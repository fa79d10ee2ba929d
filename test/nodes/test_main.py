# SPDX-License-Identifier: Apache-2.0
"""Signals end the processes of nodes with the documented exit status, also if a thread is busy."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOAD = """
import sys, time
from helpers.fake_models import fake_model
from vljepa_ros.nodes import main
from vljepa_ros.nodes.decoder import DecoderNode
from vljepa_ros.nodes.perception import PerceptionNode

def load(spec, parts):
    print('loading', flush=True)
    time.sleep(SECONDS)
    return fake_model()

def factory(kind):
    def make(pool):
        pool.load = load
        return kind(pool, namespace='/NAMESPACE')
    return make

main.GOODBYE_S = PATIENCE
main.leave(main.run([factory(PerceptionNode), factory(DecoderNode)], []))
"""


@pytest.mark.parametrize(
    ('number', 'busy_s', 'status'),
    [(signal.SIGTERM, 300, 143), (signal.SIGINT, 300, 130), (signal.SIGTERM, 0, 0)],
)
def test_a_process_that_cannot_end_in_time_reports_it_in_one_line(
    number: signal.Signals, busy_s: int, status: int
) -> None:
    code = LOAD.replace('SECONDS', str(busy_s)).replace('NAMESPACE', f'n{uuid.uuid4().hex}')
    code = code.replace('PATIENCE', '3' if busy_s else '60')
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=ROOT / 'test',
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == 'loading\n'
    process.send_signal(number)
    _, log = process.communicate(timeout=100)
    lines = [line for line in log.splitlines() if 'did not end' in line]
    assert process.returncode == status, log
    assert 'Traceback' not in log
    assert len(lines) == (1 if status else 0), log
    assert all('the model thread' in line for line in lines)


@pytest.mark.parametrize(
    'text',
    [
        '/**:\n  ros__parameters: null\n',
        '/**:\n  ros__parameters:\n    cameras: [front, 2.5]\n',
        '/**: [\n',
        None,
    ],
)
def test_an_unusable_parameter_file_is_one_line_and_a_wrong_configuration(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / 'parameters.yaml'
    if text is not None:
        file.write_text(text)
    code = 'from vljepa_ros.nodes import main; main.leave(main.run([]))'
    done = subprocess.run(
        [sys.executable, '-c', code, '--ros-args', '--params-file', str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (78, ''), done.stderr
    assert 'Traceback' not in done.stderr and '.c:' not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if 'cannot start' in line]
    assert 'parameters.yaml' in line
