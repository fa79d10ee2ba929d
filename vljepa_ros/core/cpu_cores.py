# SPDX-License-Identifier: Apache-2.0
"""Number of CPU cores that this process may use, from its affinity and its cgroup's quota."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath


def cores(root: Path = Path('/')) -> int:
    """Return the number of CPU cores that this process may use, at least 1.

    This is the number of cores in the process's affinity mask (`taskset`, cpuset), or the CPU
    quota of its container if that is lower. A quota of 2.5 cores counts as 2, because a thread
    beyond the quota only makes the kernel suspend all of them.

    Args:
        root: Folder that contains `proc` and `sys`.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def cpu_quota(root: Path = Path('/')) -> float | None:
    """Return the lowest CPU quota of the process's cgroup and its parents, or None if unlimited.

    Reads `cpu.max` (cgroup v2) and `cpu.cfs_quota_us` / `cpu.cfs_period_us` (v1), see
    https://docs.kernel.org/admin-guide/cgroup-v2.html. Files that are missing or have another
    format are ignored.

    Args:
        root: Folder that contains `proc` and `sys`.

    Returns:
        The quota in cores.
    """
    quotas = []
    for line in _read(root / 'proc/self/cgroup').splitlines():
        number, _, rest = line.partition(':')
        controllers, _, path = rest.partition(':')
        if number == '0' and not controllers:
            mounts = [root / 'sys/fs/cgroup', root / 'sys/fs/cgroup/unified']
        elif 'cpu' in controllers.split(','):
            mounts = [
                root / 'sys/fs/cgroup' / name for name in dict.fromkeys((controllers, 'cpu'))
            ]
        else:
            continue
        quotas += [_quota(mount / part) for mount in mounts for part in _ancestors(path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _ancestors(path: str) -> list[PurePosixPath]:
    """Return a cgroup's path and those of its parents, relative to the mount.

    In a container, the mount may show only the container's own cgroup, as its root.
    """
    parts = [part for part in path.split('/') if part not in ('', '.', '..')]
    return [PurePosixPath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(folder: Path) -> float | None:
    """Return the quota that one cgroup states, in cores."""
    fields = _read(folder / 'cpu.max').split() or [
        *_read(folder / 'cpu.cfs_quota_us').split(),
        *_read(folder / 'cpu.cfs_period_us').split(),
    ]
    try:
        quota, period = (int(field) for field in fields)
    except ValueError:  # missing, or 'max'
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ''
