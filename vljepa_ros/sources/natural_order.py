# SPDX-License-Identifier: Apache-2.0
"""Natural order of file names: 2 before 10."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares runs of digits as numbers and puts them before letters."""
    return [
        (0, int(part), '') if part.isdecimal() else (1, 0, part)
        for part in re.split(r'(\d+)', name.lower())
        if part
    ]
