# SPDX-License-Identifier: Apache-2.0
"""All executables share one table of exit statuses."""

from __future__ import annotations

import pytest

from vljepa_ros.core.errors import (
    BusyError,
    DiskFullError,
    InputError,
    ModelError,
    ModelMismatchError,
    NotStoredError,
    OutputError,
    UnavailableError,
    VljepaError,
    error_of,
)
from vljepa_ros.core.exit_status import ExitStatus, command_status, node_status


def test_exit_statuses_follow_shell_and_supervisor_conventions() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        'OK': 0,
        'FAILED': 1,
        'BAD_INPUT': 2,
        'UNDECIDED': 3,
        'TRANSIENT': 75,
        'CONFIGURATION': 78,
        'INTERRUPTED': 130,
        'OUTPUT_CLOSED': 141,
        'TERMINATED': 143,
    }


@pytest.mark.parametrize(
    ('error', 'command', 'node'),
    [
        (InputError('x'), 'BAD_INPUT', 'CONFIGURATION'),
        (NotStoredError('x'), 'BAD_INPUT', 'CONFIGURATION'),
        (ModelError('x'), 'BAD_INPUT', 'CONFIGURATION'),
        (OutputError('x'), 'BAD_INPUT', 'FAILED'),
        (DiskFullError('x'), 'TRANSIENT', 'TRANSIENT'),
        (BusyError('x'), 'TRANSIENT', 'TRANSIENT'),
        (UnavailableError('x'), 'TRANSIENT', 'TRANSIENT'),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else '',
)
def test_errors_map_to_exit_statuses(error: VljepaError, command: str, node: str) -> None:
    assert command_status(error).name == command
    assert node_status(error).name == node


def test_an_unknown_exception_is_a_failure() -> None:
    assert node_status(RuntimeError('x')) is node_status(None) is ExitStatus.FAILED


@pytest.mark.parametrize(
    'kind', [InputError, NotStoredError, BusyError, UnavailableError, ModelMismatchError]
)
def test_error_codes_map_to_exceptions(kind: type[VljepaError]) -> None:
    found = error_of(int(kind.code), 'what was wrong')
    assert type(found) is kind and str(found) == 'what was wrong'


def test_an_unknown_code_maps_to_internal_error() -> None:
    assert type(error_of(60_000, 'x')).__name__ == 'InternalError'
