# SPDX-License-Identifier: Apache-2.0
"""Cached decoding of embeddings to texts, and texts of the oracle and vision-blind baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vljepa_ros.core.protocols import Language, ModelFacts
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.core.types import Decoded
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.views import Vectors, blind_answers

BATCH = 128  # vectors


class CachedDecoder:
    """Y-Decoder that caches the text of each distinct vector."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._cache: dict[bytes, Decoded] = {}

    @property
    def facts(self) -> ModelFacts:
        """Return the properties of the decoding model."""
        return self._language.facts

    @property
    def decoded(self) -> int:
        """Return the number of distinct vectors decoded so far."""
        return len(self._cache)

    def texts(self, vectors: Vectors) -> list[str]:
        """Return the N decoded texts of vectors (N, D)."""
        return [decoded.text for decoded in self.decode(vectors)]

    def decode(self, vectors: Vectors) -> list[Decoded]:
        """Decode vectors (N, D) as `Language.decode` does; uncached vectors form one batch."""
        keys = [vector.tobytes() for vector in vectors]
        fresh = {k: v for k, v in zip(keys, vectors, strict=True) if k not in self._cache}
        if fresh:
            decoded = self._language.decode(np.stack(list(fresh.values())))
            self._cache |= dict(zip(fresh, decoded, strict=True))
        return [self._cache[key] for key in keys]


def decode_all(
    context: Context, vectors: Vectors, name: str, asked: bool = False
) -> list[Decoded]:
    """Decode vectors (N, D) as `Language.decode` does, equal vectors only once; report progress.

    Args:
        context: Model and progress reporting.
        vectors: Embeddings (N, D).
        name: Name of the progress bar.
        asked: Whether the vectors answer questions (see `Language.decode`).
    """
    keys = [vector.tobytes() for vector in vectors]
    distinct = dict(zip(keys, vectors, strict=True))
    rows = list(distinct.values())
    parts = [(np.stack(rows[i : i + BATCH]), asked) for i in range(0, len(rows), BATCH)]
    found = [decoded for part in context.map(_decode, parts, name) for decoded in part]
    known = dict(zip(distinct, found, strict=True))
    return [known[key] for key in keys]


def _decode(context: Context, part: tuple[Vectors, bool]) -> list[Decoded]:
    return context.language.decode(*part)


def decoder_of(context: Context) -> CachedDecoder:
    """Return the cached decoder that all suites of a context share."""
    return context.once('words', lambda: CachedDecoder(context.language))


def oracle_texts(context: Context, meanings: Sequence[str]) -> list[str]:
    """Return the text decoded from the text embedding of each concept in `meanings`."""
    centroids = [context.centroid(meaning) for meaning in meanings]
    return decoder_of(context).texts(np.stack(centroids)) if centroids else []


def blind_text(context: Context) -> str:
    """Return the text decoded from the vision-blind answer to the default prompt."""
    prompts = PerceptionSettings().prompts
    return decoder_of(context).texts(blind_answers(context.vision, prompts))[0]
