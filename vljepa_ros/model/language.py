# SPDX-License-Identifier: Apache-2.0
"""The language half at run time: Y-Encoder, Y-Decoder and the calibrated scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.errors import InputError
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.model.y_decoder import END
from vljepa_ros.stream.answers import yes_among
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


class TextLanguage:
    """Implements `stream.interfaces.Language`. One thread owns it; `check` is for any thread."""

    def __init__(self, net: VLJEPA, tower: TextTower, facts: ModelFacts) -> None:
        self.facts = facts
        self._net, self._tower = net, tower
        self._known: dict[str, NDArray[np.float32]] = {}
        self.calibration: CalibrationConfig = net.config.calibration

    def check(self, text: str) -> None:
        """Raise InputError on an empty text, or one of too many tokens."""
        if not text.strip():
            raise InputError('a text to embed is empty')
        self._tower.tokens([text], self._net.config.y_encoder.max_tokens)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Text embeddings (N, D), unit norm."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text in fresh:
            self.check(text)
        known = self._known | dict(zip(fresh, self._encode(fresh), strict=True))
        # What is watched for and chosen from is asked again and again.
        self._known = dict(list(known.items())[-KNOWN_TEXTS:])
        rows = [known[text][None] for text in texts]
        return np.concatenate([np.zeros((0, self.facts.embedding_dim), np.float32), *rows])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
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

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Candidates with scores, best first; with what `unknown` is left of 1, they sum to 1."""
        if not candidates:
            return []
        score = self._shares(vector, candidates)
        order = np.argsort(-score[: len(candidates)], kind='stable')
        return [Candidate(candidates[i], float(score[i])) for i in order]

    def cannot_tell(self, vector: Vector, candidates: Sequence[str], said: str) -> bool:
        """Whether `unknown` has too much of what it and the candidates, or the words, share."""
        c = self.calibration
        if not c.unknown:
            return False
        if candidates:
            return self.unknown_share(vector, candidates) > c.abstain_above
        return self.unknown_share(vector, [said] if said else []) > c.abstain_words_above

    def unknown_share(self, vector: Vector, texts: Sequence[str]) -> float:
        """The probability that nobody can tell, beside `texts`; needs `calibration.unknown`."""
        against = _competing(texts, self.calibration.unknown)
        return float(self._shares(vector, texts)[against.index(self.calibration.unknown)])

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Scores 0..1 (N,) of vectors (N, D) against one text."""
        cosine = self._checked(vectors) @ self.encode([text])[0]
        c = self.calibration
        score: NDArray[np.float32] = 1 / (1 + np.exp(-(cosine - c.match_centre) / c.match_scale))
        return score

    def _shares(self, vector: Vector, texts: Sequence[str]) -> NDArray[np.float64]:
        """(N,), or (N + 1,) where `unknown` competes: sum 1."""
        against = _competing(texts, self.calibration.unknown)
        cosine = self.encode(against) @ self._checked(vector[None])[0]
        temperature, bias = self._scale(texts)
        logit = cosine.astype(np.float64) / temperature
        if self.calibration.unknown:
            logit[against.index(self.calibration.unknown)] += bias
        if (yes := yes_among(texts)) is not None:
            logit[yes] += self.calibration.yes_bias
        score = np.exp(logit - logit.max())
        shares: NDArray[np.float64] = score / score.sum()
        return shares

    def _scale(self, candidates: Sequence[str]) -> tuple[float, float]:
        """Temperature, and what is added to the logit of `unknown`."""
        c = self.calibration
        if c.yes_no_temperature and yes_among(candidates) is not None:
            return c.yes_no_temperature, c.yes_no_unknown_bias
        return c.rank_temperature, c.unknown_bias

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

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        dim = self.facts.embedding_dim
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise InputError(f'vectors of shape {vectors.shape} do not match the model (N, {dim})')
        if not np.isfinite(vectors).all():
            raise InputError('a vector holds a value that is not finite')
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _competing(texts: Sequence[str], unknown: str) -> list[str]:
    """What shares a probability of 1."""
    return [*texts] if not unknown or unknown in texts else [*texts, unknown]


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
