# SPDX-License-Identifier: Apache-2.0
"""Texts without a model: yes and no among candidate answers, and quotes for messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHOWN_CHARACTERS = 60  # length limit of a text that a message quotes


def yes_among(candidates: Sequence[str]) -> int | None:
    """Return the index of "yes" if the candidates are exactly one "yes" and one "no"."""
    return yes_of(candidates) if len(candidates) == 2 else None


def yes_of(candidates: Sequence[str]) -> int | None:
    """Return the index of the only candidate that begins with "yes", if another is a "no"."""
    first = [_first_word(text) for text in candidates]
    return first.index('yes') if first.count('yes') == 1 and 'no' in first else None


def quoted(text: str) -> str:
    """Return a text for a message of one line: shortened, without control characters."""
    cut = text if len(text) <= SHOWN_CHARACTERS else f'{text[:SHOWN_CHARACTERS]}...'
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def _first_word(text: str) -> str:
    return ''.join(re.findall(r'[^\W_]+', text.lower())[:1])
