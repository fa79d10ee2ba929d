# SPDX-License-Identifier: Apache-2.0
"""Numbers in printed texts, so that tests do not depend on the phrasing."""

from __future__ import annotations

import re


def numbers(text: str, *without: object) -> list[int]:
    """Return the whole numbers of a text in their order, those in parts `without` left out."""
    for part in without:
        text = text.replace(str(part), '')
    return [int(word.replace(',', '')) for word in re.findall(r'\d[\d,]*', text)]
