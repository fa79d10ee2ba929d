# SPDX-License-Identifier: Apache-2.0
"""Text side of a streaming model at run time: embeds, scores and decodes texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Decoded
from vljepa_ros.model.language.generation import Hypothesis, TextGenerator, decoded
from vljepa_ros.model.language.readability import Readability
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.streaming.text_tower import TextTower

BATCH = 64  # texts per forward pass; limits memory for 1,000 candidates


class TextLanguage(TextSpace):
    """Text side of a streaming model; implements `core.protocols.Language`.

    Only `check` and `unreadable` are safe to call from any thread.
    """

    def __init__(self, net: VLJEPA, tower: TextTower, facts: ModelFacts) -> None:
        super().__init__(facts, net.config.calibration)
        self._net, self._tower = net, tower
        self.readability: Readability | None = None

    def unreadable(self, text: str) -> float:
        """Return how unreadable a text is, 0..1; from 0.5 on, it counts as unreadable.

        Without a detector, the result is 0.

        Raises:
            InputError: The text is empty or has too many tokens.
        """
        self.check(text)
        return self.readability.unreadable(text) if self.readability else 0.0

    @property
    def tokenizer(self) -> Any:
        """Tokenizer of the text tower, from the package `tokenizers`."""
        return self._tower.tokenizer

    def check(self, text: str) -> None:
        """Raise InputError if a text is empty or has too many tokens."""
        if not text.strip():
            raise InputError('cannot embed the text: it is empty')
        self._tower.tokens([text], self._net.config.y_encoder.max_tokens)

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        dtype = next(self._net.y_encoder.parameters()).dtype
        rows = [np.zeros((0, self.facts.embedding_dim), np.float32)]
        for start in range(0, len(texts), BATCH):
            states, mask = self._tower.states(
                texts[start : start + BATCH], self._net.config.y_encoder.max_tokens
            )
            rows.append(self._net.y_encoder(states.to(dtype), mask).float().cpu().numpy())
        return np.concatenate(rows)

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Decode predicted vectors into texts with calibrated confidences.

        Args:
            vectors: Predicted vectors (N, embedding_dim).
            asked: Whether the texts answer questions, which have a calibration of their own.
        """
        rows = zip(self.hypotheses(vectors), vectors, strict=True)
        return [decoded(row, vector, self, asked) for row, vector in rows]

    def hypotheses(
        self, vectors: NDArray[np.float32], cosines: bool = True
    ) -> list[list[Hypothesis]]:
        """Return all hypotheses of the Y-Decoder for each vector, best first.

        Args:
            vectors: Predicted vectors (N, embedding_dim).
            cosines: Whether to order the hypotheses by the cosines of vectors and texts; see
                `TextGenerator.hypotheses`.
        """
        generator = TextGenerator(self._net.y_decoder, self._tower.tokenizer.decode)
        return generator.hypotheses(self._checked(vectors), self, cosines)
