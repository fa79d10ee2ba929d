# SPDX-License-Identifier: Apache-2.0
"""Find "yes" and "no" among candidate answers, and shorten texts and values for messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHOWN_CHARACTERS = 60  # maximum length of a text or value that a message quotes


def yes_among(candidates: Sequence[str]) -> int | None:
    """Return the index of the "yes" if the candidates are one "yes" and one "no", else None."""
    return yes_of(candidates) if len(candidates) == 2 else None


def yes_of(candidates: Sequence[str]) -> int | None:
    """Return the index of the only "yes" if there is also a "no", otherwise None.

    Only the first word of a candidate is compared, ignoring case.
    """
    first = [_first_word(text) for text in candidates]
    return first.index('yes') if first.count('yes') == 1 and 'no' in first else None


def quoted(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Shorten a text and escape its control characters, to quote it in a one-line message."""
    cut = text if len(text) <= limit else f'{text[:limit]}...'
    return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def plain_line(text: str) -> str:
    """Return a text as one line that is safe in a terminal, an image or a marker.

    Control characters (escape sequences, line breaks) and invisible format characters (such as
    those that reverse the direction of the text) become spaces; runs of spaces become one.
    """
    return ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())


def shown(value: object) -> str:
    """Return the repr of a value of a wrong type in one line, shortened, for an error message."""
    text = ' '.join(repr(value).split())
    cut = f'{text[:SHOWN_CHARACTERS]}... of type {type(value).__name__}'
    return text if len(text) <= SHOWN_CHARACTERS else cut


def _first_word(text: str) -> str:
    return ''.join(re.findall(r'[^\W_]+', text.lower())[:1])
