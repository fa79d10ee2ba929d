# SPDX-License-Identifier: Apache-2.0
"""Words of English sentences, and their negation by templates."""

from __future__ import annotations

import re

AUXILIARY = re.compile(r'\b(is|are|has|have|was|were)\b')
# Includes the 't' of "isn't".
NEGATIONS = {'not', 'no', 'never', 'nothing', 'cannot', 'longer', 't', 'without', 'nobody'}


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without digits and punctuation."""
    return re.findall(r'[a-z]+', text.lower())


def negated(text: str) -> tuple[str, ...]:
    """Return negations of a sentence, or () if it already contains a negation.

    If the sentence has an auxiliary such as 'is', the first result has 'not' after it.
    """
    if NEGATIONS & set(words(text)):
        return ()
    ways = (r'\1 not', r"\1n't", r'\1 no longer') if AUXILIARY.search(text) else ()
    clause = text[:1].lower() + text[1:]
    return (
        *(AUXILIARY.sub(way, text, count=1) for way in ways),
        f'It is not true that {clause}',
        f'It is not the case that {clause}',
    )


def with_not(text: str) -> str:
    """Insert 'not' after the auxiliary: 'the drawer is open' -> 'the drawer is not open'.

    The result is '' if the sentence has no auxiliary or already contains a negation.
    """
    return next(iter(negated(text)), '') if AUXILIARY.search(text) else ''
