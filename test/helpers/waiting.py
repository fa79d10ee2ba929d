# SPDX-License-Identifier: Apache-2.0
"""Wait for a condition instead of a time: fast on an idle machine, patient on a busy one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.005


def eventually(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = '') -> Any:
    """Return the first true value of `condition`; AssertionError if there is none in time."""
    end_s = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise AssertionError(f'not within {timeout_s} s: {what or condition}')
        time.sleep(POLL_S)
