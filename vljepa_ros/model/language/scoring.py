# SPDX-License-Identifier: Apache-2.0
"""Calibrated scores of texts for predicted vectors, shared by the text sides of all models.

Subclasses of `TextSpace` define how texts are embedded. Rankings, similarities and abstentions are
computed from cosines with the formulas of `CalibrationConfig`.

Shapes: N texts or vectors, D embedding_dim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.text import yes_among
from vljepa_ros.core.types import Candidate, Vector
from vljepa_ros.model.config import CalibrationConfig

KNOWN_TEXTS = 2048  # size of the cache of text embeddings (the least recently used are dropped)


class TextSpace(ABC):
    """Base class of text sides: implements `core.protocols.Language` except `decode`.

    Subclasses also implement `check` and `_embed`.
    """

    def __init__(self, facts: ModelFacts, calibration: CalibrationConfig) -> None:
        """Store the model's constants and its calibration.

        Raises:
            ModelError: The calibration is for vectors of another dimension.
        """
        for name in ('decode_direction', 'answer_direction'):
            length = len(getattr(calibration, name))
            if length not in (0, facts.embedding_dim):
                raise ModelError(
                    f'calibration.{name} has {length} numbers, but the vectors of the model have '
                    f'{facts.embedding_dim}: calibrate the model again'
                )
        self.facts = facts
        self.calibration = calibration
        self._known: dict[str, NDArray[np.float32]] = {}

    @abstractmethod
    def check(self, text: str) -> None:
        """Raise InputError if a text is empty or has too many tokens."""

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N texts, which `check` has accepted, as unit vectors (N, D), without a cache."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed N texts as unit vectors (N, D); embeddings are cached.

        Raises:
            InputError: A text is empty or has too many tokens.
        """
        uncached = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text in uncached:
            self.check(text)
        known = self._known  # watch conditions and candidates are embedded repeatedly
        if uncached:
            known |= dict(zip(uncached, self._embed(uncached), strict=True))
        found = {text: known.pop(text) for text in dict.fromkeys(texts)}
        known |= found
        while len(known) > KNOWN_TEXTS:
            del known[next(iter(known))]
        rows = [found[text][None] for text in texts]
        return np.concatenate([np.zeros((0, self.facts.embedding_dim), np.float32), *rows])

    def rank(self, vector: Vector, candidates: Sequence[str]) -> list[Candidate]:
        """Return the candidates with their calibrated scores, best first.

        The scores are probabilities. The probabilities of all candidates and, if it is not empty,
        of `calibration.unknown` sum to 1.

        Args:
            vector: Predicted answer embedding (D,).
            candidates: Texts to rank.
        """
        if not candidates:
            return []
        score = self._shares(vector, candidates)
        order = np.argsort(-score[: len(candidates)], kind='stable')
        return [Candidate(candidates[i], float(score[i])) for i in order]

    def unreadable(self, text: str) -> float:
        """Return 0.0: this model has no detector of unreadable texts."""
        return 0.0

    def is_unanswerable(self, vector: Vector, candidates: Sequence[str], text: str) -> bool:
        """Return whether to abstain, because "cannot tell" is too probable an answer.

        The text that means "cannot tell" is `calibration.unknown`; if it is empty, the model does
        not abstain.

        Args:
            vector: Predicted answer embedding (D,).
            candidates: Candidates of the question; may be empty.
            text: Decoded text, which is the only candidate if `candidates` is empty.
        """
        c = self.calibration
        if not c.unknown:
            return False
        if candidates:
            return self.unknown_share(vector, candidates) > c.abstain_above
        return self.unknown_share(vector, [text] if text else []) > c.abstain_words_above

    def unknown_share(self, vector: Vector, texts: Sequence[str]) -> float:
        """Return the probability that "cannot tell" is the answer if it competes with `texts`.

        The text that means "cannot tell" is `calibration.unknown`.

        Args:
            vector: Predicted answer embedding (D,).
            texts: Candidates of the question, or its decoded answer.

        Raises:
            ValueError: `calibration.unknown` is empty.
        """
        competing = _competing(texts, self.calibration.unknown)
        return float(self._shares(vector, texts)[competing.index(self.calibration.unknown)])

    def similarity(self, vectors: NDArray[np.float32], text: str) -> NDArray[np.float32]:
        """Return calibrated scores (N,), 0..1, of predicted vectors (N, D) for one text."""
        return self.match(self._checked(vectors) @ self.encode([text])[0])

    def match(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert cosines of any shape to calibrated scores, 0..1, of single texts."""
        c = self.calibration
        score: NDArray[np.float32] = 1 / (1 + np.exp(-(cosines - c.match_centre) / c.match_scale))
        return score

    def _shares(self, vector: Vector, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities, which sum to 1, of the N texts and of `calibration.unknown`.

        The shape is (N + 1,), or (N,) if `calibration.unknown` is empty or one of the texts.
        """
        competing = _competing(texts, self.calibration.unknown)
        cosine = self.encode(competing) @ self._checked(vector[None])[0]
        temperature, bias = self._scale(texts)
        logit = cosine.astype(np.float64) / temperature
        if self.calibration.unknown:
            logit[competing.index(self.calibration.unknown)] += bias
        if (yes := yes_among(texts)) is not None:
            logit[yes] += self.calibration.yes_bias
        score = np.exp(logit - logit.max())
        shares: NDArray[np.float64] = score / score.sum()
        return shares

    def _scale(self, candidates: Sequence[str]) -> tuple[float, float]:
        """Return the softmax temperature and the bias of `unknown`'s logit for the candidates."""
        c = self.calibration
        if c.yes_no_temperature and yes_among(candidates) is not None:
            return c.yes_no_temperature, c.yes_no_unknown_bias
        return c.rank_temperature, c.unknown_bias

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        dim = self.facts.embedding_dim
        if vectors.ndim != 2 or vectors.shape[1] != dim:
            raise InputError(f'vectors of shape {vectors.shape} do not match the model (N, {dim})')
        if not np.isfinite(vectors).all():
            raise InputError('a vector contains a value that is not finite')
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _competing(texts: Sequence[str], unknown: str) -> list[str]:
    """Return the candidates of the softmax: the texts, and `unknown` if it is another text."""
    return [*texts] if not unknown or unknown in texts else [*texts, unknown]
