# SPDX-License-Identifier: Apache-2.0
"""Fits the detector of unreadable texts (`model.language.readability`) for one tokenizer.

Readable texts are the package's training paraphrases and prompts, the texts of the streams, and
the general texts (`readable.fitted` in data/unfamiliar/texts.yaml). Unreadable texts are
`unreadable.fitted` and random texts: letters, symbols, invented words, and letters of other
scripts. The weights of word pieces are log-odds (naive Bayes); the features of a text use the
log-odds of the other folds. In cross-validation, at most `REFUSED` of the general texts, and at
most `REFUSED` of the other readable texts, are rejected.

Shapes: N texts, F features, K kinds of unreadable texts, A = 27 letters a-z and the end of a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.unfamiliar.texts import FITTED, own_texts, texts
from vljepa_ros.model.language import letters
from vljepa_ros.model.language.letters import LETTERS
from vljepa_ros.model.language.readability import (
    FEATURES,
    KINDS,
    Trigrams,
    english_trigrams,
    features,
)
from vljepa_ros.train.calibration_stage import fit_logistic_regression

PARAPHRASES = 1200  # maximum number of training paraphrases, many of which are similar
RANDOM = 60  # number of generated texts of each kind of nonsense
READABLE = -1  # index for readable texts, in place of an index in `KINDS`
FOLDS = 5
REFUSED = 0.01  # maximum rejected fraction of the readable texts
RIDGE = 1e-3
# Minimum weight of features that are 0 in readable texts. The fit underestimates their weights,
# because the data contain few scripts, which other features explain as well.
DECISIVE, ENOUGH = ('foreign_script', 'unknown_pieces'), 15.0
SCRIPTS = (  # ranges of code points of letters outside the Latin alphabet
    (0x0391, 0x03C9), (0x0410, 0x044F), (0x05D0, 0x05EA), (0x0621, 0x063A), (0x0905, 0x0939),
    (0x0E01, 0x0E2E), (0x10D0, 0x10F0), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
    (0xAC00, 0xD7A3),
)  # fmt: skip

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Tensors = dict[str, NDArray[Any]]


def fit_readability(tokenizer: Any, annotated: Sequence[str] = (), seed: int = 0) -> Tensors:
    """Fit the detector of unreadable texts and return its tensors by name.

    The names and shapes are those of `model.language.readability.TENSORS`.

    Args:
        tokenizer: Tokenizer of the text tower.
        annotated: Texts of the streams, which count as readable.
        seed: Seed of the generated texts and of the folds.
    """
    rng = np.random.default_rng([seed, 17])
    general = [text for group in texts(True, FITTED).values() for text in group]
    paraphrases = own_texts('train')
    paraphrases = [paraphrases[i] for i in rng.permutation(len(paraphrases))[:PARAPHRASES]]
    readable = [*general, *dict.fromkeys([*paraphrases, *annotated])]
    english, languages = english_trigrams(tokenizer, readable), letters.load()
    written = [text for group in texts(False, FITTED).values() for text in group]
    unreadable = [*written, *nonsense_texts(rng, tokenizer, np.exp(english.astype(np.float64)))]
    every = [*readable, *unreadable]
    kind = np.array([READABLE] * len(readable) + [kind_of(text) for text in unreadable])
    wrong = kind != READABLE
    fold = np.random.default_rng([seed, 19]).integers(0, FOLDS, len(every))
    trigrams = Trigrams(english, languages)
    x, bag = _statistics(every, wrong, fold, tokenizer, trigrams)
    weights, bias = _fit(x, kind)
    held_out = _held_out_logits(x, kind, fold)
    is_general = np.arange(len(every)) < len(general)
    allowed = max(
        float(np.quantile(held_out[part], 1.0 - REFUSED))
        for part in (is_general, ~is_general & ~wrong)
        if part.any()
    )
    return {
        'english': english,
        'languages': languages,
        'weights': weights.astype(np.float32),
        'bias': (bias - allowed).astype(np.float32),
        'pieces': np.array(sorted(bag), np.int32),
        'piece_weights': np.array([bag[index] for index in sorted(bag)], np.float16),
    }


def nonsense_texts(rng: np.random.Generator, tokenizer: Any, trigrams: Array) -> list[str]:
    """Generate `RANDOM` texts of each kind of nonsense.

    The kinds are random letters, consonants, symbols, invented words, and letters of non-Latin
    scripts.

    Args:
        rng: Random generator.
        tokenizer: Tokenizer of the text tower.
        trigrams: Probability of a letter after two letters in English (A, A, A).
    """
    makers: tuple[Callable[[], str], ...] = (
        lambda: _random(rng, LETTERS, 6),
        lambda: _random(rng, 'bcdfghjklmnpqrstvwxz', 4),
        lambda: _random(rng, '!?#$%&*()[]{}<>=+~^|/\\@_-.', 2),
        lambda: _invented(rng, tokenizer, trigrams),
        lambda: _foreign(rng),
    )
    return [make() for make in makers for _ in range(RANDOM)]


def _random(rng: np.random.Generator, letters: str, most: int) -> str:
    count = int(rng.integers(1, most))
    return ' '.join(''.join(rng.choice(list(letters), rng.integers(3, 10))) for _ in range(count))


def _invented(rng: np.random.Generator, tokenizer: Any, trigrams: Array) -> str:
    """Generate a text of invented words that resemble English, some after a word like "the".

    No invented word is in the tokenizer's vocabulary. `trigrams`: see `nonsense_texts`.
    """
    found = list[str]()
    while len(found) < int(rng.integers(2, 6)):
        word, indices = '', [len(LETTERS)] * 2
        while len(word) < 12:
            chance = trigrams[indices[-2], indices[-1]]
            indices.append(int(rng.choice(len(chance), p=chance / chance.sum())))
            if indices[-1] == len(LETTERS):
                break
            word += LETTERS[indices[-1]]
        if len(word) > 3 and len(tokenizer.encode(word, add_special_tokens=False).ids) > 1:
            found.append(word)
    little = ('the', 'is', 'a', 'and', 'on')
    return ' '.join(f'{rng.choice(little)} {w}' if rng.random() < 0.4 else w for w in found)


def _foreign(rng: np.random.Generator) -> str:
    low, high = SCRIPTS[int(rng.integers(len(SCRIPTS)))]
    return _random(rng, ''.join(map(chr, range(low, high + 1))), 6)


def _statistics(
    every: Sequence[str], wrong: Flags, fold: NDArray[np.int64], tokenizer: Any, trigrams: Trigrams
) -> tuple[Array, dict[int, float]]:
    """Compute the features of all texts, and the log-odds of word pieces.

    Args:
        every: All texts.
        wrong: Whether each text is unreadable (N,).
        fold: Index of the fold of each text (N,).
        tokenizer: Tokenizer of the text tower.
        trigrams: Letter statistics.

    Returns:
        Features (N, F), for which the log-odds of pieces come from the other folds, and the
        log-odds from all texts, by piece id.
    """
    pieces = [set(tokenizer.encode(text, add_special_tokens=False).ids) for text in every]
    x: Array | None = None
    for number in np.unique(fold):
        bag = _bag(pieces, wrong, fold != number)
        for row in np.flatnonzero(fold == number).tolist():
            found = features(every[row], tokenizer, trigrams, bag)
            x = np.zeros((len(every), len(found))) if x is None else x
            x[row] = found
    assert x is not None
    return x, _bag(pieces, wrong, np.ones(len(every), bool))


def _bag(pieces: Sequence[set[int]], wrong: Flags, used: Flags) -> dict[int, float]:
    """Return the log-odds, by piece id, that a text with this piece is unreadable (naive Bayes).

    Args:
        pieces: Ids of the word pieces of each text.
        wrong: Whether each text is unreadable (N,).
        used: Whether each text is used (N,).
    """
    counts = Counter[int](), Counter[int]()
    for row in np.flatnonzero(used).tolist():
        counts[int(wrong[row])].update(pieces[row])
    share = float((wrong & used).sum() / max((~wrong & used).sum(), 1))
    least = min(1.0, share)
    right, other = counts
    return {
        piece: math.log((other[piece] + least) / (right[piece] * share + least))
        for piece in set(right) | set(other)
    }


def _fit(x: Array, kind: NDArray[np.int64]) -> tuple[Array, Array]:
    """Fit one logistic regression per kind of unreadable texts, against all readable texts.

    The texts of the kind are repeated so that both classes have about the same weight.

    Args:
        x: Features (N, F).
        kind: Index in `KINDS` of each text, or `READABLE` (N,).

    Returns:
        Weights (K, F) and biases (K,).
    """
    weights, biases = np.zeros((len(KINDS), x.shape[1])), np.zeros(len(KINDS))
    for number, name in enumerate(KINDS):
        own, readable = np.flatnonzero(kind == number), np.flatnonzero(kind == READABLE)
        rows = np.concatenate([readable, np.repeat(own, max(1, round(len(readable) / len(own))))])
        slopes, biases[number] = fit_logistic_regression(x[rows], kind[rows] == number, RIDGE)
        weights[number] = slopes
        for feature in DECISIVE if name == 'languages' else ():
            at = FEATURES.index(feature)
            weights[number, at] = max(weights[number, at], ENOUGH)
    return weights, biases


def _held_out_logits(x: Array, kind: NDArray[np.int64], fold: NDArray[np.int64]) -> Array:
    """Return the cross-validated logit of the likeliest kind of each text, (N,).

    Args:
        x: Features (N, F).
        kind: Index in `KINDS` of each text, or `READABLE` (N,).
        fold: Index of the fold of each text (N,).
    """
    found = np.zeros(len(x))
    for number in np.unique(fold):
        weights, bias = _fit(x[fold != number], kind[fold != number])
        found[fold == number] = (x[fold == number] @ weights.T + bias).max(axis=1)
    return found


def kind_of(text: str) -> int:
    """Return the kind of an unreadable text of the fitting data, as an index in `KINDS`."""
    if not any(c.isalpha() for c in text):
        return KINDS.index('signs')
    fitted = texts(False, FITTED)
    written = {row for name, rows in fitted.items() if name != 'nonsense' for row in rows}
    is_language = text in written or not text.isascii()
    return KINDS.index('languages' if is_language else 'nonsense')
