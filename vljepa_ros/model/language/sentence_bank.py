# SPDX-License-Identifier: Apache-2.0
"""Sentence bank for models without a Y-Decoder: a text file that users can edit.

The text of a vector is the sentence with the nearest embedding, with `Decoded.nearest` set. It is
empty if no sentence is near enough.

Shapes: N vectors, D embedding_dim, M sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.types import Candidate, Decoded
from vljepa_ros.model.checkpoint_config import BankConfig

MAX_SENTENCES = 10_000
ALTERNATIVES = 2  # number of sentences returned in addition to the nearest

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Confidence = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Bank:
    """A sentence bank. Its sentences are embedded at the first use."""

    def __init__(self, folder: Path, config: BankConfig) -> None:
        self._path, self._abstain_below = folder / config.file, config.abstain_below
        self.sentences = _read(self._path)
        self._vectors: NDArray[np.float32] | None = None

    def check(self, check: Callable[[str], None]) -> None:
        """Raise ModelError that names the first sentence that the model cannot embed."""
        for sentence in self.sentences:
            try:
                check(sentence)
            except InputError as error:
                raise ModelError(f"{self._path}: '{sentence:.40}': {error}") from error

    def nearest(
        self, vectors: NDArray[np.float32], encode: Encode, confidence: Confidence
    ) -> list[Decoded]:
        """Return the nearest sentence for each vector; '' if none reaches `abstain_below`.

        Args:
            vectors: (N, D).
            encode: Embeds texts.
            confidence: Converts cosines to scores.
        """
        if self._vectors is None:
            self._vectors = encode(self.sentences)
        cosines = vectors @ self._vectors.T  # (N, M)
        return [self._decoded(row, confidence(row)) for row in cosines]

    def _decoded(self, cosines: NDArray[np.float32], scores: NDArray[np.float32]) -> Decoded:
        order = np.argsort(-cosines, kind='stable')[: 1 + ALTERNATIVES]
        near = [i for i in order if cosines[i] >= self._abstain_below]
        if not near:
            return Decoded('', 0.0, nearest=True)
        best, *others = (Candidate(self.sentences[i], float(scores[i])) for i in near)
        return Decoded(best.text, best.score, tuple(others), nearest=True)


def _read(path: Path) -> list[str]:
    """Read sentences, one per line; blank lines and lines that start with # are ignored."""
    try:
        lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error
    found = list(dict.fromkeys(line for line in lines if line and not line.startswith('#')))
    if not 1 <= len(found) <= MAX_SENTENCES:
        raise ModelError(
            f'{path} has {len(found):,} sentences, but must have 1..{MAX_SENTENCES:,}'
        )
    return found
