# SPDX-License-Identifier: Apache-2.0
"""Embeddings of a whole stream as arrays, computed once.

Vectors are (T, D) float32 of unit norm, one per hop; stamps are (T,) int64 nanoseconds.
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
class StreamEmbeddings:
    """Embeddings (T, D) of a stream and the increasing stamps (T,) of their newest frames.

    Stamps are relative to the start of the stream.
    """

    vectors: Vectors
    stamps_ns: Stamps

    @property
    def seconds(self) -> float:
        """Return the duration in seconds: the number of hops times the median hop interval."""
        if len(self.stamps_ns) < 2:
            return 0.0
        return len(self.stamps_ns) * float(np.median(np.diff(self.stamps_ns))) / SECOND_NS

    def pooled(self, members: Indices) -> Vectors:
        """Return the mean (D,) of the vectors at the indices `members`, of unit norm."""
        return unit(self.vectors[members].mean(axis=0))

    def not_before(self, at_s: Sequence[float]) -> Indices:
        """Return the index of the first hop at or after each time (s), or else of the last hop."""
        at_ns = [round(at * SECOND_NS) for at in at_s]
        return np.searchsorted(self.stamps_ns, at_ns).clip(max=len(self.stamps_ns) - 1)

    def within(self, start_s: float, end_s: float) -> Indices:
        """Return the indices of hops in [start_s, end_s); if none, the hop nearest the middle."""
        start_ns, end_ns = round(start_s * SECOND_NS), round(end_s * SECOND_NS)
        first, last = np.searchsorted(self.stamps_ns, [start_ns, end_ns])
        if first == last:
            return nearest(self.stamps_ns, np.array([(start_ns + end_ns) // 2]))
        return np.arange(first, last)


def nearest(stamps_ns: Stamps, times_ns: Stamps) -> Indices:
    """Return the indices (A,) of the stamps nearest to A times; ties go to the earliest stamp.

    Stamps need not be sorted: an update can have an older stamp than the change before it.
    """
    order = np.argsort(stamps_ns, kind='stable')
    stamps_ns = stamps_ns[order]
    after = np.searchsorted(stamps_ns, times_ns).clip(max=len(stamps_ns) - 1)
    before = (after - 1).clip(min=0)
    is_earlier = np.abs(times_ns - stamps_ns[before]) <= np.abs(times_ns - stamps_ns[after])
    found = stamps_ns[np.where(is_earlier, before, after)]
    return order[np.searchsorted(stamps_ns, found)]


def hops_of(vision: Vision, stream: Stream) -> StreamEmbeddings:
    """Return all embeddings of a stream for the default prompt, computed as at run time."""
    perceiver, start_ns = Perceiver(vision), int(stream.stamps_ns()[0])
    return gathered(
        (
            embedding
            for stamp_ns, image in zip(stream.stamps_ns(), frames_of(stream), strict=True)
            for embedding in perceiver.push(Frame(int(stamp_ns), image))
        ),
        start_ns,
    )


def gathered(embeddings: Iterable[Embedding], start_ns: int) -> StreamEmbeddings:
    """Return the embeddings of one stream as arrays, with stamps relative to `start_ns`."""
    found = list(embeddings)
    vectors = np.array([e.vector for e in found], np.float32)
    return StreamEmbeddings(vectors, np.array([e.stamp_ns - start_ns for e in found], np.int64))
