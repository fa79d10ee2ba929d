# SPDX-License-Identifier: Apache-2.0
"""The language half of a streaming model at run time: Y-Encoder and Y-Decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.errors import InputError
from vljepa_ros.model.text_space import TextSpace
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.model.y_decoder import END
from vljepa_ros.stream.interfaces import ModelFacts
from vljepa_ros.stream.types import Candidate, Decoded, Vector

KNOWN_TEXTS = 1024  # whose embeddings are kept
BATCH = 64  # texts or vectors a forward pass: bounds memory for 1,000 candidates
ALONE = 5.0  # the margin of a text that no other beam competes with; none counts for more


@dataclass(frozen=True)
class Said:
    """A text of the Y-Decoder for one vector, and what tells whether it is right.

    `log_probability`: the mean of its tokens. `margin`: how far that is above the best of the
    other texts, -ALONE..ALONE. `cosine`: of the vector to the text's own embedding.
    """

    text: str
    log_probability: float
    margin: float
    cosine: float

    @property
    def words(self) -> int:
        """How many it has."""
        return len(self.text.split())


class TextLanguage(TextSpace):
    """Implements `stream.interfaces.Language`. One thread owns it; `check` is for any thread."""

    def __init__(self, net: VLJEPA, tower: TextTower, facts: ModelFacts) -> None:
        super().__init__(facts, net.config.calibration, KNOWN_TEXTS)
        self._net, self._tower = net, tower

    def check(self, text: str) -> None:
        """Raise InputError on an empty text, or one of too many tokens."""
        if not text.strip():
            raise InputError('a text to embed is empty')
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
        """Words for each of (N, D) vectors; `asked`: as confident as answers to questions are."""
        slope, margin, cosine, words, bias = self.calibration.words(asked)

        def confidence(said: Said) -> float:
            logit = slope * said.log_probability + bias
            logit += margin * said.margin + cosine * said.cosine + words * said.words
            return float(1 / (1 + np.exp(-logit)))

        found = self.said(vectors, cosines=cosine != 0.0)
        return [_decoded([Candidate(s.text, confidence(s)) for s in row]) for row in found]

    @torch.inference_mode()
    def said(self, vectors: NDArray[np.float32], cosines: bool = True) -> list[list[Said]]:
        """The different texts of the beams for each of (N, D) vectors, the likeliest first.

        Without `cosines` no text is embedded, and they are 0.
        """
        vectors = self._checked(vectors)
        decoder = self._net.y_decoder
        dtype = next(decoder.parameters()).dtype
        found: list[list[Said]] = []
        for start in range(0, len(vectors), BATCH):
            batch = torch.from_numpy(vectors[start : start + BATCH]).to(self._tower.device, dtype)
            tokens, score = decoder.generate(batch)
            texts = [
                self._texts(*beams) for beams in zip(tokens.tolist(), score.tolist(), strict=True)
            ]
            known = self._embedded({t for row in texts for t in row} if cosines else set())
            found += [
                _said(row, vector, known)
                for row, vector in zip(texts, vectors[start : start + BATCH], strict=True)
            ]
        return found

    def _texts(self, beams: list[list[int]], scores: list[float]) -> dict[str, float]:
        """The beams' texts with their mean log-probabilities, the best of each text."""
        texts: dict[str, float] = {}
        for beam, score in zip(beams, scores, strict=True):
            text = self._text(beam)
            if text and np.isfinite(score) and text not in texts:
                texts[text] = score
        return texts

    def _embedded(self, texts: set[str]) -> dict[str, NDArray[np.float32]]:
        """Embeddings of those texts that have one: a decoder may say more than is read."""
        kept = []
        for text in sorted(texts):
            try:
                self.check(text)
                kept.append(text)
            except InputError:
                pass
        return dict(zip(kept, self.encode(kept), strict=True))

    def _text(self, tokens: list[int]) -> str:
        kept = tokens[: tokens.index(END)] if END in tokens else tokens
        ids = self._net.y_decoder.token_ids[kept].tolist() if kept else []
        return str(self._tower.tokenizer.decode(ids))


def _said(
    texts: dict[str, float], vector: Vector, known: dict[str, NDArray[np.float32]]
) -> list[Said]:
    found = []
    for text, score in texts.items():
        others = [other for name, other in texts.items() if name != text]
        margin = min(max(score - max(others), -ALONE), ALONE) if others else ALONE
        cosine = float(vector @ known[text]) if text in known else 0.0
        found.append(Said(text, score, margin, cosine))
    return found


def _decoded(texts: list[Candidate]) -> Decoded:
    if not texts:
        return Decoded('', 0.0)
    best, *others = texts
    return Decoded(best.text, best.score, tuple(others))
