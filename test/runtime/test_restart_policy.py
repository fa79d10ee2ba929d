# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal

import pytest

from vljepa_ros.core.exit_status import ExitStatus
from vljepa_ros.runtime.restart_policy import RestartPolicy

FAILURES = (1, ExitStatus.TRANSIENT, -signal.SIGKILL, -signal.SIGSEGV)


@pytest.mark.parametrize('status', FAILURES)
def test_the_delay_doubles_up_to_a_minute_while_the_process_keeps_failing(status: int) -> None:
    policy = RestartPolicy()
    assert [policy.delay_s(status, 1.0) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]


def test_the_delay_is_short_again_after_a_minute_without_a_failure() -> None:
    policy = RestartPolicy()
    assert [policy.delay_s(1, ran_s) for ran_s in (1.0, 1.0, 60.0, 59.0)] == [2, 4, 2, 4]


@pytest.mark.parametrize('status', [ExitStatus.CONFIGURATION, ExitStatus.BAD_INPUT, ExitStatus.OK])
def test_a_permanent_error_and_a_requested_end_cause_no_restart(status: ExitStatus) -> None:
    assert RestartPolicy().delay_s(status, 0.5) is None
