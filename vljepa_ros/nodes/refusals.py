# SPDX-License-Identifier: Apache-2.0
"""A service's answer carries an error as its text only: which error that was."""

from __future__ import annotations

from vljepa_ros.errors import BusyError, InputError, VljepaError

INACTIVE = 'inactive'
# How refusals begin that time may heal.
PASSING = (INACTIVE, 'busy', 'nobody serves', 'no frame yet', 'not done within')


def error_of(message: str) -> VljepaError:
    """BusyError where it is worth asking again, else InputError."""
    return BusyError(message) if message.startswith(PASSING) else InputError(message)
