# SPDX-License-Identifier: Apache-2.0
"""Sentence bank, from which a model without a Y-Decoder retrieves its texts.

The bank is a text file that users can edit. The text of a vector is the sentence whose embedding
is nearest, or '' if no sentence is near enough; `Decoded.nearest` is true for these texts.

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
    """Sentence bank of a model folder, whose sentences are embedded at the first retrieval."""

    def __init__(self, folder: Path, config: BankConfig) -> None:
        self._path, self._abstain_below = folder / config.file, config.abstain_below
        self.sentences = _read(self._path)
        self._vectors: NDArray[np.float32] | None = None

    def check(self, check: Callable[[str], None]) -> None:
        """Check that the model can embed all sentences.

        Args:
            check: Raises InputError if the model cannot embed a text.

        Raises:
            ModelError: A sentence cannot be embedded; the message names it.
        """
        for sentence in self.sentences:
            try:
                check(sentence)
            except InputError as error:
                raise ModelError(f"{self._path}: '{sentence:.40}': {error}") from error

    def nearest(
        self, vectors: NDArray[np.float32], encode: Encode, confidence: Confidence
    ) -> list[Decoded]:
        """Return the nearest sentence of each vector, with the next nearest as alternatives.

        The text is '' with confidence 0 if the highest cosine is below `abstain_below`.

        Args:
            vectors: Unit vectors (N, D).
            encode: Embeds texts.
            confidence: Converts cosines to calibrated scores.
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
    """Read distinct sentences, one per line, without blank lines and lines that start with #."""
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
