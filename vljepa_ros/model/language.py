# SPDX-License-Identifier: Apache-2.0
"""The language half at run time: Y-Encoder, Y-Decoder and the calibrated scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.errors import InputError
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.model.y_decoder import END
from vljepa_ros.stream.interfaces import ModelFacts
from vljepa_ros.stream.types import Candidate, Decoded, Vector

KNOWN_TEXTS = 1024  # whose embeddings are kept
BATCH = 64  # texts or vectors a forward pass: bounds memory for 1,000 candidates


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

    @torch.inference_mode()
    def decode(self, vectors: NDArray[np.float32]) -> list[Decoded]:
        """Words for each of (N, D) vectors."""
        vectors = self._checked(vectors)
        decoder = self._net.y_decoder
        dtype = next(decoder.parameters()).dtype
        decoded: list[Decoded] = []
        for start in range(0, len(vectors), BATCH):
            batch = torch.from_numpy(vectors[start : start + BATCH]).to(self._tower.device, dtype)
            tokens, score = decoder.generate(batch)
            for beams, scores in zip(tokens.tolist(), score.tolist(), strict=True):
                decoded.append(self._sentence(beams, scores))
        return decoded

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Candidates with scores that sum to 1, best first."""
        if not candidates:
            return []
        cosine = self.encode(candidates) @ self._checked(vector[None])[0]
        logit = cosine.astype(np.float64) / self.calibration.rank_temperature
        score = np.exp(logit - logit.max())
        score /= score.sum()
        order = np.argsort(-score, kind='stable')
        return [Candidate(candidates[i], float(score[i])) for i in order]

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Scores 0..1 (N,) of vectors (N, D) against one text."""
        cosine = self._checked(vectors) @ self.encode([text])[0]
        c = self.calibration
        score: NDArray[np.float32] = 1 / (1 + np.exp(-(cosine - c.match_centre) / c.match_scale))
        return score

    def _sentence(self, beams: list[list[int]], scores: list[float]) -> Decoded:
        texts: dict[str, float] = {}
        for beam, score in zip(beams, scores, strict=True):
            text = self._text(beam)
            if text and np.isfinite(score) and text not in texts:
                texts[text] = self._confidence(score)
        if not texts:
            return Decoded('', 0.0)
        (best, confidence), *others = texts.items()
        return Decoded(best, confidence, tuple(Candidate(t, s) for t, s in others))

    def _confidence(self, mean_log_probability: float) -> float:
        c = self.calibration
        return float(1 / (1 + np.exp(-(c.decode_slope * mean_log_probability + c.decode_bias))))

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
