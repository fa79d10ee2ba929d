# SPDX-License-Identifier: Apache-2.0
"""State of one stream in change detection: its open segment, and merge costs of new embeddings.

Shapes: D = `embedding_dim`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.settings import LONGEST_RUN
from vljepa_ros.core.types import Change, Embedding, StreamKey, Vector
from vljepa_ros.core.vectors import as_sent, unit

NOISE, NOISE_RATE = 0.01, 0.02  # initial variance, and the weight of one embedding in its update
OUTLIER = 4.0  # the contribution of one embedding is clipped at this many variances
LEAST_NOISE = 1e-9  # variance of a constant stream due to rounding
LAST = 4  # number of embeddings that represent the end of a segment

Vector64 = NDArray[np.float64]


class SegmentHop(NamedTuple):
    """One embedding of a segment: stamp, vector (D,) of unit norm, and `unfamiliar`, 0..1."""

    stamp_ns: int
    vector: Vector64
    unfamiliar: float

    @classmethod
    def of(cls, embedding: Embedding) -> SegmentHop:
        """Create a hop from an embedding; the vector is normalized in float64."""
        vector = unit(embedding.vector.astype(np.float64))
        return cls(embedding.stamp_ns, vector, embedding.unfamiliar)


@dataclass
class StreamState:
    """Open segment of one stream: the sum of its settled vectors, and its newest hops.

    `run` contains up to `longest` newest hops, which can still become part of a new segment.
    Vectors of earlier hops are settled: `settled` is their sum, `newest_settled` the last few of
    them. `noise`: moving average of the squared distance of a newly settled vector from the mean
    of those settled before it; a new segment inherits it. `published`: the vector that was last
    published for decoding. `strictness` multiplies the thresholds to meet the event budget.
    """

    key: StreamKey
    reset_count: int
    segment_id: int
    start_ns: int
    newest_ns: int
    settled: Vector64
    run: list[SegmentHop]
    longest: int
    noise: float = NOISE
    strictness: float = 1.0
    count: int = 0  # number of settled vectors
    settled_unfamiliar: float = 0.0  # sum over settled vectors
    published_unfamiliar: float = 0.0  # mean at the time of `published`
    published: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    newest_settled: deque[Vector64] = field(default_factory=lambda: deque(maxlen=LAST))
    hop_ns: int = 0  # time between the newest two embeddings
    opened: Change | None = None  # the opening change, without the previous segment

    def total(self) -> Vector64:
        """Return the sum (D,) of the segment's vectors."""
        return self.settled + sum(hop.vector for hop in self.run)

    def mean(self) -> Vector:
        """Return the segment's pooled vector (D,), of unit norm."""
        return np.asarray(unit(self.total()), dtype=np.float32)

    def unfamiliar(self) -> float:
        """Return the mean of `unfamiliar` over the segment's hops, 0..1."""
        total = self.settled_unfamiliar + sum(hop.unfamiliar for hop in self.run)
        return as_sent(total / (self.count + len(self.run)))

    def settled_mean(self) -> tuple[Vector, float] | None:
        """Return the pooled vector and mean `unfamiliar` of all but the newest `LONGEST_RUN` hops.

        Returns None if the segment has no other hops.
        """
        earlier = self.run[:-LONGEST_RUN]
        if not self.count and not earlier:
            return None
        total = self.settled + sum(hop.vector for hop in earlier)
        unfamiliar = self.settled_unfamiliar + sum(hop.unfamiliar for hop in earlier)
        mean = np.asarray(unit(total), np.float32)
        return mean, as_sent(unfamiliar / (self.count + len(earlier)))

    def ending(self) -> Vector:
        """Return the pooled vector (D,) of the newest `LAST` hops, of unit norm."""
        newest = [*self.newest_settled, *(hop.vector for hop in self.run)][-LAST:]
        return np.asarray(unit(np.sum(newest, axis=0)), dtype=np.float32)

    def add(self, hop: SegmentHop) -> None:
        """Add a hop; if `run` is then longer than `longest`, its oldest hop becomes settled."""
        self.run.append(hop)
        self.hop_ns, self.newest_ns = hop.stamp_ns - self.newest_ns, hop.stamp_ns
        if len(self.run) > self.longest:
            _, oldest, unfamiliar = self.run.pop(0)
            self.settled_unfamiliar += unfamiliar
            if self.count:
                off = float(((oldest - self.settled / self.count) ** 2).sum())
                off = min(max(off, LEAST_NOISE), OUTLIER * self.noise + NOISE)
                self.noise += NOISE_RATE * (off - self.noise)
            self.settled, self.count = self.settled + oldest, self.count + 1
            self.newest_settled.append(oldest)

    def costs(self, least: int) -> Vector64:
        """Return the costs of keeping the newest k embeddings in the segment, for k from `least`.

        A cost is Ward's criterion, n k / (n + k) times the squared distance between the means of
        these k and of the n earlier embeddings, minus `noise`. It is 0 if one of the newest
        `least` embeddings is nearer to the earlier mean than to the newer one, so that outliers
        and reverted changes start no segment. At least one earlier embedding must remain.
        """
        newest = np.array([hop.vector for hop in reversed(self.run)])
        k = np.arange(least, min(len(newest), self.count + len(newest) - 1) + 1)
        n = self.count + len(newest) - k
        runs = newest.cumsum(axis=0)[k - 1]
        before, run = (self.total() - runs) / n[:, None], runs / k[:, None]
        cost = n * k / (n + k) * _squared(before - run) - self.noise
        off, own = (_squared(newest[:least, None] - mean) for mean in (before, run))
        found: Vector64 = np.where((own < off).all(axis=0), cost, 0.0)
        return found


def _squared(vectors: Vector64) -> Vector64:
    """Return the squared norms (...) of vectors (..., D)."""
    return np.asarray((vectors**2).sum(axis=-1))
