# SPDX-License-Identifier: Apache-2.0
"""Every skipped test is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.skip_policy import ALLOWED, is_allowed

ROOT = Path(__file__).resolve().parents[2]

INSIDE = 'import pytest\ndef test_it():\n    pytest.skip({!r})\n'
WHOLE = 'import pytest\npytest.skip({!r}, allow_module_level=True)\n'


@pytest.mark.parametrize(
    ('text', 'status', 'workers'),
    [
        (INSIDE.format('needs the moon'), 1, '0'),
        (WHOLE.format('needs the moon'), 1, '1'),
        (INSIDE.format('needs glibc 2.33'), 0, '1'),
        ('import pytest\n@pytest.mark.xfail\ndef test_it():\n    assert False\n', 1, '0'),
    ],
)
def test_an_unlisted_skip_fails_the_run(
    tmp_path: Path, text: str, status: int, workers: str
) -> None:
    file = tmp_path / 'test' / 'packaging' / 'test_ros_environment.py'  # one that may skip
    file.parent.mkdir(parents=True)
    file.write_text(text)
    command = [
        '-m',
        'pytest',
        '-q',
        '-p',
        'helpers.skip_policy',
        '-p',
        'no:cacheprovider',
        '-n',
        workers,
    ]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith('PYTEST')
    } | {'PYTHONPATH': str(ROOT / 'test')}
    found = subprocess.run(
        [sys.executable, *command, f'--rootdir={tmp_path}', str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.returncode == status, found.stdout
    assert ('ERROR: ' in found.stdout) == bool(status)


def test_only_listed_reasons_are_allowed() -> None:
    cider, rendering = (
        'test/evaluate/test_cider.py::test_it',
        'test/data/simulators/mwstream/test_rendering.py::test_it',
    )
    assert is_allowed(cider, 'Skipped: pip install pycocoevalcap to compare')
    assert not is_allowed(cider, 'Skipped: no time')
    assert not is_allowed(
        'test/memory/test_segment_store.py::test_it', 'Skipped: no pycocoevalcap'
    )
    assert is_allowed(
        f'{rendering}[osmesa-OSMesa]', 'Skipped: needs the Debian package libosmesa6'
    )
    assert is_allowed(f'{rendering}[egl-EGL]', 'Skipped: EGL finds no device')
    assert not is_allowed(f'{rendering}[osmesa-OSMesa]', 'Skipped: EGL finds no device')
    assert is_allowed(
        'test/benchmarks/test_it.py', "Skipped: could not import 'ruptures': No module"
    )


def test_every_entry_matches_existing_tests_and_has_a_place() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / 'test').rglob('test_*.py')]
    for entry in ALLOWED:
        for pattern in entry.tests.split('|'):
            place = pattern.split('.*')[0].replace('\\', '')
            assert any(file.startswith(place) for file in files), pattern
        assert entry.runs
