# SPDX-License-Identifier: Apache-2.0
"""The interfaces work in C++: a package that depends on vljepa_ros compiles and runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')
pytestmark = pytest.mark.ros
CONSUMER = Path(__file__).resolve().parents[1] / 'cpp_consumer'


def run(*command: object, environment: dict[str, str]) -> str:
    """Return the standard output of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_a_cpp_package_can_use_the_messages(tmp_path: Path) -> None:
    prefix = Path(sys.prefix)
    if not (prefix / 'share' / 'vljepa_ros' / 'cmake').is_dir():
        pytest.skip('vljepa_ros is not installed in this Python environment')
    environment = os.environ | {
        'PATH': f'{prefix / "bin"}{os.pathsep}{os.environ["PATH"]}',
        'AMENT_PREFIX_PATH': str(prefix),
        'CMAKE_PREFIX_PATH': str(prefix),
        'LD_LIBRARY_PATH': str(prefix / 'lib'),
    }
    cmake = shutil.which('cmake', path=environment['PATH'])
    python = f'-DPython3_EXECUTABLE={sys.executable}'
    run(cmake, '-S', CONSUMER, '-B', tmp_path, python, environment=environment)
    run(cmake, '--build', tmp_path, environment=environment)
    printed = run(tmp_path / 'consumer', environment=environment).splitlines()
    for line in ('  frame_id: "camera"', 'segment_id: 7', 'state: 2', 'confidence: 0.500000'):
        assert line in printed
