# SPDX-License-Identifier: Apache-2.0
"""The exit statuses of all executables: the `vljepa` command, the nodes and the demo client.

75 and 78 are those of sysexits.h, so that a supervisor can tell whether starting again may help,
for example systemd with `Restart=on-failure` and `RestartPreventExitStatus=2 78`.
"""

from __future__ import annotations

from enum import IntEnum

from vljepa_ros.core.errors import BusyError, DiskFullError, InputError, ModelError, VljepaError


class ExitStatus(IntEnum):
    """What became of a process."""

    OK = 0
    FAILED = 1  # ran, but the result is not good enough; or an unexpected error
    BAD_INPUT = 2  # a wrong argument, file or value: one line on stderr names it
    TRANSIENT = 75  # busy, locked or full: the same command may succeed later
    CONFIGURATION = 78  # a node's parameters or model are wrong: starting it again does not help
    INTERRUPTED = 130  # Ctrl-C
    OUTPUT_CLOSED = 141  # the reader of stdout closed it
    TERMINATED = 143  # SIGTERM


def command_status(error: VljepaError) -> ExitStatus:
    """Map an error to the exit status of a command."""
    transient = isinstance(error, (BusyError, DiskFullError))
    return ExitStatus.TRANSIENT if transient else ExitStatus.BAD_INPUT


def node_status(error: Exception | None) -> ExitStatus:
    """Map the error of a node that could not start to its exit status; None: of unknown cause."""
    if isinstance(error, (InputError, ModelError)):
        return ExitStatus.CONFIGURATION
    if isinstance(error, (BusyError, DiskFullError)):
        return ExitStatus.TRANSIENT
    return ExitStatus.FAILED
