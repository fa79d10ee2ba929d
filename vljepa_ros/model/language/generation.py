# SPDX-License-Identifier: Apache-2.0
"""Vectors -> words: a Y-Decoder's beams as texts, and how far each may be believed.

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

BATCH = 64  # vectors a forward pass
UNREAD = -1.0  # the cosine of a text that is too long to be read again
ALONE = 5.0  # the margin of a text that no other beam competes with; none counts for more


@dataclass(frozen=True)
class Said:
    """A text of the Y-Decoder for one vector, and what tells whether it is right.

    `log_probability`: the mean of its tokens. `margin`: how far that is above the best of the
    other texts, -ALONE..ALONE. `cosine`: of the vector to the text's own embedding, 0 where that
    was not asked for, -1 where it has none.
    """

    text: str
    log_probability: float
    margin: float
    cosine: float

    @property
    def words(self) -> int:
        """How many it has."""
        return len(self.text.split())


class Speaker:
    """A Y-Decoder with the tokenizer that its ids are of (`text_of`)."""

    def __init__(self, decoder: YDecoder, text_of: Callable[[Sequence[int]], str]) -> None:
        self._decoder, self._text_of = decoder, text_of

    @torch.inference_mode()
    def said(
        self, vectors: NDArray[np.float32], space: TextSpace, cosines: bool = True
    ) -> list[list[Said]]:
        """The different texts of the beams for each of (N, D) vectors.

        First comes the text whose own embedding is nearest to the vector: the Y-Encoder knows
        better than the decoder's probabilities which of its texts is meant. Without `cosines` no
        text is embedded, they are 0, and the likeliest comes first.
        """
        weight = self._decoder.token.weight
        found: list[list[Said]] = []
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            tokens, score = self._decoder.generate(
                torch.from_numpy(part).to(weight.device, weight.dtype)
            )
            beams = zip(tokens.tolist(), score.tolist(), strict=True)
            texts = [self._texts(*beam) for beam in beams]
            known = _embedded({t for row in texts for t in row}, space) if cosines else None
            rows = [_said(row, v, known) for row, v in zip(texts, part, strict=True)]
            found += [sorted(row, key=lambda said: -said.cosine) for row in rows]
        return found

    def _texts(self, beams: list[list[int]], scores: list[float]) -> dict[str, float]:
        """The beams' texts with their mean log-probabilities, the best of each text."""
        texts: dict[str, float] = {}
        for beam, score in zip(beams, scores, strict=True):
            text = self._text(beam)
            if text and np.isfinite(score) and text not in texts:
                texts[text] = score
        return texts

    def _text(self, tokens: list[int]) -> str:
        kept = tokens[: tokens.index(END)] if END in tokens else tokens
        return self._text_of(self._decoder.token_ids[kept].tolist()) if kept else ''


def decoded(
    said: Sequence[Said], vector: Vector, space: TextSpace, asked: bool = False
) -> Decoded:
    """A vector's texts with confidences, as `space` was calibrated."""
    weigh = space.calibration.words(asked)
    bias = weigh.bias + (float(vector @ np.array(weigh.direction)) if weigh.direction else 0.0)

    def confidence(one: Said) -> float:
        logit = weigh.slope * one.log_probability + weigh.margin * one.margin + bias
        logit += weigh.cosine * one.cosine + weigh.words * one.words
        return float(1 / (1 + np.exp(-logit)))

    if not said:
        return Decoded('', 0.0)
    best, *others = (Candidate(one.text, confidence(one)) for one in said)
    return Decoded(best.text, best.score, tuple(others))


def _embedded(texts: set[str], space: TextSpace) -> dict[str, NDArray[np.float32]]:
    """Embeddings of those texts that have one: a decoder may say more than is read."""
    kept = []
    for text in sorted(texts):
        try:
            space.check(text)
            kept.append(text)
        except InputError:
            pass
    return dict(zip(kept, space.encode(kept), strict=True))


def _said(
    texts: dict[str, float], vector: Vector, known: dict[str, NDArray[np.float32]] | None
) -> list[Said]:
    found = []
    for text, score in texts.items():
        others = [other for name, other in texts.items() if name != text]
        margin = min(max(score - max(others), -ALONE), ALONE) if others else ALONE
        cosine = 0.0
        if known is not None:
            cosine = float(vector @ known[text]) if text in known else UNREAD
        found.append(Said(text, score, margin, cosine))
    return found
