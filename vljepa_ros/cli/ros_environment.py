# SPDX-License-Identifier: Apache-2.0
"""Environment variables of the ROS processes that the demo and the tests start.

Variables of an inherited ROS installation are removed. The processes communicate over loopback
only, in a ROS domain that is reserved on this machine, with shared memory sized for images. This
module does not import ROS.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vljepa_ros.core.errors import BusyError

log = logging.getLogger(__name__)

DOMAINS = range(1, 102)  # above 101 the ports overlap the ephemeral ports of Linux
# The same names as in tools/clean_env.sh.
INHERITED = re.compile(
    r'(ROS|RMW|FASTDDS|FASTRTPS|CYCLONEDDS|COLCON|AMENT)_\w*|PYTHONPATH|PYTHONHOME|LD_LIBRARY_PATH'
    r'|CMAKE_PREFIX_PATH|_ROS_WHEELS_BOOTSTRAP_COMPLETE'
)
KEPT = ('ROS_LOG_DIR', 'ROS_HOME')
MIB = 1 << 20
# By default, glibc returns large blocks to the system, so that every image causes page faults.
# Older versions of glibc silently ignore a threshold above 32 MiB (2.36 accepts any).
MALLOC = {
    'MALLOC_MMAP_THRESHOLD_': str(32 * MIB),
    'MALLOC_TRIM_THRESHOLD_': str(1024 * MIB),
    'MALLOC_TOP_PAD_': str(64 * MIB),
}
# Measured use of /dev/shm per participant: a segment of 64 or 16 MiB, and overhead.
PROFILES = (('fastdds.xml', 68 * MIB), ('fastdds_small.xml', 18 * MIB))


def clean(environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` without the variables of an inherited ROS installation."""
    return {
        key: value
        for key, value in environment.items()
        if key in KEPT or not INHERITED.fullmatch(key)
    }


def shared_memory_profile(
    participants: int, free_bytes: int | None = None, folder: Path | None = None
) -> Path | None:
    """Return the path of the largest Fast DDS profile whose segments fit into /dev/shm.

    If no profile fits, log a warning and return None.

    Args:
        participants: Number of DDS participants, one per process.
        free_bytes: Free space of /dev/shm (None: measure it).
        folder: Folder of the profiles (None: `config_folder()`).
    """
    if free_bytes is None:
        free_bytes = shutil.disk_usage('/dev/shm').free if Path('/dev/shm').is_dir() else 0
    folder = folder or config_folder()
    for name, size in PROFILES:
        if free_bytes >= participants * size:
            return folder / name
    log.warning(
        '/dev/shm has %d MiB free, too little for %d processes of 18 MiB each: sending images by '
        'UDP, which is slower and loses some (in a container, use --shm-size=1g)',
        free_bytes // MIB,
        participants,
    )
    return None


def config_folder() -> Path:
    """Return the folder `config` of the source tree, or else of the installation."""
    beside = Path(__file__).resolve().parents[2] / 'config'
    installed = Path(sys.prefix) / 'share' / 'vljepa_ros' / 'config'
    return beside if (beside / 'fastdds.xml').is_file() else installed


@contextmanager
def ros_environment(domain: int | None = None, participants: int = 6) -> Iterator[dict[str, str]]:
    """Yield the environment of child processes, in a ROS domain reserved until the context ends.

    Args:
        domain: ROS domain id (None: a free domain).
        participants: Number of DDS participants, for the size of shared memory.

    Raises:
        BusyError: The domain is taken, or no domain is free.
    """
    number, lock = reserve_domain(domain)
    with lock:
        yield environment_in(number, participants)


def environment_in(domain: int, participants: int = 6) -> dict[str, str]:
    """Return a copy of the environment of this process, adapted to ROS processes.

    Args:
        domain: ROS domain id.
        participants: Number of DDS participants, for the size of shared memory.
    """
    environment = clean(dict(os.environ)) | MALLOC
    environment |= {
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'PYTHONUNBUFFERED': '1',
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{environment.get("PATH", "")}',
    }
    profile = shared_memory_profile(participants)
    if profile is not None:  # Kilted reads the first name, Jazzy the second
        environment['FASTDDS_DEFAULT_PROFILES_FILE'] = str(profile)
        environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(profile)
    return environment


def reserve_domain(domain: int | None = None) -> tuple[int, IO[str]]:
    """Reserve a ROS domain; return its id and its lock file. Closing the file frees the domain.

    Args:
        domain: ROS domain id (None: a free domain).

    Raises:
        BusyError: The domain is taken, or no domain is free.
    """
    wanted = [domain] if domain is not None else random.sample(list(DOMAINS), len(DOMAINS))
    for number in wanted:
        path = Path(tempfile.gettempdir()) / f'vljepa_ros_domain_{number}.lock'
        try:
            lock = path.open('a')
        except PermissionError:  # the lock file belongs to another user
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return number, lock
    taken = f'{DOMAINS[0]}..{DOMAINS[-1]}' if domain is None else domain
    raise BusyError(f'no free ROS domain: {taken} taken by other processes on this machine')


def main(command: list[str]) -> None:
    """Replace this process by `command`, in a ROS domain that is reserved until it ends."""
    number, lock = reserve_domain()
    os.set_inheritable(lock.fileno(), True)
    os.execvpe(command[0], command, environment_in(number))


if __name__ == '__main__':
    main(sys.argv[1:])
