# SPDX-License-Identifier: Apache-2.0
"""CIDEr-D (Vedantam et al., arXiv 1411.5726): similarity of a sentence to reference sentences.

n-grams of 1 to 4 words are weighted by their rarity among the references of the whole corpus.
Their counts are clipped at the counts of the reference, differences in length are penalized by a
Gaussian of sigma 6, and the score is multiplied by 10. Texts are converted to lower case, and
punctuation is removed; words are not stemmed. The tests compare the scores with pycocoevalcap.
The module `document_frequencies` provides the corpus of the evaluation suites.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

SIGMA = 6.0
LONGEST = 4

Grams = Counter[tuple[str, ...]]


class Cider:
    """CIDEr-D scorer with the document frequencies of one corpus.

    Args:
        corpus: Documents, each a list of reference sentences.
        counts: Number of occurrences of each document; 1 by default.
    """

    def __init__(self, corpus: Sequence[Sequence[str]], counts: Sequence[int] = ()) -> None:
        counts = counts or [1] * len(corpus)
        self._documents: Counter[tuple[str, ...]] = Counter()
        for references, count in zip(corpus, counts, strict=True):
            for gram in {gram for text in references for gram in grams(text)}:
                self._documents[gram] += count
        self._log_count = math.log(max(sum(counts), 2))

    def score(self, sentence: str, references: Sequence[str]) -> float:
        """Return the CIDEr-D of a sentence: 0 (no common n-gram) to 10 (equal to references)."""
        own, length = self._weigh(grams(sentence)), _length(sentence)
        total = np.zeros(LONGEST)
        for text in references:
            other = self._weigh(grams(text))
            penalty = math.exp(-((length - _length(text)) ** 2) / (2 * SIGMA**2))
            total += penalty * np.array([_cosine(own[n], other[n]) for n in range(LONGEST)])
        return float(10.0 * total.mean() / max(len(references), 1))

    def _weigh(self, counts: Grams) -> list[dict[tuple[str, ...], float]]:
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(LONGEST)]
        for gram, count in counts.items():
            rarity = self._log_count - math.log(max(self._documents[gram], 1))
            weights[len(gram) - 1][gram] = count * rarity
        return weights


def grams(text: str) -> Grams:
    """Return the counts of all n-grams of 1 to 4 words in a text."""
    words = re.findall(r"[\w']+", text.lower())
    return Counter(
        tuple(words[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(words) - n + 1)
    )


def _length(text: str) -> int:
    return max(len(re.findall(r"[\w']+", text)) - 1, 0)


def _cosine(own: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> float:
    """Return the cosine of two weight vectors; `own` is clipped at `other` in the dot product."""
    shared = sum(min(own[g], other[g]) * other[g] for g in own.keys() & other.keys())
    norm = math.sqrt(sum(v * v for v in own.values())) * math.sqrt(
        sum(v * v for v in other.values())
    )
    return shared / norm if norm else 0.0
