# SPDX-License-Identifier: Apache-2.0
"""Readable and unreadable texts: texts.yaml and the package's own sentences and prompts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

from vljepa_ros.data import concepts

FILE = Path(__file__).with_name('texts.yaml')
FITTED, TESTED, SHORT = 'fitted', 'tested', 'short'


@cache
def texts(readable: bool, which: str) -> dict[str, tuple[str, ...]]:
    """Return the texts of texts.yaml by language or kind; `which` is FITTED, TESTED or SHORT."""
    found = yaml.safe_load(FILE.read_text(encoding='utf-8'))
    if readable:
        return {'general': tuple(found['readable'][which])}
    return {group: tuple(rows) for group, rows in found['unreadable'][which].items()}


def own_texts(which: str) -> list[str]:
    """Return the package's paraphrases and prompts of a list: 'train' or 'heldout'."""
    return concepts.named().texts(which)
