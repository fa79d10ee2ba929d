# SPDX-License-Identifier: Apache-2.0
"""Text side of a model that is published without a Y-Decoder: text encoder and sentence bank.

`BankLanguage` retrieves texts from the sentence bank. `DecoderLanguage` generates texts with a
text decoder that was trained on texts only (see `text_decoder`).

Shapes: N texts or vectors, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Candidate, Decoded, Vector
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.language import text_decoder
from vljepa_ros.model.language.generation import UNREAD, Hypothesis, TextGenerator
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.language.text_decoder import TextDecoder
from vljepa_ros.model.language.tokenizer import Tokens

BATCH = 64  # texts per forward pass; limits memory for 1,000 candidates

Encoder = Callable[[Tensor, Tensor], Tensor]  # ids (N, L), mask (N, L) -> unit vectors (N, D)


class BankLanguage(TextSpace):
    """Text side that decodes vectors to the nearest sentences of a sentence bank.

    It implements `core.protocols.Language`. Only `check` and `unreadable` are safe to call from
    any thread. `answers`: whether open questions, which have no candidates, are answered with the
    nearest sentence; if not, `decode` raises an InputError for them.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: Tokens,
        bank: Bank,
        facts: ModelFacts,
        calibration: CalibrationConfig,
        answers: bool = True,
    ) -> None:
        super().__init__(facts, calibration)
        self._encoder, self.tokens, self._bank = encoder, tokens, bank
        self._answers, self._device = answers, torch.device(facts.device)
        bank.check(self.check)

    def check(self, text: str) -> None:
        """Raise InputError if a text is empty or has too many tokens."""
        if not text.strip():
            raise InputError('cannot embed the text: it is empty')
        self.tokens.ids([text])

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.zeros((0, self.facts.embedding_dim), np.float32)]
        for start in range(0, len(texts), BATCH):
            ids, mask = self.tokens.batch(texts[start : start + BATCH], self._device)
            rows.append(self._encoder(ids, mask).float().cpu().numpy())
        return np.concatenate(rows)

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """Decode predicted vectors into sentences of the bank; subclasses may generate texts.

        Args:
            vectors: Predicted vectors (N, D).
            asked: Whether the vectors answer open questions, which have no candidates.

        Raises:
            InputError: `asked` is true, but the model does not answer open questions.
        """
        if asked and not self._answers:
            raise InputError(
                f"model '{self.facts.model_id}' has no text decoder and cannot answer an open "
                f'question: add candidates to choose from'
            )
        return self._decode(self._checked(vectors), asked)

    def _decode(self, vectors: NDArray[np.float32], asked: bool) -> list[Decoded]:
        return self._nearest(vectors)

    def _nearest(self, vectors: NDArray[np.float32]) -> list[Decoded]:
        return self._bank.nearest(vectors, self._embed, self.match)

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Return whether to abstain, by `TextSpace`'s rule or because no sentence is near enough.

        Args:
            vector: Predicted answer embedding (D,).
            candidates: Candidates of the question; may be empty.
            text: The best candidate, or the decoded text if there are no candidates.
        """
        no_text = not candidates and not text
        return no_text or super().is_unanswerable(vector, candidates, text)


class DecoderLanguage(BankLanguage):
    """Text side that generates texts with a text decoder, and uses the sentence bank as fallback.

    If the embedding of a generated text is too far from the vector, the nearest sentence of the
    bank replaces the text.
    """

    def __init__(
        self,
        encoder: Encoder,
        tokens: Tokens,
        bank: Bank,
        facts: ModelFacts,
        calibration: CalibrationConfig,
        decoder: TextDecoder,
        answers: bool = True,
    ) -> None:
        super().__init__(encoder, tokens, bank, facts, calibration, answers)
        self._decoder = decoder
        self._generator = TextGenerator(decoder.y_decoder, tokens.text)

    def _decode(self, vectors: NDArray[np.float32], asked: bool) -> list[Decoded]:
        """Decode vectors into texts; their confidences are their `similarity` to the vectors.

        The calibration of decoded texts (decode_*) is not fitted for these models.
        """
        placed = self._decoder.placed(vectors, asked)
        rows = self._generator.hypotheses(self._decoder.projected(placed), self)
        below = self._decoder.config.bank_below
        far = [i for i, row in enumerate(rows) if not row or row[0].cosine < below]
        nearest = dict(zip(far, self._nearest(placed[far]), strict=True))
        return [nearest.get(i) or self._generated(row, vectors[i]) for i, row in enumerate(rows)]

    def _generated(self, hypotheses: Sequence[Hypothesis], vector: Vector) -> Decoded:
        def score(one: Hypothesis) -> float:
            return (
                0.0 if one.cosine == UNREAD else float(self.similarity(vector[None], one.text)[0])
            )

        best, *others = (Candidate(one.text, score(one)) for one in hypotheses)
        return Decoded(best.text, best.score, tuple(others))


def wants_language(parts: tuple[str, ...]) -> bool:
    """Return whether `parts` (see `registry.load`) requests the text side."""
    return 'language' in parts or 'bank' in parts


def make_language(
    folder: Path,
    parts: tuple[str, ...],
    encoder: Encoder,
    tokens: Tokens,
    bank: Bank,
    facts: ModelFacts,
    calibration: CalibrationConfig,
    answers: bool = True,
) -> BankLanguage:
    """Build the text side of a model, with a text decoder if the model folder contains one.

    Args:
        folder: Model folder.
        parts: Sides to load, as in `registry.load`. Without `language`, the text decoder is not
            used.
        encoder: Y-Encoder.
        tokens: Tokenizer of the Y-Encoder.
        bank: Sentence bank.
        facts: Constants of the model.
        calibration: Parameters that convert cosines to scores.
        answers: Whether open questions, which have no candidates, are answered.

    Raises:
        ModelError: The text decoder is damaged or belongs to another model, or the bank contains
            a sentence that cannot be embedded.
    """
    if 'language' not in parts or not text_decoder.exists(folder):
        return BankLanguage(encoder, tokens, bank, facts, calibration, answers)
    decoder = text_decoder.load(folder, facts)
    return DecoderLanguage(encoder, tokens, bank, facts, calibration, decoder, answers)
