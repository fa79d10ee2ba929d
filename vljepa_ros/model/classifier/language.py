# SPDX-License-Identifier: Apache-2.0
"""Text side of a classifier model: the text tower, and a sentence bank for descriptions.

Shapes: N texts or vectors, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.text import yes_among
from vljepa_ros.core.types import Decoded, Vector
from vljepa_ros.model.classifier.config import MAX_TEXT_TOKENS, ClassifierConfig
from vljepa_ros.model.classifier.space import JointSpace
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.streaming.text_tower import TextTower

BATCH = 64  # texts per forward pass; limits memory for 1,000 candidates


class ClassifierLanguage(TextSpace):
    """Text side of a classifier model; implements `core.protocols.Language`.

    It describes images with the nearest sentence of its bank. It knows things and scenes, but not
    what is asked about them, so questions with the candidates yes and no are unanswerable.
    Only `check` is safe to call from any thread.
    """

    def __init__(
        self,
        tower: TextTower,
        space: JointSpace,
        bank: Bank,
        facts: ModelFacts,
        config: ClassifierConfig,
    ) -> None:
        super().__init__(facts, config.calibration)
        self._tower, self._space, self._bank = tower, space, bank
        self._match_below = config.match_below
        bank.check(self.check)

    def check(self, text: str) -> None:
        """Raise InputError if a text is empty or has more than `MAX_TEXT_TOKENS` tokens."""
        if not text.strip():
            raise InputError('cannot embed the text: it is empty')
        self._tower.tokens([text], MAX_TEXT_TOKENS)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [
            self._tower.sentence_embeddings(texts[start : start + BATCH], MAX_TEXT_TOKENS)
            for start in range(0, len(texts), BATCH)
        ]
        return self._space.text_embeddings(np.concatenate(rows))

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Return the nearest sentence of the bank for each vector (N, D), also if a text is asked.

        The text is '' with confidence 0 if no sentence is near enough.
        """
        return self._bank.nearest(self._checked(vectors), self._embed, self.match)

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Return whether to abstain: yes/no questions, and images that no text describes.

        Args:
            vector: Embedding (D,) of an image.
            candidates: Candidates of the question; may be empty.
            text: The best candidate, or the decoded text if there are no candidates.
        """
        if not text or yes_among(candidates) is not None:
            return True
        return bool(candidates) and float(self.similarity(vector[None], text)[0]) < (
            self._match_below
        )
