# SPDX-License-Identifier: Apache-2.0
"""Bags of colours with what somebody says of them, in words that no model knows."""

from __future__ import annotations

from pathlib import Path

import bags
from recordings import asked, lines, said

from vljepa_ros.train.tuning.config import Recording

SAYS = {'red': 'The oven is hot.', 'blue': 'The fridge is open.', 'green': 'All is well.'}
EACH_S = 2  # how long a colour is shown


def film(folder: Path, colours: list[str], name: str) -> Recording:
    """A bag of colours, and a file that says what each means, and answers a question."""
    source = bags.write(folder / name, bags.colours(colours, 10 * EACH_S))
    told = []
    for number, colour in enumerate(colours):
        begin = EACH_S * number
        told.append(said(begin, begin + EACH_S, SAYS[colour]))
        answer = 'no' if colour == 'red' else 'yes'
        told.append(asked(begin + 1, 'May I touch it?', answer, candidates=['yes', 'no']))
    return Recording(str(source), str(lines(folder / f'{name}.jsonl', *told)))
