# SPDX-License-Identifier: Apache-2.0
"""Letter trigram statistics that distinguish English from groups of other languages.

The log-odds of a trigram are log(relative frequency in a group / relative frequency in English).
They are stored in `letter_trigrams.npz` for the detector of unreadable texts. The command
`python -m vljepa_ros.model.language.letters` creates this file from the language profiles of the
PyPI package langdetect 1.0.9 (Apache-2.0; frequencies in Wikipedia). Portuguese, Swedish, Czech,
Finnish, Indonesian and Vietnamese are excluded, because the evaluation suite `unreadable` tests
with them.

Shapes: G groups of languages, A = 27 symbols (letters a-z and the word boundary).
"""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError

FILE = Path(__file__).with_name('letter_trigrams.npz')
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
END = len(LETTERS)
STEP = 1 / 16  # resolution of the stored integers, in nats
# Added to every relative frequency, because trigrams that are rare in both languages are not
# informative.
FLOOR = 5e-6
GROUPS = {
    'germanic': ('de', 'nl', 'da', 'no', 'af'),
    'romance': ('fr', 'es', 'it', 'ro', 'ca'),
    'slavic': ('pl', 'sk', 'sl', 'hr'),
    'other European': ('hu', 'et', 'tr', 'lt', 'lv', 'sq'),
    'other': ('tl', 'sw', 'so'),
}


def load() -> NDArray[np.int8]:
    """Load the log-odds of letter trigrams (G, A, A, A), in units of `STEP`."""
    with np.load(FILE) as stored:
        found: NDArray[np.int8] = stored['log_odds']
    return found


def places(word: str) -> list[int]:
    """Return the symbol indices of a word of letters a-z, with `END` before and after it."""
    return [END, *(LETTERS.index(c) for c in word), END]


def words(text: str) -> list[str]:
    """Split a text into lower-case words of letters a-z; accents are removed from letters."""
    plain = unicodedata.normalize('NFKD', text.replace("'", ' ').replace('\u2019', ' ')).lower()
    kept = (c if c in LETTERS else '' if unicodedata.combining(c) else ' ' for c in plain)
    return ''.join(kept).split()


def make() -> NDArray[np.int8]:
    """Compute the log-odds of letter trigrams (G, A, A, A), in units of `STEP`.

    Raises:
        InputError: The package langdetect, which contains the language profiles, is missing.
    """
    spec = importlib.util.find_spec('langdetect')
    if spec is None or not spec.submodule_search_locations:
        raise InputError('letter trigrams need the package langdetect: pip install langdetect')
    folder = Path(next(iter(spec.submodule_search_locations))) / 'profiles'
    english = _shares(folder / 'en')
    groups = [np.mean([_shares(folder / n) for n in names], 0) for names in GROUPS.values()]
    odds = np.log((np.stack(groups) + FLOOR) / (english + FLOOR))
    return np.clip(np.rint(odds / STEP), -127, 127).astype(np.int8)


def _shares(profile: Path) -> NDArray[np.float64]:
    """Read a langdetect profile; return the relative frequencies (A, A, A) of its trigrams."""
    counts = np.zeros((END + 1,) * 3)
    for gram, count in json.loads(profile.read_text(encoding='utf-8'))['freq'].items():
        plain = [unicodedata.normalize('NFKD', c)[0].lower() for c in gram]
        if len(gram) == 3 and all(c == ' ' or c in LETTERS for c in plain):
            counts[tuple(END if c == ' ' else LETTERS.index(c) for c in plain)] += count
    return counts / counts.sum()


if __name__ == '__main__':
    np.savez_compressed(FILE, log_odds=make())
