# SPDX-License-Identifier: Apache-2.0
"""The language half of a model that came without a Y-Decoder: a text encoder, a bank of sentences.

`DecoderLanguage` has words of its own, by a decoder that learned from texts (`text_decoder`).

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
from vljepa_ros.model.language.generation import UNREAD, Said, Speaker
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.language.text_decoder import TextDecoder
from vljepa_ros.model.language.tokenizer import Tokens

BATCH = 64  # texts a forward pass: bounds memory for 1,000 candidates

Encoder = Callable[[Tensor, Tensor], Tensor]  # ids (N, L), mask (N, L) -> unit vectors (N, D)


class BankLanguage(TextSpace):
    """Implements `core.protocols.Language`. One thread owns it; `check` is for any thread.

    `answers`: whether the nearest sentence is given to a question, too; where it is not, asking
    for words is an InputError.
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
        """Raise InputError on an empty text, or one of too many tokens."""
        if not text.strip():
            raise InputError('a text to embed is empty')
        self.tokens.ids([text])

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [np.zeros((0, self.facts.embedding_dim), np.float32)]
        for start in range(0, len(texts), BATCH):
            ids, mask = self.tokens.batch(texts[start : start + BATCH], self._device)
            rows.append(self._encoder(ids, mask).float().cpu().numpy())
        return np.concatenate(rows)

    def decode(self, vectors: NDArray[np.float32], asked: bool = False) -> list[Decoded]:
        """The bank's nearest sentence for each of (N, D) vectors, marked as such."""
        if asked and not self._answers:
            raise InputError(
                f"model '{self.facts.model_id}' has no words of its own for an open question: "
                f'give candidates to choose from'
            )
        return self._say(self._checked(vectors), asked)

    def _say(self, vectors: NDArray[np.float32], asked: bool) -> list[Decoded]:
        return self._nearest(vectors)

    def _nearest(self, vectors: NDArray[np.float32]) -> list[Decoded]:
        return self._bank.nearest(vectors, self._embed, self.match)

    def cannot_tell(self, vector: Vector, candidates: Sequence[str], said: str) -> bool:
        """As of every model, and where no sentence was near: then nothing was said."""
        nothing = not candidates and not said
        return nothing or super().cannot_tell(vector, candidates, said)


class DecoderLanguage(BankLanguage):
    """With a decoder that learned from texts; the bank speaks where its words are far off."""

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
        self._speaker = Speaker(decoder.y_decoder, tokens.text)

    def _say(self, vectors: NDArray[np.float32], asked: bool) -> list[Decoded]:
        """Confidences are those of `similarity`, as the bank's are: nothing else was fitted."""
        placed = self._decoder.placed(vectors, asked)
        rows = self._speaker.said(self._decoder.projected(placed), self)
        below = self._decoder.config.bank_below
        far = [i for i, said in enumerate(rows) if not said or said[0].cosine < below]
        nearest = dict(zip(far, self._nearest(placed[far]), strict=True))
        return [nearest.get(i) or self._own(said, vectors[i]) for i, said in enumerate(rows)]

    def _own(self, said: Sequence[Said], vector: Vector) -> Decoded:
        def score(one: Said) -> float:
            return (
                0.0 if one.cosine == UNREAD else float(self.similarity(vector[None], one.text)[0])
            )

        best, *others = (Candidate(one.text, score(one)) for one in said)
        return Decoded(best.text, best.score, tuple(others))


def wants_language(parts: tuple[str, ...]) -> bool:
    """Whether the language half is wanted, with words of its own or without (`bank`)."""
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
    """With the decoder that lies in the model's folder, if one does. Raises ModelError."""
    if 'language' not in parts or not text_decoder.exists(folder):
        return BankLanguage(encoder, tokens, bank, facts, calibration, answers)
    decoder = text_decoder.load(folder, facts)
    return DecoderLanguage(encoder, tokens, bank, facts, calibration, decoder, answers)
