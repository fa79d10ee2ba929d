# SPDX-License-Identifier: Apache-2.0
"""CPU cores are counted by affinity and by the quota of the cgroup, not by the machine's size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vljepa_ros.core.cpu_cores import cores, cpu_quota


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for a fake `proc` and `sys`, on a machine with 8 cores."""
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    """Write a file below `root`."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ('stated', 'expected'),
    [
        ('200000 100000\n', 2),
        ('250000 100000\n', 2),
        ('50000 100000\n', 1),
        ('1600000 100000\n', 8),
        ('max 100000\n', 8),
        ('', 8),
        ('a lot\n', 8),
        ('100000 0\n', 8),
    ],
)
def test_quota_of_cgroup_v2(root: Path, stated: str, expected: int) -> None:
    put(root, 'proc/self/cgroup', '0::/\n')
    put(root, 'sys/fs/cgroup/cpu.max', stated)
    assert cores(root) == expected


def test_lowest_quota_of_all_parents_counts(root: Path) -> None:
    put(root, 'proc/self/cgroup', '0::/robot.slice/vljepa.service\n')
    put(root, 'sys/fs/cgroup/robot.slice/vljepa.service/cpu.max', '600000 100000\n')
    put(root, 'sys/fs/cgroup/robot.slice/cpu.max', '300000 100000\n')
    put(root, 'sys/fs/cgroup/other.slice/cpu.max', '100000 100000\n')
    assert cpu_quota(root) == 3.0


@pytest.mark.parametrize('mount', ['cpu,cpuacct', 'cpu'])
@pytest.mark.parametrize('folder', ['docker/12ab', ''])
def test_quota_of_cgroup_v1(root: Path, mount: str, folder: str) -> None:
    """A container may see its own cgroup as the root of the mount."""
    put(root, 'proc/self/cgroup', '5:cpu,cpuacct:/docker/12ab\n3:cpuset:/docker/12ab\n0::/\n')
    put(root, f'sys/fs/cgroup/{mount}/{folder}/cpu.cfs_quota_us', '150000\n')
    put(root, f'sys/fs/cgroup/{mount}/{folder}/cpu.cfs_period_us', '50000\n')
    assert cores(root) == 3


def test_no_quota_in_cgroup_v1(root: Path) -> None:
    put(root, 'proc/self/cgroup', '1:cpu:/\n')
    put(root, 'sys/fs/cgroup/cpu/cpu.cfs_quota_us', '-1\n')
    put(root, 'sys/fs/cgroup/cpu/cpu.cfs_period_us', '100000\n')
    assert cpu_quota(root) is None and cores(root) == 8


def test_paths_outside_of_the_namespace_and_missing_files(root: Path) -> None:
    assert cores(root) == 8
    put(root, 'proc/self/cgroup', '0::/../../other\nnonsense\n')
    put(root, 'cpu.max', '100000 100000\n')
    assert cores(root) == 8


def test_affinity_limits_a_larger_quota(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {3})
    put(root, 'proc/self/cgroup', '0::/\n')
    put(root, 'sys/fs/cgroup/cpu.max', '400000 100000\n')
    assert cores(root) == 1
