# SPDX-License-Identifier: Apache-2.0
"""Readable and unreadable texts, for the detector of unreadable texts.

They come from texts.yaml and from the package's own sentences and prompts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from vljepa_ros.data import concepts

FILE = Path(__file__).with_name('texts.yaml')
FITTED, TESTED, SHORT = 'fitted', 'tested', 'short'


@cache
def texts(readable: bool, which: str) -> dict[str, tuple[str, ...]]:
    """Return readable or unreadable texts of texts.yaml, grouped by language or type.

    Args:
        readable: Whether to return the readable texts; they are one group, 'general'.
        which: `FITTED`, `TESTED` or `SHORT`.
    """
    found = yaml.safe_load(FILE.read_text(encoding='utf-8'))
    if readable:
        return {'general': tuple(found['readable'][which])}
    return {group: tuple(rows) for group, rows in found['unreadable'][which].items()}


def own_texts(which: str) -> list[str]:
    """Return the prompts and sentences about Meta-World in the list 'train' or 'heldout'."""
    return concepts.named().texts(which)
