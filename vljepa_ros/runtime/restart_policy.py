# SPDX-License-Identifier: Apache-2.0
"""Rule for restarting a process of the stack after it exited. Reads no clock."""

from __future__ import annotations

from vljepa_ros.core.exit_status import ExitStatus

PERMANENT = (ExitStatus.BAD_INPUT, ExitStatus.CONFIGURATION)  # a restart does not help
FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 60.0
HEALTHY_S = 60.0  # a process that ran this long starts with the first delay again


class RestartPolicy:
    """Delays between restarts of one process, which double while the process keeps failing."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S

    def delay_s(self, status: int, ran_s: float) -> float | None:
        """Return the delay of the restart in s; None if the process must not be restarted.

        Args:
            status: Exit status; negative if a signal killed the process.
            ran_s: How long the process ran, in s.
        """
        if status == ExitStatus.OK or status in PERMANENT:
            return None
        if ran_s >= HEALTHY_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s
