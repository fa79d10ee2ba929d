# SPDX-License-Identifier: Apache-2.0
"""What a model knew before: sentences that it says, and questions, both without its training data.

Words that it may use are all in the Y-Decoder. Put to random vectors it says what it was taught;
what it says again of that sentence's own embedding is a sentence that it stands by.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.simulators.mwstream.questions import TOPICS, prompts
from vljepa_ros.model.streaming.text import TextLanguage

VECTORS = 320


def known_sentences(language: TextLanguage, seed: int, vectors: int = VECTORS) -> list[str]:
    """Sentences that the model says of their own embeddings; none where it never does."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(vectors, language.facts.embedding_dim)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    first = [text for text in _said(language, drawn) if text and _is_read(language, text)]
    texts = list(dict.fromkeys(first))
    again = _said(language, language.encode(texts)) if texts else []
    return [text for text, other in zip(texts, again, strict=True) if text == other]


def known_prompts(left_out: Collection[str]) -> list[str]:
    """Questions that can be asked of any scene, but those that people asked themselves."""
    asked = {prompt.casefold() for prompt in left_out}
    found = [text for topic in TOPICS[1:] for text in prompts(topic) if '{' not in text]
    return [text for text in found if text.casefold() not in asked]


def _said(language: TextLanguage, vectors: np.ndarray) -> list[str]:
    """The likeliest text of each vector; '' where there is none."""
    return [row[0].text if row else '' for row in language.said(vectors, cosines=False)]


def _is_read(language: TextLanguage, text: str) -> bool:
    """Whether the Y-Encoder takes it."""
    try:
        language.check(text)
    except InputError:
        return False
    return True
