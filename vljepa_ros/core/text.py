# SPDX-License-Identifier: Apache-2.0
"""Detection of yes and no among candidate answers, without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence


def yes_among(candidates: Sequence[str]) -> int | None:
    """Return the index of "yes" if the candidates are exactly one "yes" and one "no"."""
    return yes_of(candidates) if len(candidates) == 2 else None


def yes_of(candidates: Sequence[str]) -> int | None:
    """Return the index of the only candidate that begins with "yes", if another is a "no"."""
    first = [_first_word(text) for text in candidates]
    return first.index('yes') if first.count('yes') == 1 and 'no' in first else None


def _first_word(text: str) -> str:
    return ''.join(re.findall(r'[^\W_]+', text.lower())[:1])
