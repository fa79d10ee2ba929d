# SPDX-License-Identifier: Apache-2.0
"""Online change detection: a stream of embeddings -> segments of constant meaning.

Uses stamps only, no clock. This is an online form of the paper's offline rule (arXiv 2512.10942,
section 4.3), which merges adjacent segments by Ward's criterion. The newest k embeddings, with
mean r, are compared with the n embeddings before them in the segment, with mean m. Keeping them in
the segment costs n k / (n + k) |m - r|^2, minus one variance for the noise of the stream. If the
cost exceeds `change_threshold` for some k, a new segment began with the k-th newest embedding. A
large change is detected after `confirm_hops`, a small one only if it lasts. The first rule that
matches applies:

    FIRST    The embedding is the first of its stream.
    RESET    The visual state was reset.
    MEANING  For some k >= `confirm_hops`, the newest k cost more than `change_threshold`, each of
             the newest `confirm_hops` is nearer to them than to the segment, and the segment
             without them is at least `min_segment` long.
    DRIFT    The mean of the settled embeddings is farther than `drift_threshold` from the vector
             that was published last, or their mean `unfamiliar` crossed `WITHHELD`.
    END      The stream ended.

A DRIFT precedes RESET, MEANING and END if the last `LAST` embeddings of the segment are farther
than `drift_threshold` from the vector that was published last. Hysteresis: leaving a segment and
returning to it each take the whole cost.

`_Stream` contains all state of a stream and has bounded size. A visual state counts as reset if
the reset counter changed, or if so many embeddings were lost that the window no longer reaches
back to the previous embedding.
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

MAX_STREAMS = (
    1024  # changing prompts at run time leaves streams open; beyond this, the oldest ends
)
MINUTE_NS = 60_000_000_000
ROUNDING = 1e-6  # cosine distance that the means of equal float32 vectors can have
# Increase of the log of the thresholds per event; the event budget decreases it over time.
RISE = 0.3
OPPOSITE = 4.0  # squared distance of two opposite unit vectors
NOISE, NOISE_RATE = 0.01, 0.02  # initial variance, and the weight of one embedding in its update
OUTLIER = 4.0  # the contribution of one embedding is clipped at this many variances
LEAST_NOISE = 1e-9  # variance of a constant stream due to rounding
# Gaps up to this time, or up to this multiple of the previous step, never reset a stream.
BRIDGED_NS, BRIDGED_HOPS = 2_000_000_000, 2
LAST = 4  # number of embeddings that represent the end of a segment

Vector64 = NDArray[np.float64]


class _Hop(NamedTuple):
    """One embedding of a segment; `vector` has unit norm."""

    stamp_ns: int
    vector: Vector64
    unfamiliar: float


@dataclass
class _Stream:
    """Open segment of one stream: the sum of settled vectors, and up to `longest` newest ones.

    Settled vectors can no longer begin a segment; the newest few of them are stored, too. `noise`:
    variance of vectors within their segments, averaged over segments. `published`: the vector that
    was published last for decoding. `strictness` multiplies the thresholds to meet the event
    budget.
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
    count: int = 0  # number of settled vectors
    settled_unfamiliar: float = 0.0  # sum over settled vectors
    published_unfamiliar: float = 0.0  # mean at the time of `published`
    published: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    newest_settled: deque[Vector64] = field(default_factory=lambda: deque(maxlen=LAST))
    hop_ns: int = 0  # time between the newest two embeddings
    opened: Change | None = None  # the opening change, without the previous segment

    def total(self) -> Vector64:
        """Return the sum of the segment's vectors."""
        return self.settled + sum(hop.vector for hop in self.run)

    def mean(self) -> Vector:
        """Return the segment's pooled vector, unit norm."""
        return np.asarray(unit(self.total()), dtype=np.float32)

    def unfamiliar(self) -> float:
        """Return the mean of `unfamiliar` over the segment's hops, 0..1."""
        total = self.settled_unfamiliar + sum(hop.unfamiliar for hop in self.run)
        return as_sent(total / (self.count + len(self.run)))

    def ending(self) -> Vector:
        """Return the mean of the newest `LAST` vectors, unit norm."""
        newest = [*self.newest_settled, *(hop.vector for hop in self.run)][-LAST:]
        return np.asarray(unit(np.sum(newest, axis=0)), dtype=np.float32)

    def add(self, hop: _Hop) -> None:
        """Add a hop; a hop that is too old to begin a segment becomes settled."""
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
        """Return the merge costs of the newest `least`, `least` + 1, ... embeddings.

        A cost is 0 if one of the newest `least` embeddings is nearer to the earlier ones than to
        the run, so that outliers and changes that reverted begin no segment. Runs that would leave
        the segment empty are not included.
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
    """Segments any number of streams; segment ids are unique per stream and session."""

    def __init__(
        self,
        settings: SegmenterSettings,
        session_id: str,
        next_id: dict[StreamKey, int] | None = None,
    ) -> None:
        """Create a segmenter without streams.

        Args:
            settings: Parameters of change detection.
            session_id: Copied into every change.
            next_id: Next segment id by stream, updated in place. Several segmenters of one session
                share it, so that ids stay unique.
        """
        self._settings, self._session_id = settings, session_id
        self._min_segment_ns = round(settings.min_segment_s * 1e9)
        self._streams: dict[StreamKey, _Stream] = {}
        self._next_id = {} if next_id is None else next_id
        self.changes = 0

    def push(self, embedding: Embedding) -> list[Change]:
        """Add an embedding and return the changes that it confirms.

        Raises:
            InputError: The vector has no direction or another length, or the stamp is not later
                than the previous one without a state reset. The state is unchanged.
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
        """Whether the embedding has the same newest frame as the previous one of its stream.

        This happens with slow cameras. Such embeddings must not be pushed, because a repeated
        frame confirms no change.
        """
        stream = self._streams.get(embedding.key)
        return (
            stream is not None
            and stream.reset_count == embedding.reset_count
            and stream.newest_ns == embedding.stamp_ns
        )

    def opened(self) -> list[Change]:
        """Return the opening changes of all open segments, for late-joining subscribers.

        They carry the vector that was published last for each segment.
        """
        return [
            replace(stream.opened, vector=stream.published, unfamiliar=stream.published_unfamiliar)
            for stream in self._streams.values()
            if stream.opened is not None
        ]

    def end(self, which: Callable[[StreamKey], bool] = lambda _: True) -> list[Change]:
        """Close the streams that `which` selects, by default all, and return their changes."""
        ended = [self._close(key) for key in list(self._streams) if which(key)]
        return [change for changes in ended for change in changes]

    def _spend(self, stream: _Stream, events: int, elapsed_ns: int) -> None:
        """Raise the strictness per event and lower it with time, to meet the event budget.

        No change can occur at maximum strictness, so any span of time has at most its budget plus
        a constant number of events, not counting state resets. The update rule follows
        adaptive quantiles (Gibbs and Candes, arXiv 2106.00170).
        """
        settings = self._settings
        if not settings.events_per_minute:
            return
        due = settings.events_per_minute * elapsed_ns / MINUTE_NS
        highest = OPPOSITE * settings.longest_run  # maximum cost of the longest run
        lowest = min(settings.change_threshold / highest, settings.drift_threshold / 2.0)
        stricter = stream.strictness * math.exp(RISE * (events - due))
        stream.strictness = min(max(stricter, 1.0), 1 / lowest)

    def _changed(self, stream: _Stream, embedding: Embedding) -> list[Change]:
        """Return the change that this embedding confirms, at the run with the highest cost."""
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
        """Return a DRIFT if the settled mean moved; the newest hops may yet begin a segment."""
        earlier = stream.run[:-LONGEST_RUN]
        if not stream.count and not earlier:
            return []
        total = stream.settled + sum(hop.vector for hop in earlier)
        mean = np.asarray(unit(total), np.float32)
        unfamiliar = stream.settled_unfamiliar + sum(hop.unfamiliar for hop in earlier)
        unfamiliar = as_sent(unfamiliar / (stream.count + len(earlier)))
        crossed = (unfamiliar >= WITHHELD) != (stream.published_unfamiliar >= WITHHELD)
        return self._moved(stream, mean, embedding.stamp_ns, unfamiliar, crossed)

    def _corrected(self, stream: _Stream, stamp_ns: int) -> list[Change]:
        """Return a DRIFT if the end of a closing segment differs from the published vector.

        Changes that are too small to begin a segment are reported here, if at all.
        """
        return self._moved(stream, stream.ending(), stamp_ns, stream.unfamiliar())

    def _moved(
        self,
        stream: _Stream,
        mean: Vector,
        stamp_ns: int,
        unfamiliar: float,
        crossed: bool = False,
    ) -> list[Change]:
        """Return a DRIFT if the mean is too far from the published vector, or if `crossed`."""
        score = _distance(stream.published, mean)
        threshold = max(self._settings.drift_threshold * stream.strictness, ROUNDING)
        if score <= threshold and not crossed:
            return []
        stream.published, stream.published_unfamiliar = mean, unfamiliar
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
        stream.published, stream.published_unfamiliar = stream.mean(), stream.unfamiliar()
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
            stream.published,
            None,
            None,
            stream.published_unfamiliar,
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
    """Whether a new segment must begin: the visual state was reset, or embeddings were lost.

    Args:
        embedding: The new embedding.
        reset_count: Reset counter of the previous embedding.
        newest_ns: Stamp of the previous embedding.
        hop_ns: Time between the two previous embeddings. It matters for models with windows of one
            frame, which never overlap.
    """
    gap_ns = embedding.stamp_ns - newest_ns
    bridged_ns = max(BRIDGED_NS, BRIDGED_HOPS * hop_ns)
    is_apart = embedding.window_start_ns > newest_ns and gap_ns > bridged_ns
    return embedding.reset_count != reset_count or is_apart


def check_follows(embedding: Embedding, dim: int, reset_count: int, newest_ns: int) -> None:
    """Check an embedding against the previous one of its stream.

    Args:
        embedding: The new embedding.
        dim: Length of the previous vector.
        reset_count: Reset counter of the previous embedding.
        newest_ns: Stamp of the previous embedding.

    Raises:
        InputError: The length differs, or the stamp is not later without a state reset.
    """
    if len(embedding.vector) != dim:
        raise InputError(
            f'embedding of {len(embedding.vector)} values in a stream of {dim}-dimensional vectors'
        )
    if embedding.reset_count == reset_count and embedding.stamp_ns <= newest_ns:
        raise InputError(
            f'embedding stamp {embedding.stamp_ns / 1e9:.3f} s is not later than the previous '
            f'stamp {newest_ns / 1e9:.3f} s'
        )


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine distance of a unit vector and any vector."""
    return 1.0 - float(np.dot(a, unit(b)))


def _squared(vectors: Vector64) -> Vector64:
    """Return squared lengths: (..., D) -> (...)."""
    return np.asarray((vectors**2).sum(axis=-1))


def check_vector(vector: Vector) -> None:
    """Raise InputError if a vector has no direction."""
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError('embedding has a value that is not finite, or only zeros')
