# SPDX-License-Identifier: Apache-2.0
"""`vljepa live` as a process with the shipped models, at an HTTP camera."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from helpers.mjpeg_server import mjpeg_server
from helpers.waiting import eventually

from vljepa_ros.core.types import Image
from vljepa_ros.sources import open_source

ROOT = Path(__file__).parents[2]


def watched(
    folder: Path, images: list[Image], until: str, question: str, sent: int, *options: str
) -> list[dict[str, Any]]:
    """Run the command until its output contains a text, then ask a question, then end it."""
    out, err = folder / 'out', folder / 'err'
    with mjpeg_server(images, rate_hz=10.0) as server, out.open('w') as o, err.open('w') as e:
        command = [sys.executable, '-m', 'vljepa_ros.cli.main', 'live', server.url, '--json']
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=o,
            stderr=e,
            text=True,
            cwd=ROOT,
            env=os.environ | {'OMP_NUM_THREADS': '1'},
            # A job in the background inherits an ignored SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            assert process.stdin is not None
            eventually(lambda: until in out.read_text(), 120.0, err.read_text())
            process.stdin.write(f'{question}\n')
            process.stdin.flush()
            eventually(lambda: '"answer"' in out.read_text(), 60.0, 'no answer')
            process.send_signal(sent)
            assert process.wait(30) == 128 + sent
        finally:
            process.kill()
    assert ' 0 gaps' in err.read_text().splitlines()[-1]
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_scene_of_the_bench_is_described_until_ctrl_c(tmp_path: Path) -> None:
    images = [frame.image for frame in open_source(ROOT / 'samples/bench')][:300]
    lines = watched(
        tmp_path,
        images,
        'started',
        'Is the light on? | yes | no',
        signal.SIGINT,
        *('--model', 'small'),
    )
    answer = next(line for line in lines if line['type'] == 'answer')
    assert {item['text'] for item in answer['ranked']} == {'yes', 'no'}
    events = [line for line in lines if line['type'] == 'event']
    assert events[0]['state'] == 'started' and events[-1]['state'] == 'ended'
    assert all(event['text'] for event in events)


def test_real_pictures_are_described_by_the_default_model_until_sigterm(tmp_path: Path) -> None:
    """Photographs of a cup of coffee and of a cat, four seconds each."""
    pictures = [skimage.data.coffee(), skimage.data.chelsea()[:, :400]]
    images = [np.asarray(picture, np.uint8) for picture in pictures for _ in range(40)]
    lines = watched(tmp_path, images, 'cat', 'what is it?', signal.SIGTERM)
    texts = [line['text'] for line in lines if line.get('state') == 'started']
    assert any('cat' in text for text in texts)
    [answer] = [line for line in lines if line['type'] == 'answer']
    assert answer['answer'] and not answer['abstained']
