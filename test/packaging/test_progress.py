# SPDX-License-Identifier: Apache-2.0
"""What `make build` shows of pip and colcon."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'progress.py'
MB = 1_000_000
PIP = [
    'Collecting torch==2.13.0 (from -r requirements/core.txt (line 2))',
    '  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl.metadata (28 kB)',
    'Collecting rich',
    '  Downloading rich-15.0.0-py3-none-any.whl.metadata (18 kB)',
    'Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (200.0 MB)',
    *(f'Progress {done * MB} of {200 * MB}' for done in range(201)),
    'Downloading rich-15.0.0-py3-none-any.whl (310 kB)',
    'Installing collected packages: torch, rich',
    'Successfully installed rich-15.0.0 torch-2.13.0',
]


def command(tmp_path: Path, lines: list[str], status: int = 0, pause_after: int = 0) -> list[str]:
    """Return a progress command around a program that prints lines and exits.

    `pause_after`: number of lines after which the program pauses for two seconds (0: never).
    """
    code = (
        f'import sys, time\nfor i, line in enumerate({lines!r}, 1):\n'
        f'    print(line, flush=True)\n    time.sleep(2 * (i == {pause_after}))\n'
        f'sys.exit({status})'
    )
    log = tmp_path / 'log'
    return [sys.executable, str(TOOL), 'packages', str(log), sys.executable, '-c', code]


def test_a_file_gets_one_line_per_large_download_and_stage(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, PIP), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == ''
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and '\r' not in done.stderr
    assert 'torch-2.13.0 (200 MB)' in lines[1]
    assert 'installing' in lines[2] and 'packages: 2' in lines[2] and '200 MB' in lines[2]
    assert lines[3].startswith('packages: done after')


def test_the_log_contains_all_lines_except_progress(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path, PIP), capture_output=True)
    kept = (tmp_path / 'log').read_text().splitlines()
    assert kept == [line for line in PIP if not line.startswith('Progress')]


def test_a_failure_keeps_its_status_and_shows_the_last_lines(tmp_path: Path) -> None:
    lines = [f'line {i}' for i in range(100)] + ['ERROR: no matching distribution']
    done = subprocess.run(command(tmp_path, lines, 7), capture_output=True, text=True)
    assert done.returncode == 7
    assert 'ERROR: no matching distribution' in done.stderr and 'line 99' in done.stderr
    assert 'line 5\n' not in done.stderr
    assert str(tmp_path / 'log') in done.stderr.splitlines()[-1]


def test_a_terminal_shows_the_progress_of_the_download(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    half = PIP.index(f'Progress {100 * MB} of {200 * MB}') + 1
    with subprocess.Popen(command(tmp_path, PIP, pause_after=half), stderr=theirs) as process:
        os.close(theirs)
        shown = b''
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # the program closed its terminal
            pass
        assert process.wait() == 0
    os.close(ours)
    assert b'torch-2.13.0 (200 MB) 50%, packages: 2' in shown
    assert shown.rstrip().splitlines()[-1].split(b'\x1b[K')[-1].startswith(b'packages: done')


def test_a_build_shows_its_percentage(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    lines = ['[ 40%] Building C object a.o', '[ 45%] Building C object b.o']
    with subprocess.Popen(command(tmp_path, lines, pause_after=2), stderr=theirs) as process:
        os.close(theirs)
        process.wait()
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b'45%' in shown
