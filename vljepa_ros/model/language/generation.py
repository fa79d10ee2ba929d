# SPDX-License-Identifier: Apache-2.0
"""Text generation: decodes vectors with a Y-Decoder and scores the texts of the beam search.

A hypothesis is a text that the beam search returns.

Shapes: N vectors, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Candidate, Decoded, Vector
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.language.y_decoder import END, YDecoder

BATCH = 64  # vectors per forward pass
UNREAD = -1.0  # cosine of a hypothesis that is too long to embed
ALONE = 5.0  # margin of the only hypothesis; also the upper limit of every margin


@dataclass(frozen=True)
class Hypothesis:
    """A text that the Y-Decoder generates for a vector, with the inputs of its confidence.

    `log_probability`: mean log-probability of the text's tokens. `margin`: difference between this
    mean and the highest mean of the other hypotheses, limited to -ALONE..ALONE. `cosine`: cosine
    of the vector and the embedding of the text; 0 if cosines were not requested, `UNREAD` if the
    text cannot be embedded.
    """

    text: str
    log_probability: float
    margin: float
    cosine: float

    @property
    def words(self) -> int:
        """Number of words of the text."""
        return len(self.text.split())


class TextGenerator:
    """Generates texts for vectors with a Y-Decoder and its tokenizer.

    `text_of` converts ids of the tokenizer to a text.
    """

    def __init__(self, decoder: YDecoder, text_of: Callable[[Sequence[int]], str]) -> None:
        self._decoder, self._text_of = decoder, text_of

    @torch.inference_mode()
    def hypotheses(
        self, vectors: NDArray[np.float32], space: TextSpace, cosines: bool = True
    ) -> list[list[Hypothesis]]:
        """Generate the hypotheses of each vector by beam search, without duplicates, best first.

        They are ordered by the cosine of their embeddings and the vector, because this order is
        more accurate than the order by probability.

        Args:
            vectors: Input of the Y-Decoder (N, D).
            space: Text side that embeds the hypotheses.
            cosines: If false, no text is embedded, all cosines are 0, and hypotheses are ordered
                by their mean log-probability.
        """
        weight = self._decoder.token.weight
        found: list[list[Hypothesis]] = []
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            tokens, score = self._decoder.generate(
                torch.from_numpy(part).to(weight.device, weight.dtype)
            )
            beams = zip(tokens.tolist(), score.tolist(), strict=True)
            texts = [self._texts(*beam) for beam in beams]
            known = _embedded({t for row in texts for t in row}, space) if cosines else None
            rows = [_hypotheses(row, v, known) for row, v in zip(texts, part, strict=True)]
            found += [sorted(row, key=lambda one: -one.cosine) for row in rows]
        return found

    def _texts(self, beams: list[list[int]], scores: list[float]) -> dict[str, float]:
        """Return the distinct texts of one vector's beams with their mean log-probabilities.

        Args:
            beams: Local token ids of each beam, best first.
            scores: Mean log-probability of each beam.
        """
        texts: dict[str, float] = {}
        for beam, score in zip(beams, scores, strict=True):
            text = self._text(beam)
            if text and np.isfinite(score) and text not in texts:
                texts[text] = score
        return texts

    def _text(self, tokens: list[int]) -> str:
        sentence = tokens[: tokens.index(END)] if END in tokens else tokens
        return self._text_of(self._decoder.token_ids[sentence].tolist()) if sentence else ''


def decoded(
    hypotheses: Sequence[Hypothesis], vector: Vector, space: TextSpace, asked: bool = False
) -> Decoded:
    """Convert the hypotheses of one vector to a decoded text with calibrated confidences.

    Args:
        hypotheses: Hypotheses, best first; without any, the text is empty with confidence 0.
        vector: The decoded vector (D,).
        space: Text side whose calibration is used.
        asked: Whether the text answers a question, which has a calibration of its own.
    """
    weight = space.calibration.words(asked)
    bias = weight.bias + (float(vector @ np.array(weight.direction)) if weight.direction else 0.0)

    def confidence(one: Hypothesis) -> float:
        logit = weight.slope * one.log_probability + weight.margin * one.margin + bias
        logit += weight.cosine * one.cosine + weight.words * one.words
        return float(1 / (1 + np.exp(-logit)))

    if not hypotheses:
        return Decoded('', 0.0)
    best, *others = (Candidate(one.text, confidence(one)) for one in hypotheses)
    return Decoded(best.text, best.score, tuple(others))


def _embedded(texts: set[str], space: TextSpace) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings of texts, without the texts that are too long for the Y-Encoder."""
    valid = []
    for text in sorted(texts):
        try:
            space.check(text)
            valid.append(text)
        except InputError:
            pass
    return dict(zip(valid, space.encode(valid), strict=True))


def _hypotheses(
    texts: dict[str, float], vector: Vector, known: dict[str, NDArray[np.float32]] | None
) -> list[Hypothesis]:
    found = []
    for text, score in texts.items():
        others = [other for name, other in texts.items() if name != text]
        margin = min(max(score - max(others), -ALONE), ALONE) if others else ALONE
        cosine = 0.0
        if known is not None:
            cosine = float(vector @ known[text]) if text in known else UNREAD
        found.append(Hypothesis(text, score, margin, cosine))
    return found
