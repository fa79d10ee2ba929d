# SPDX-License-Identifier: Apache-2.0
"""Change detection: a stream of embeddings -> segments of one meaning. Reads no clock.

An online form of the paper's offline rule (arXiv 2512.10942, section 4.3), which joins neighbours
by Ward's criterion. The newest k embeddings, with mean r, stand against the n before them in the
segment, with mean m; keeping them in it costs n k / (n + k) |m - r|^2, of which the stream's own
noise explains one variance. Where more than `change_threshold` is left for some k, a new segment
began with the k-th newest: a great change is told after `confirm_hops`, a small one only if it
lasts. The laws, of which the first that holds counts:

    FIRST    the embedding is the first of its stream
    RESET    the eyes began anew
    MEANING  for some k >= `confirm_hops` the newest k cost more than `change_threshold`, each of
             the newest `confirm_hops` is nearer to them than to the segment, and the segment
             without them is `min_segment` long
    DRIFT    the mean of what is settled is farther than `drift_threshold` from what was last said,
             or its mean `unfamiliar` is on the other side of `WITHHELD`
    END      the stream is over

Before RESET, MEANING and END comes a DRIFT, where the last `LAST` of the segment are so far from
what was said. The hysteresis: it takes the whole cost to leave a segment, and again to come back.

Everything that affects the state of a stream is in `_Stream`, which does not grow. The eyes began
anew where the reset counter changed, or so much was lost that the window no longer reaches back to
the embedding before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import LONGEST_RUN, SegmenterSettings
from vljepa_ros.core.types import (
    WITHHELD,
    Change,
    Embedding,
    Reason,
    Segment,
    StreamKey,
    Vector,
)
from vljepa_ros.core.vectors import as_sent, unit

MAX_STREAMS = 1024  # prompts that change at run time leave streams behind: the oldest ends
MINUTE_NS = 60_000_000_000
ROUNDING = 1e-6  # a cosine distance that means of equal float32 vectors may have
# An event raises the thresholds by this (as a logarithm), what the budget allows lowers them.
RISE = 0.3
OPPOSITE = 4.0  # the squared distance of two opposite unit vectors
NOISE, NOISE_RATE = 0.01, 0.02  # the variance to begin with, and what an embedding weighs in it
OUTLIER = 4.0  # no embedding counts for more than so many variances
LEAST_NOISE = 1e-9  # what rounding makes of a constant stream
# A gap that parts nothing, whatever the windows; nor does one of so many of the distance before.
BRIDGED_NS, BRIDGED_HOPS = 2_000_000_000, 2
LAST = 4  # embeddings that a segment's end is told by

Vector64 = NDArray[np.float64]


class _Hop(NamedTuple):
    """One embedding of a segment; `vector` has unit norm."""

    stamp_ns: int
    vector: Vector64
    unfamiliar: float


@dataclass
class _Stream:
    """One stream's open segment: the sum of what is settled, and at most `longest` newest vectors.

    Of what is settled the newest few are kept as well. `noise`: the variance of vectors in their
    segments, over segments. `said`: what was last put into words. `strictness` multiplies the
    thresholds, to keep to a budget.
    """

    key: StreamKey
    reset_count: int
    segment_id: int
    start_ns: int
    newest_ns: int
    settled: Vector64
    run: list[_Hop]
    longest: int
    noise: float = NOISE
    strictness: float = 1.0
    count: int = 0  # of what is settled
    settled_unfamiliar: float = 0.0  # the sum
    said_unfamiliar: float = 0.0  # the mean, when it was last put into words
    said: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    newest_settled: deque[Vector64] = field(default_factory=lambda: deque(maxlen=LAST))
    hop_ns: int = 0  # between its newest two
    opened: Change | None = None  # what said that it began, without what was before

    def total(self) -> Vector64:
        """The sum of the segment's vectors."""
        return self.settled + sum(hop.vector for hop in self.run)

    def mean(self) -> Vector:
        """The segment's pooled vector, unit norm."""
        return np.asarray(unit(self.total()), dtype=np.float32)

    def unfamiliar(self) -> float:
        """The mean over the segment's hops, 0..1."""
        total = self.settled_unfamiliar + sum(hop.unfamiliar for hop in self.run)
        return as_sent(total / (self.count + len(self.run)))

    def ending(self) -> Vector:
        """The mean of its newest vectors, unit norm."""
        newest = [*self.newest_settled, *(hop.vector for hop in self.run)][-LAST:]
        return np.asarray(unit(np.sum(newest, axis=0)), dtype=np.float32)

    def add(self, hop: _Hop) -> None:
        """One more hop; what is too old to begin a segment is settled."""
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
        """What the newest `least`, `least` + 1, ... embeddings cost in the segment.

        0 where one of the newest `least` is nearer to those before the run: an outlier, or one
        that is over, makes none. None that would leave the segment empty.
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


class Segmenter:
    """Segments any number of streams; ids are unique per stream and session.

    `next_id` is counted on: whoever makes several segmenters in one session gives all the same.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        session_id: str,
        next_id: dict[StreamKey, int] | None = None,
    ) -> None:
        self._settings, self._session_id = settings, session_id
        self._min_segment_ns = round(settings.min_segment_s * 1e9)
        self._streams: dict[StreamKey, _Stream] = {}
        self._next_id = {} if next_id is None else next_id
        self.changes = 0

    def push(self, embedding: Embedding) -> list[Change]:
        """The changes that this embedding settles.

        Raises InputError, the state unchanged: a vector that is none, or of another length; a
        stamp that stands still or goes back without a state reset.
        """
        check_vector(embedding.vector)
        stream = self._streams.get(embedding.key)
        if stream is None:
            return [
                *self._make_room(),
                self._open(embedding, [_member(embedding)], Reason.FIRST, 1.0, None),
            ]
        check_follows(embedding, len(stream.settled), stream.reset_count, stream.newest_ns)
        if begins_anew(embedding, stream.reset_count, stream.newest_ns, stream.hop_ns):
            elapsed_ns = max(embedding.stamp_ns - stream.newest_ns, 0)
            corrected = self._corrected(stream, stream.newest_ns)
            reset = self._open(embedding, [_member(embedding)], Reason.RESET, 1.0, stream)
            self._spend(self._streams[embedding.key], 1 + len(corrected), elapsed_ns)
            return [*corrected, reset]
        elapsed_ns = embedding.stamp_ns - stream.newest_ns
        stream.add(_member(embedding))
        changes = self._changed(stream, embedding) or self._drift(stream, embedding)
        self._spend(self._streams[embedding.key], len(changes), elapsed_ns)
        return changes

    def is_repeated(self, embedding: Embedding) -> bool:
        """Whether it shows no newer frame than the one before: a slow camera's. Not to be pushed.

        A frame that is looked at again confirms nothing.
        """
        stream = self._streams.get(embedding.key)
        return (
            stream is not None
            and stream.reset_count == embedding.reset_count
            and stream.newest_ns == embedding.stamp_ns
        )

    def opened(self) -> list[Change]:
        """What began the open segments, with what was last said of them: for who was not there."""
        return [
            replace(stream.opened, vector=stream.said, unfamiliar=stream.said_unfamiliar)
            for stream in self._streams.values()
            if stream.opened is not None
        ]

    def end(self, which: Callable[[StreamKey], bool] = lambda _: True) -> list[Change]:
        """Close the open streams that `which` picks, or all."""
        ended = [self._close(key) for key in list(self._streams) if which(key)]
        return [change for changes in ended for change in changes]

    def _spend(self, stream: _Stream, events: int, elapsed_ns: int) -> None:
        """Stricter with every event, less so with time: at the budget the two even out.

        As nothing is a change at the highest strictness, no span of time has more events than its
        budget and a fixed number, but for those with which the eyes begin anew; the rule is that
        of an adaptive quantile (Gibbs and Candes, arXiv 2106.00170).
        """
        settings = self._settings
        if not settings.events_per_minute:
            return
        due = settings.events_per_minute * elapsed_ns / MINUTE_NS
        highest = OPPOSITE * settings.longest_run  # what the longest run may cost
        lowest = min(settings.change_threshold / highest, settings.drift_threshold / 2.0)
        stricter = stream.strictness * math.exp(RISE * (events - due))
        stream.strictness = min(max(stricter, 1.0), 1 / lowest)

    def _changed(self, stream: _Stream, embedding: Embedding) -> list[Change]:
        """The change that this embedding confirms: of all runs, the one that costs most."""
        settings, least = self._settings, self._settings.confirm_hops
        allowed = [
            (cost, k)
            for k, cost in enumerate(stream.costs(least).tolist(), least)
            if stream.run[-k].stamp_ns - stream.start_ns >= self._min_segment_ns
        ]
        cost, k = max(allowed, default=(0.0, 0))
        if not k or cost <= settings.change_threshold * stream.strictness:
            return []
        members, stream.run = stream.run[-k:], stream.run[:-k]
        score = _distance(stream.mean(), np.sum([hop.vector for hop in members], axis=0))
        begun = self._open(embedding, members, Reason.MEANING, score, stream)
        return [*self._corrected(stream, embedding.stamp_ns), begun]

    def _drift(self, stream: _Stream, embedding: Embedding) -> list[Change]:
        """What was seen is no longer what was said; the newest may yet begin a segment."""
        earlier = stream.run[:-LONGEST_RUN]
        if not stream.count and not earlier:
            return []
        total = stream.settled + sum(hop.vector for hop in earlier)
        mean = np.asarray(unit(total), np.float32)
        unfamiliar = stream.settled_unfamiliar + sum(hop.unfamiliar for hop in earlier)
        unfamiliar = as_sent(unfamiliar / (stream.count + len(earlier)))
        turned = (unfamiliar >= WITHHELD) != (stream.said_unfamiliar >= WITHHELD)
        return self._moved(stream, mean, embedding.stamp_ns, unfamiliar, turned)

    def _corrected(self, stream: _Stream, stamp_ns: int) -> list[Change]:
        """The last words for a segment that is over: of its end, where that is not what was said.

        What differs too little from what was before to begin a segment is told here, if at all.
        """
        return self._moved(stream, stream.ending(), stamp_ns, stream.unfamiliar())

    def _moved(
        self,
        stream: _Stream,
        mean: Vector,
        stamp_ns: int,
        unfamiliar: float,
        turned: bool = False,
    ) -> list[Change]:
        """A drift, where the mean is too far from what was last put into words, or it `turned`."""
        score = _distance(stream.said, mean)
        threshold = max(self._settings.drift_threshold * stream.strictness, ROUNDING)
        if score <= threshold and not turned:
            return []
        stream.said, stream.said_unfamiliar = mean, unfamiliar
        self.changes += 1
        return [
            Change(
                stamp_ns,
                stream.key,
                self._session_id,
                stream.segment_id,
                stream.start_ns,
                score,
                Reason.DRIFT,
                mean,
                unfamiliar=unfamiliar,
            )
        ]

    def _open(
        self,
        embedding: Embedding,
        members: list[_Hop],
        reason: Reason,
        score: float,
        before: _Stream | None,
    ) -> Change:
        key, start_ns = embedding.key, members[0].stamp_ns
        number = self._next_id.get(key, 0)
        self._next_id[key] = number + 1
        nothing = np.zeros_like(members[0].vector)
        stream = _Stream(
            key,
            embedding.reset_count,
            number,
            start_ns,
            embedding.stamp_ns,
            nothing,
            members,
            self._settings.longest_run,
        )
        if before:
            stream.noise, stream.strictness = before.noise, before.strictness
            since_ns = max(embedding.stamp_ns - before.newest_ns, 0)
            stream.hop_ns = since_ns or before.hop_ns
        stream.said, stream.said_unfamiliar = stream.mean(), stream.unfamiliar()
        self._streams[key] = stream
        self.changes += 1
        end_ns = start_ns if reason is Reason.MEANING else (before.newest_ns if before else 0)
        stream.opened = Change(
            embedding.stamp_ns,
            key,
            self._session_id,
            number,
            start_ns,
            score,
            reason,
            stream.said,
            None,
            None,
            stream.said_unfamiliar,
        )
        if before is None:
            return stream.opened
        ended = Segment(before.segment_id, before.start_ns, end_ns)
        return replace(
            stream.opened,
            previous=ended,
            previous_vector=before.mean(),
            previous_unfamiliar=before.unfamiliar(),
        )

    def _close(self, key: StreamKey) -> list[Change]:
        stream = self._streams.pop(key)
        self.changes += 1
        corrected = self._corrected(stream, stream.newest_ns)
        end = Change(
            stream.newest_ns,
            key,
            self._session_id,
            stream.segment_id,
            stream.start_ns,
            0.0,
            Reason.END,
            stream.mean(),
            Segment(stream.segment_id, stream.start_ns, stream.newest_ns),
            stream.mean(),
            stream.unfamiliar(),
            stream.unfamiliar(),
        )
        return [*corrected, end]

    def _make_room(self) -> list[Change]:
        if len(self._streams) < MAX_STREAMS:
            return []
        return self._close(min(self._streams, key=lambda key: self._streams[key].newest_ns))


def _member(embedding: Embedding) -> _Hop:
    vector = unit(embedding.vector.astype(np.float64))
    return _Hop(embedding.stamp_ns, vector, embedding.unfamiliar)


def begins_anew(embedding: Embedding, reset_count: int, newest_ns: int, hop_ns: int) -> bool:
    """Whether the eyes forgot what came before, or so many embeddings were lost.

    `hop_ns`: the distance between the two before. Windows of one picture never overlap.
    """
    gap_ns = embedding.stamp_ns - newest_ns
    bridged_ns = max(BRIDGED_NS, BRIDGED_HOPS * hop_ns)
    is_apart = embedding.window_start_ns > newest_ns and gap_ns > bridged_ns
    return embedding.reset_count != reset_count or is_apart


def check_follows(embedding: Embedding, dim: int, reset_count: int, newest_ns: int) -> None:
    """Raise InputError for another length, or a stamp that is not later, without a state reset."""
    if len(embedding.vector) != dim:
        raise InputError(f'embedding of {len(embedding.vector)} values in a stream of {dim}')
    if embedding.reset_count == reset_count and embedding.stamp_ns <= newest_ns:
        raise InputError(
            f'embedding of {embedding.stamp_ns / 1e9:.3f} s comes after that of '
            f'{newest_ns / 1e9:.3f} s'
        )


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Cosine distance, of a unit vector and any vector."""
    return 1.0 - float(np.dot(a, unit(b)))


def _squared(vectors: Vector64) -> Vector64:
    """Squared lengths: (..., D) -> (...)."""
    return np.asarray((vectors**2).sum(axis=-1))


def check_vector(vector: Vector) -> None:
    """Raise InputError for one that has no direction."""
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError('an embedding holds a value that is not finite, or only zeros')
