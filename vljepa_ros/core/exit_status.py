# SPDX-License-Identifier: Apache-2.0
"""Exit statuses of all executables: the `vljepa` command, the nodes and the demo client.

75 and 78 are EX_TEMPFAIL and EX_CONFIG of sysexits.h, so that a supervisor can decide whether a
restart may help, for example systemd with `Restart=on-failure` and
`RestartPreventExitStatus=2 78`.
"""

from __future__ import annotations

from enum import IntEnum

from vljepa_ros.core.errors import BusyError, DiskFullError, InputError, ModelError, VljepaError


class ExitStatus(IntEnum):
    """Exit status of a process."""

    OK = 0
    FAILED = 1  # the command ran, but its check failed; or an unexpected error
    BAD_INPUT = 2  # wrong argument, file or value: one line on stderr names it
    UNDECIDED = 3  # `vljepa check`: no expectation is broken, but some cannot be told
    TRANSIENT = 75  # busy, locked or disk full: the same command may succeed later
    CONFIGURATION = 78  # parameters or model of a node are wrong: a restart does not help
    INTERRUPTED = 130  # Ctrl-C
    OUTPUT_CLOSED = 141  # stdout was closed by its reader
    TERMINATED = 143  # SIGTERM


def command_status(error: VljepaError) -> ExitStatus:
    """Return the exit status of a command that failed with an error."""
    transient = isinstance(error, (BusyError, DiskFullError))
    return ExitStatus.TRANSIENT if transient else ExitStatus.BAD_INPUT


def node_status(error: Exception | None) -> ExitStatus:
    """Return the exit status of a node that failed to start; None: the cause is unknown."""
    if isinstance(error, (InputError, ModelError)):
        return ExitStatus.CONFIGURATION
    if isinstance(error, (BusyError, DiskFullError)):
        return ExitStatus.TRANSIENT
    return ExitStatus.FAILED
