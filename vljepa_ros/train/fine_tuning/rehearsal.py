# SPDX-License-Identifier: Apache-2.0
"""Rehearsal data of a starting model, obtained without its training data: sentences and questions.

The Y-Decoder decodes random vectors into sentences that resemble its training data. A sentence is
known if the decoder reproduces it from the sentence's embedding.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.questions import CAPTION, TOPICS, prompts
from vljepa_ros.model.streaming.text import TextLanguage

VECTORS = 320  # default number of random vectors


def known_sentences(language: TextLanguage, seed: int, vectors: int = VECTORS) -> list[str]:
    """Return sentences that the model reproduces exactly from their embeddings, if any.

    Args:
        language: Text side of the model.
        seed: Seed of the random vectors.
        vectors: Number of random vectors.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(vectors, language.facts.embedding_dim)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    first = [text for text in _decode(language, drawn) if text and _is_valid(language, text)]
    texts = list(dict.fromkeys(first))
    second = _decode(language, language.encode(texts)) if texts else []
    return [text for text, other in zip(texts, second, strict=True) if text == other]


def known_prompts(left_out: Collection[str]) -> list[str]:
    """Return questions that apply to any scene, except those in `left_out` (ignoring case)."""
    excluded = {prompt.casefold() for prompt in left_out}
    found = [text for topic in TOPICS if topic != CAPTION for text in prompts(topic)]
    return [text for text in found if text.casefold() not in excluded]


def _decode(language: TextLanguage, vectors: np.ndarray) -> list[str]:
    """Return the most probable text of each vector (N, D); '' if no text is decoded."""
    return [row[0].text if row else '' for row in language.hypotheses(vectors, cosines=False)]


def _is_valid(language: TextLanguage, text: str) -> bool:
    """Return whether the Y-Encoder can embed a text: it is neither empty nor too long."""
    try:
        language.check(text)
    except InputError:
        return False
    return True
