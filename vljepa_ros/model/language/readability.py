# SPDX-License-Identifier: Apache-2.0
"""Detector of unreadable texts: other languages, nonsense and symbols such as emoji.

There is one logistic regression for each of these three kinds of texts, and the highest score is
used. The features are statistics of the text: its scripts, its word pieces and their frequency
ranks in the text tower's vocabulary, and its letter trigrams (their log-likelihood in English and
their log-odds in other languages). The detector runs no neural network and is safe to call from
any thread. `train.readability` fits it.

Shapes: F features, A = 27 symbols (letters a-z and the word boundary), G groups of languages.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.language.letters import END, LETTERS, STEP, places, words

FEATURES = (
    'foreign_script',  # share of letters outside the Latin alphabet
    'accents',  # share of Latin letters with a diacritic
    'symbols',  # share of characters that are neither letters, digits nor punctuation
    'unknown_pieces',  # share of pieces that are not in the vocabulary
    'continued',  # pieces per word, minus one
    'rank',  # mean rank of the words' first pieces: 0 for the most frequent, 1 for the rarest
    'rank_of_rarer',  # mean rank of the rarer half of the words
    'frequent',  # share of words that are among the most frequent ones
    'letterless',  # 1 if the text has no letter
    'digits',  # share of digits
    'mixed',  # share of words that mix letters and digits
    'negative_log_likelihood',  # mean negative log-likelihood per letter in the trigram model
    'worst_negative_log_likelihood',  # negative log-likelihood per letter of the least likely word
    'vowelless',  # share of words of 3 letters or more without a vowel
    'short',  # 1 / number of words
    'languages',  # log-odds of the best-fitting group of languages against English
    'pieces',  # fitted log-odds of the word pieces
)
KINDS = ('languages', 'nonsense', 'signs')
# Ids of the first and last word of a BERT vocabulary, which is sorted by frequency, and the number
# of words that count as frequent.
FIRST_WORD, LAST_WORD, FREQUENT = 1996, 30522, 600
PUNCTUATION = set('.,;:?!\'"()-/%&+\u00b0\u2019\u201c\u201d\u2013\u2026')
MOST = 10.0  # limit of a logit, so that exp stays finite
KNOWN_TEXTS = 2048  # size of the cache of scores (the least recently used are dropped)
MOST_ODDS = 30.0  # limit of log-odds, in nats

Array = NDArray[np.float64]


class Readability:
    """Detector of unreadable texts with its fitted weights and the text tower's tokenizer."""

    def __init__(self, tokenizer: Any, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Create the detector from its tokenizer and the tensors of its file.

        Raises:
            ModelError: A tensor is missing or has another shape than in `TENSORS`.
        """
        self._tokenizer = tokenizer
        check_tensors(tensors)
        self._weights = np.asarray(tensors['weights'], np.float64)
        self._bias = np.asarray(tensors['bias'], np.float64)
        self._trigrams = Trigrams(tensors['english'], tensors['languages'])
        # Prompts and candidates are scored repeatedly, and scoring a text takes about 0.2 ms.
        self._cached = lru_cache(KNOWN_TEXTS)(self._score)
        pieces, weights = tensors['pieces'], np.asarray(tensors['piece_weights'], np.float64)
        self._pieces = dict(zip(pieces.tolist(), weights.tolist(), strict=True))

    def unreadable(self, text: str) -> float:
        """Return how unreadable a text is, 0..1; from 0.5 on, it counts as unreadable."""
        return self._cached(text)

    def _score(self, text: str) -> float:
        found = features(text, self._tokenizer, self._trigrams, self._pieces)
        logit = float(np.clip((self._weights @ found + self._bias).max(), -MOST, MOST))
        return 1.0 / (1.0 + math.exp(-logit))


class Trigrams:
    """Letter trigram statistics of English and of groups of other languages."""

    def __init__(self, english: NDArray[Any], languages: NDArray[Any]) -> None:
        """Store the statistics of all letter trigrams.

        Args:
            english: Log-probabilities (A, A, A), in nats, of a trigram's third letter after the
                first two letters in English.
            languages: Log-odds of trigrams in G groups of languages over English (G, A, A, A), in
                units of `letters.STEP`.
        """
        self._english = np.asarray(english, np.float64)
        self._languages = np.asarray(languages, np.float64) * STEP

    def negative_log_likelihood(self, word: str) -> float:
        """Return the negative log-likelihood of a word in English, in nats per symbol."""
        at = [END, *places(word)]
        return float(-self._english[at[:-2], at[1:-1], at[2:]].mean())

    def log_odds(self, found: Sequence[str]) -> float:
        """Return the log-odds, in nats, of words in the likeliest language group over English.

        The log-odds of all trigrams are added, and the sum is limited to -MOST_ODDS..MOST_ODDS.

        Args:
            found: Words of letters a-z; see `letters.words`.
        """
        total = np.zeros(len(self._languages))
        for word in found:
            at = places(word)
            total += self._languages[:, at[:-2], at[1:-1], at[2:]].sum(1)
        return float(np.clip(total.max(), -MOST_ODDS, MOST_ODDS))


TENSORS: dict[str, tuple[int | None, ...]] = {
    'english': (END + 1, END + 1, END + 1),
    'languages': (None, END + 1, END + 1, END + 1),
    'weights': (len(KINDS), len(FEATURES)),
    'bias': (len(KINDS),),
    'pieces': (None,),
    'piece_weights': (None,),
}


def check_tensors(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raise ModelError if a tensor of `TENSORS` is missing or has another shape."""
    for name, shape in TENSORS.items():
        if name not in tensors:
            raise ModelError(
                f"the detector of unreadable texts has no tensor '{name}': run `vljepa calibrate`"
            )
        found = tensors[name].shape
        if len(found) != len(shape) or any(
            b not in (None, a) for a, b in zip(found, shape, strict=True)
        ):
            raise ModelError(
                f"tensor '{name}' of the detector of unreadable texts has shape {found}, but must "
                f'have {shape}'
            )
    if len(tensors['pieces']) != len(tensors['piece_weights']):
        raise ModelError(
            "tensors 'pieces' and 'piece_weights' of the detector of unreadable texts differ in "
            f'length: {len(tensors["pieces"])} and {len(tensors["piece_weights"])}'
        )


def features(
    text: str, tokenizer: Any, trigrams: Trigrams, piece_weights: Mapping[int, float]
) -> Array:
    """Compute the features (F,) of a text, in the order of `FEATURES`.

    Args:
        text: The text.
        tokenizer: Tokenizer of the text tower.
        trigrams: Letter trigram statistics.
        piece_weights: Log-odds, for unreadable against readable texts, of word pieces by id.
    """
    visible = [c for c in text if not c.isspace()]
    letters = [c for c in visible if c.isalpha()]
    plain = [unicodedata.normalize('NFKD', c)[0].lower() for c in letters]
    foreign = sum(c not in LETTERS for c in plain)
    accents = sum(p in LETTERS and c.lower() != p for c, p in zip(letters, plain, strict=True))
    symbols = sum(not (c.isalnum() or c in PUNCTUATION or _is_mark(c)) for c in visible)
    encoded = tokenizer.encode(text, add_special_tokens=False)
    found = words(text)
    ranks = sorted(_ranks(encoded.tokens, encoded.ids))
    nats = [trigrams.negative_log_likelihood(word) for word in found]
    unknown = sum(token == '[UNK]' for token in encoded.tokens)
    continued = sum(token.startswith('##') for token in encoded.tokens)
    odds = sum(piece_weights.get(i, 0.0) for i in set(encoded.ids))
    mixed = [w for w in text.split() if _mixes(w)]
    count = max(len(found), 1)
    return np.array(
        [
            foreign / max(len(letters), 1),
            accents / max(len(letters), 1),
            symbols / max(len(visible), 1),
            unknown / max(len(encoded.ids), 1),
            continued / max(len(ranks), 1),
            _mean(ranks),
            _mean(ranks[len(ranks) // 2 :]),
            _mean([rank < _rank(FIRST_WORD + FREQUENT) for rank in ranks]),
            float(not letters),
            sum(c.isdigit() for c in visible) / max(len(visible), 1),
            len(mixed) / max(len(text.split()), 1),
            _mean(nats),
            max(nats, default=0.0),
            sum(len(w) > 2 and not set(w) & set('aeiouy') for w in found) / count,
            1.0 / count,
            trigrams.log_odds(found),
            float(np.clip(odds, -MOST_ODDS, MOST_ODDS)),
        ]
    )


def english_trigrams(tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float16]:
    """Estimate the English letter trigram model from a tokenizer's vocabulary and from texts.

    Args:
        tokenizer: Tokenizer whose vocabulary is sorted by frequency, so the weight of its words
            decreases with their index.
        texts: Additional English texts; all their words have the same weight.

    Returns:
        Log-probabilities (A, A, A), in nats, of a trigram's third letter after the first two.
    """
    pairs = [
        (word, 1000.0 / (index - FIRST_WORD + 100))
        for word, index in tokenizer.get_vocab().items()
        if word.isascii() and word.isalpha() and index >= FIRST_WORD
    ]
    pairs += [(word, 0.3) for text in texts for word in words(text)]
    counts = np.zeros((END + 1,) * 3)
    for word, weight in pairs:
        at = [END, *places(word)]
        for one, two, three in zip(at, at[1:], at[2:], strict=False):
            counts[one, two, three] += weight
    single = (counts.sum((0, 1)) + 1.0) / (counts.sum() + END + 1)
    double = (counts.sum(0) + 5.0 * single) / (counts.sum(0).sum(-1, keepdims=True) + 5.0)
    triple = (counts + 5.0 * double) / (counts.sum(-1, keepdims=True) + 5.0)
    return np.log(triple).astype(np.float16)


def _ranks(tokens: Sequence[str], ids: Sequence[int]) -> list[float]:
    """Return the frequency ranks (see `_rank`) of the word pieces that start a word.

    Args:
        tokens: Word pieces of a text; unknown pieces have the highest rank, 1.
        ids: Vocabulary ids of the word pieces.
    """
    return [
        _rank(index) if token != '[UNK]' else 1.0
        for token, index in zip(tokens, ids, strict=True)
        if token == '[UNK]' or (token[0].isalpha() and not token.startswith('##'))
    ]


def _rank(index: int) -> float:
    """Return the frequency rank of a vocabulary id, 0 (most frequent word) to 1 (rarest word).

    Ids before the first word, such as those of single characters, have rank 0.7.
    """
    if index < FIRST_WORD:
        return 0.7
    return math.log1p((index - FIRST_WORD) / 50) / math.log1p((LAST_WORD - FIRST_WORD) / 50)


def _is_mark(character: str) -> bool:
    """Return whether a character is a combining mark, such as a vowel sign."""
    return unicodedata.category(character).startswith('M')


def _mixes(word: str) -> bool:
    """Return whether a word switches between letters and digits more than once, like 'a1b2'."""
    kinds = ['1' if c.isdigit() else 'a' for c in word if c.isalnum()]
    return sum(a != b for a, b in zip(kinds, kinds[1:], strict=False)) > 1


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
