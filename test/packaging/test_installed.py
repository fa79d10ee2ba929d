# SPDX-License-Identifier: Apache-2.0
"""Results of `make build` in .venv: interfaces, modules, executables and files."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vljepa_ros.cli.ros_environment import clean

ROOT = Path(__file__).resolve().parents[2]
PREFIX = Path(sys.prefix)
SHARE = PREFIX / 'share' / 'vljepa_ros'
SITE = Path(sysconfig.get_paths()['purelib']) / 'vljepa_ros'
pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(not SHARE.is_dir(), reason='vljepa_ros is not installed here: make build'),
]


def sources(folder: str, pattern: str = '*') -> list[Path]:
    """Return the files of a folder of the repository, relative to the repository."""
    return sorted(
        path.relative_to(ROOT)
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file() and '__pycache__' not in path.parts
    )


@pytest.mark.parametrize('where', [ROOT, Path('/')], ids=['repository', 'elsewhere'])
def test_interfaces_and_modules_are_one_package(where: Path) -> None:
    code = (
        'import rclpy, vljepa_ros.core.types; from vljepa_ros.msg import TextEvent; '
        'from vljepa_ros.srv import Query; from vljepa_ros.action import Watch; '
        'print(TextEvent.STATE_ENDED, Query.Response.BASIS_MEMORY, Watch.Goal().threshold)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=where,
        env=clean(dict(os.environ)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['2', '2', '0.0']


def test_every_module_and_data_file_is_installed() -> None:
    files = sources('vljepa_ros', '*.py') + sources('vljepa_ros', '*.yaml')
    assert len(files) > 50
    assert [path for path in files if not (SITE.parent / path).is_file()] == []


def test_no_broken_links_are_installed() -> None:
    # Links that colcon made to a file here that exists no more.
    assert [path for path in SITE.rglob('*') if path.is_symlink() and not path.exists()] == []


@pytest.mark.parametrize('folder', ['config', 'launch', 'models'])
def test_shared_files_are_installed(folder: str) -> None:
    files = sources(folder)
    assert [path for path in files if not (SHARE / path).is_file()] == []


def test_every_executable_is_installed_and_runs_in_the_active_environment() -> None:
    names = sources('scripts')
    assert names
    for name in names:
        installed = PREFIX / 'lib' / 'vljepa_ros' / name.name
        assert os.access(installed, os.X_OK), installed
        assert installed.read_text().startswith('#!/usr/bin/env python3\n')


def test_the_command_line_runs_from_anywhere() -> None:
    done = subprocess.run(
        [PREFIX / 'bin' / 'vljepa', '--help'],
        cwd='/',
        env=clean(dict(os.environ)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 'annotate' in done.stdout


def test_worker_processes_can_import_the_command_line() -> None:
    # As multiprocessing does to start one: `vljepa data` makes streams in several.
    runpy.run_path(str(PREFIX / 'bin' / 'vljepa'), run_name='__mp_main__')
