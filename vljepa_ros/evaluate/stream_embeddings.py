# SPDX-License-Identifier: Apache-2.0
"""A stream as its embeddings: computed once, then arrays.

Vectors are (T, D) float32 of unit norm, one a hop; stamps (T,) int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.types import Embedding, Frame
from vljepa_ros.core.vectors import unit
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.views import Vectors, frames_of
from vljepa_ros.stream.perceiver import Perceiver

Stamps = NDArray[np.int64]
Indices = NDArray[np.int64]
SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Hops:
    """Embeddings (T, D) and their stamps (T,): newest frames, from the stream's start, rising."""

    vectors: Vectors
    stamps_ns: Stamps

    @property
    def seconds(self) -> float:
        """How long is looked at: a hop's usual length for each."""
        if len(self.stamps_ns) < 2:
            return 0.0
        return len(self.stamps_ns) * float(np.median(np.diff(self.stamps_ns))) / SECOND_NS

    def pooled(self, members: Indices) -> Vectors:
        """The mean (D,) of some, unit norm."""
        return unit(self.vectors[members].mean(axis=0))

    def not_before(self, at_s: Sequence[float]) -> Indices:
        """Of each time in seconds the first hop that is not before it, or the last."""
        at_ns = [round(at * SECOND_NS) for at in at_s]
        return np.searchsorted(self.stamps_ns, at_ns).clip(max=len(self.stamps_ns) - 1)

    def within(self, start_s: float, end_s: float) -> Indices:
        """The hops of a span, its end not included; of one without, the hop nearest to it."""
        start_ns, end_ns = round(start_s * SECOND_NS), round(end_s * SECOND_NS)
        first, last = np.searchsorted(self.stamps_ns, [start_ns, end_ns])
        if first == last:
            return nearest(self.stamps_ns, np.array([(start_ns + end_ns) // 2]))
        return np.arange(first, last)


def nearest(stamps_ns: Stamps, times_ns: Stamps) -> Indices:
    """(A,) the nearest stamp to each time; of those as near, the earliest, and the first of it.

    Stamps need no order: an update may be of older hops than the change that was told before it.
    """
    order = np.argsort(stamps_ns, kind='stable')
    stamps_ns = stamps_ns[order]
    after = np.searchsorted(stamps_ns, times_ns).clip(max=len(stamps_ns) - 1)
    before = (after - 1).clip(min=0)
    is_earlier = np.abs(times_ns - stamps_ns[before]) <= np.abs(times_ns - stamps_ns[after])
    found = stamps_ns[np.where(is_earlier, before, after)]
    return order[np.searchsorted(stamps_ns, found)]


def hops_of(vision: Vision, stream: Stream) -> Hops:
    """All embeddings of a stream to the default prompt, by the run-time path."""
    perceiver, start_ns = Perceiver(vision), int(stream.stamps_ns()[0])
    return gathered(
        (
            embedding
            for stamp_ns, image in zip(stream.stamps_ns(), frames_of(stream), strict=True)
            for embedding in perceiver.push(Frame(int(stamp_ns), image))
        ),
        start_ns,
    )


def gathered(embeddings: Iterable[Embedding], start_ns: int) -> Hops:
    """Embeddings of one stream, with stamps from `start_ns` on."""
    found = list(embeddings)
    vectors = np.array([e.vector for e in found], np.float32)
    return Hops(vectors, np.array([e.stamp_ns - start_ns for e in found], np.int64))
