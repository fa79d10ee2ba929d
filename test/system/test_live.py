# SPDX-License-Identifier: Apache-2.0
"""`vljepa live` as a process with the shipped model, a camera that shows the sample recording."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.mjpeg_server import mjpeg_server
from helpers.waiting import eventually

from vljepa_ros.sources import open_source

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM])
def test_a_camera_is_described_until_a_signal_ends_it(tmp_path: Path, sent: int) -> None:
    images = [frame.image for frame in open_source(ROOT / 'samples/bench')][:300]
    out, err = tmp_path / 'out', tmp_path / 'err'
    with mjpeg_server(images, rate_hz=10.0) as server, out.open('w') as o, err.open('w') as e:
        command = [sys.executable, '-m', 'vljepa_ros.cli.main', 'live', server.url, '--json']
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=o, stderr=e, text=True, cwd=ROOT,
            env=os.environ | {'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        assert process.stdin is not None
        eventually(lambda: 'started' in out.read_text(), 120.0, 'no event')
        process.stdin.write('Is the light on? | yes | no\n')
        process.stdin.flush()
        eventually(lambda: '"answer"' in out.read_text(), 60.0, 'no answer')
        process.send_signal(sent)
        assert process.wait(30) == 128 + sent
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    answer = next(line for line in lines if line['type'] == 'answer')
    assert {item['text'] for item in answer['ranked']} == {'yes', 'no'}
    events = [line for line in lines if line['type'] == 'event']
    assert events[0]['state'] == 'started' and events[-1]['state'] == 'ended'
    assert all(event['text'] for event in events)
    assert ' 0 gaps' in err.read_text().splitlines()[-1]
