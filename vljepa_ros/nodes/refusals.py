# SPDX-License-Identifier: Apache-2.0
"""A service's answer carries an error as its text only: which error that was."""

from __future__ import annotations

from vljepa_ros.errors import BusyError, InputError, VljepaError

INACTIVE = 'inactive'
DEACTIVATED = 'query_node was deactivated'
MOMENTARY = ('busy', 'not done within')  # how refusals begin that are over at once
# How all begin that time may heal.
PASSING = (*MOMENTARY, INACTIVE, DEACTIVATED, 'nobody serves', 'no answer', 'no frame yet')


def error_of(message: str) -> VljepaError:
    """BusyError where it is worth asking again, else InputError."""
    return BusyError(message) if message.startswith(PASSING) else InputError(message)
