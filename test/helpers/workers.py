# SPDX-License-Identifier: Apache-2.0
"""Pytest plugin that shares a machine between several workers (pytest-xdist).

- A worker computes with one thread; with torch's default, threads would wait for each other.
  `OMP_NUM_THREADS=4 make test` sets another number.
- A worker has a ROS domain and a part of /dev/shm of its own.
- A file's tests run in one worker, so that module fixtures are created once. Tests of the folders
  below, which start processes, all run in one worker, because they depend on real time.
- Session fixtures that every worker needs are created once, by the first worker (`shared`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault('OMP_NUM_THREADS', '1')  # read when torch is imported
os.environ.setdefault('OPENCV_FOR_THREADS_NUM', os.environ['OMP_NUM_THREADS'])

from vljepa_ros.cli.ros_environment import reserve_domain, shared_memory_profile
from vljepa_ros.core.cpu_cores import cores

MAX_WORKERS = 8
PARTICIPANTS = 8  # of DDS, at a time: a stack of four processes, a bag player, and the test's own
PROCESS_TESTS = ('test/system/', 'test/launch/', 'test/cli/test_stack_processes.py')
_locks: list[object] = []  # of the domains, held until the process ends


def count() -> int:
    """Return the number of workers of this run."""
    return int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))


def participants() -> int:
    """Return the number of DDS participants that share /dev/shm, including other workers'."""
    return PARTICIPANTS * count()


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder shared by all workers: the first one creates it, the others wait.

    `make` is given a path that does not exist yet.
    """
    base = factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent  # of all workers
    folder = base / 'shared' / name
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f'{name}.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = folder.parent / f'{name}.part'
            shutil.rmtree(made, ignore_errors=True)  # of a worker that failed
            make(made)
            made.rename(folder)
    return folder


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of workers for `-n auto`: one per core."""
    return min(MAX_WORKERS, cores())


def pytest_configure(config: pytest.Config) -> None:
    """Give a worker its domain and its part of the shared memory."""
    if not hasattr(config, 'workerinput'):
        return
    number, lock = reserve_domain()
    _locks.append(lock)
    os.environ['ROS_DOMAIN_ID'] = str(number)
    profile = shared_memory_profile(participants())
    for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
        os.environ.pop(name, None)
        if profile is not None:
            os.environ[name] = str(profile)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Group the tests."""
    for item in items:
        file = item.nodeid.partition('::')[0]
        group = 'processes' if file.startswith(PROCESS_TESTS) else file
        item.add_marker(pytest.mark.xdist_group(group))
