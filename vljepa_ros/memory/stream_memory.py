# SPDX-License-Identifier: Apache-2.0
"""Memory of one stream: embeddings of its recent hops, and segments with their texts.

A hop is one inference step of a stream and has one embedding. A segment is a span of constant
meaning. Shapes: N hops or segments, D = `embedding_dim`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.settings import EVER_NS
from vljepa_ros.core.types import EvaluatedSpan, Vector
from vljepa_ros.core.vectors import as_sent, pooled
from vljepa_ros.memory.embedding_log import VectorLog

SegmentName = tuple[str, int]  # session, segment id
Span = tuple[int, int]  # stamps of the first and last hop, in nanoseconds
Similarity = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (N, D) -> 0..1, (N,)

REACH = 300  # maximum number of hops of a moment on either side of its best hop (1 min at 5 Hz)
NEWEST = 1000  # number of newest segments that can still receive a text
MOST_COMPARED = 100_000  # longer spans are subsampled for search: neighboring hops are similar
HOLDS = 0.5  # every hop of a moment has at least this fraction of the best score in it


@dataclass
class StoredSegment:
    """A segment with its pooled vector (D,) and its published text.

    `name`: session id and segment id. `text`: '' before a text is published. `nearest`: the text
    is a retrieved sentence of a sentence bank. `unfamiliar`: how unfamiliar the scene is to the
    model, 0..1, mean over the segment's hops.
    """

    name: SegmentName
    start_ns: int
    end_ns: int
    vector: Vector
    text: str = ''
    nearest: bool = False
    unfamiliar: float = 0.0

    def take_text(self, other: StoredSegment) -> None:
        """Copy the text of another segment, unless this segment already has a text."""
        if not self.text:
            self.text, self.nearest = other.text, other.nearest


@dataclass(frozen=True)
class SearchHit:
    """Search result: a span, its score (0..1), and the segment that contains it, if known."""

    span: Span
    score: float
    segment: StoredSegment | None = None

    @property
    def text(self) -> str:
        """Text of the segment; '' without a segment or a text."""
        return self.segment.text if self.segment else ''


class StoredStream:
    """Stored hops and segments of one stream.

    `closed`: closed segments, sorted by their ends. `running`: the open segment, or None.
    """

    def __init__(self) -> None:
        self.hops = VectorLog()
        self.running: StoredSegment | None = None
        self.closed: list[StoredSegment] = []
        self._pooled = VectorLog()  # vectors of the closed segments, by their ends

    @property
    def dim(self) -> int:
        """Number D of values per vector; 0 before the first hop or closed segment is stored."""
        return self.hops.dim or self._pooled.dim

    def __bool__(self) -> bool:
        return bool(len(self.hops) or self.closed or self.running)

    def open(self, segment: StoredSegment) -> StoredSegment | None:
        """Open a segment, or update the open segment if it has the same name.

        Returns:
            Another segment that was still open and is now closed, or None.
        """
        ended = self._take_over(segment)
        self.running = segment
        return ended

    def close(self, segment: StoredSegment) -> StoredSegment | None:
        """Add a closed segment; it replaces the open segment if both have the same name.

        Returns:
            Another segment that was still open and is now closed, or None.
        """
        ended = self._take_over(segment)
        self.running = None
        self._archive(segment)
        return ended

    def _take_over(self, segment: StoredSegment) -> StoredSegment | None:
        """Copy the text of an older version of a segment, and close any other open segment.

        An older version among the closed segments is removed.

        Returns:
            The other segment that was open, or None.
        """
        running, last = self.running, self.closed[-1:]
        if running is not None and running.name == segment.name:
            segment.take_text(running)
            return None
        if last and last[0].name == segment.name:  # it was closed too early
            segment.take_text(last[0])
            self.closed.pop()
            self._pooled.drop_last()
        if running is None:
            return None
        ended = replace(running, end_ns=min(self.end_of(running), segment.start_ns))
        self._archive(ended)
        return ended

    def _archive(self, segment: StoredSegment) -> None:
        self.closed.append(segment)
        self._pooled.append(segment.end_ns, segment.vector)

    def named(self, name: SegmentName) -> StoredSegment | None:
        """Return the segment with a name, or None if it is not among the `NEWEST` segments."""
        if self.running is not None and self.running.name == name:
            return self.running
        return next((s for s in islice(reversed(self.closed), NEWEST) if s.name == name), None)

    def end_of(self, segment: StoredSegment) -> int:
        """Return the end stamp of a segment; the open segment extends to the newest hop."""
        if segment is self.running and len(self.hops):
            return max(segment.end_ns, self.hops.newest_ns)
        return segment.end_ns

    def delete_before(self, hops_ns: int, segments_ns: int) -> list[StoredSegment]:
        """Delete hops before `hops_ns` and segments that ended before `segments_ns`.

        Returns:
            The deleted segments.
        """
        self.hops.delete_before(hops_ns)
        count = int(np.searchsorted(self._pooled.stamps_ns, segments_ns, side='left'))
        self._pooled.delete_before(segments_ns)
        deleted, self.closed = self.closed[:count], self.closed[count:] if count else self.closed
        running = self.running
        if running is not None and self.end_of(running) < segments_ns:
            deleted.append(running)
            self.running = None
        return deleted

    def delete_segments_after(self, stamp_ns: int) -> list[StoredSegment]:
        """Delete segments that end after a stamp, and return them."""
        self._pooled.delete_after(stamp_ns)
        count = len(self._pooled)
        deleted, self.closed = self.closed[count:], self.closed[:count]
        if self.running is not None and self.end_of(self.running) > stamp_ns:
            deleted.append(self.running)
            self.running = None
        return deleted

    @property
    def last_end_ns(self) -> int:
        """End stamp of the last closed segment; -EVER_NS if there is none."""
        return self.closed[-1].end_ns if self.closed else -EVER_NS

    def can_close(self, end_ns: int) -> bool:
        """Return whether a segment that ends at a stamp is not older than other segments."""
        running_ns = self.running.start_ns if self.running else -EVER_NS
        return end_ns >= max(running_ns, self.last_end_ns)

    def evaluated(self, start_ns: int, end_ns: int, limit: int) -> list[EvaluatedSpan]:
        """Split a time span at segment boundaries, and return the spans with stored embeddings.

        The spans are in order of time. A span has the mean vector of its hops, or the segment's
        pooled vector if most of the hops were deleted. Hops between two segments form spans, too.

        Args:
            start_ns: Start of the time span.
            end_ns: End of the time span; 0 for an open end.
            limit: Maximum number of spans; the longest are selected.
        """
        end_ns = end_ns or EVER_NS
        spans, segments = list[Span](), list[StoredSegment | None]()
        next_ns = start_ns
        for segment in self._overlapping(start_ns, end_ns):
            spans += [(next_ns, segment.start_ns - 1), (segment.start_ns, self.end_of(segment))]
            segments += [None, segment]
            next_ns = spans[-1][1] + 1
        spans.append((next_ns, end_ns))
        segments.append(None)
        inside = [(max(first, start_ns), min(last, end_ns)) for first, last in spans]
        longest = sorted(range(len(spans)), key=lambda i: inside[i][0] - inside[i][1])
        found = list[EvaluatedSpan]()
        for i in longest:
            part = self._part(segments[i], *inside[i])
            found += [part] if part else []
            if len(found) == limit:
                break
        return sorted(found, key=lambda seen: seen.start_ns)

    def _overlapping(self, start_ns: int, end_ns: int) -> list[StoredSegment]:
        """Return the segments that overlap a span; a boundary hop belongs to the later segment."""
        first = int(np.searchsorted(self._pooled.stamps_ns, start_ns, side='left'))
        known = [*self.closed[first:], *([self.running] if self.running else [])]
        return [
            s
            for s in known
            if s.start_ns <= end_ns and (self.end_of(s) > start_ns or self._own_end(s) >= start_ns)
        ]

    def _part(
        self, segment: StoredSegment | None, start_ns: int, end_ns: int
    ) -> EvaluatedSpan | None:
        """Return the stored span of a segment, or of hops between segments; None if empty."""
        if segment is None:
            return self._mean(start_ns, end_ns)
        own_end_ns = self._own_end(segment)
        found = self._mean(start_ns, min(own_end_ns, end_ns))
        missing = not len(self.hops) or int(self.hops.stamps_ns[0]) > start_ns
        if found is None or (
            missing and found.start_ns - start_ns > found.end_ns - found.start_ns
        ):
            text = segment.text, segment.nearest
            return EvaluatedSpan(start_ns, end_ns, segment.vector, *text, segment.unfamiliar)
        if end_ns < (segment.start_ns + own_end_ns) // 2:  # the text describes the segment's end
            return found
        return replace(found, text=segment.text, nearest=segment.nearest)

    def _mean(self, start_ns: int, end_ns: int) -> EvaluatedSpan | None:
        inside = self.hops.within(start_ns, end_ns)
        if end_ns < start_ns or inside.stop == inside.start:
            return None
        stamps = self.hops.stamps_ns[inside]
        return EvaluatedSpan(
            int(stamps[0]),
            int(stamps[-1]),
            pooled(self.hops.vectors[inside]),
            unfamiliar=as_sent(self.hops.unfamiliar[inside].mean(dtype=np.float64)),
        )

    def find(
        self, text: Vector, similarity: Similarity, start_ns: int, end_ns: int, limit: int
    ) -> list[SearchHit]:
        """Return the spans that match a text best, in no particular order.

        Args:
            text: Embedding (D,) of the text.
            similarity: Maps vectors (N, D) to calibrated scores (N,) for the text, 0..1.
            start_ns: Start of the searched span; 0 for an open start.
            end_ns: End of the searched span; 0 for an open end.
            limit: Maximum number of runs of hops, and of segments whose hops were deleted.
        """
        found = self._find_hops(text, similarity, start_ns, end_ns, limit)
        return found + self._find_segments(text, similarity, start_ns, end_ns, limit)

    def _find_hops(
        self, text: Vector, similarity: Similarity, start_ns: int, end_ns: int, limit: int
    ) -> list[SearchHit]:
        part = self.hops.within(start_ns, end_ns)
        if part.stop == part.start:
            return []
        step = -(-(part.stop - part.start) // MOST_COMPARED)
        cosine = self.hops.vectors[part][::step] @ text
        found, taken = list[SearchHit](), np.zeros(part.stop - part.start, bool)
        while len(found) < limit:
            row = int(np.argmax(cosine))
            if cosine[row] == -np.inf:
                break
            best = self._peak(part.start + row * step, step, part, text)
            cosine[row] = -np.inf
            if taken[best - part.start]:
                continue  # already found from another row
            segment = self._segment_at(int(self.hops.stamps_ns[best]))
            own = self._neighbors(best, part, segment)
            score = similarity(self.hops.vectors[own])
            holds = score >= HOLDS * score[best - own.start]
            holds &= ~taken[own.start - part.start : own.stop - part.start]
            run = _around(best - own.start, holds)
            moment = slice(own.start + run.start, own.start + run.stop)
            taken[moment.start - part.start : moment.stop - part.start] = True
            peak = float(score[best - own.start])
            found.append(SearchHit(self._span(moment, segment), peak, segment))
            first, last = (-(-(hop - part.start) // step) for hop in (moment.start, moment.stop))
            cosine[first:last] = -np.inf
        return found

    def _peak(self, hop: int, step: int, part: slice, text: Vector) -> int:
        """Return the index of the hop near `hop` that matches `text` best, without subsampling."""
        first = max(hop - step + 1, part.start)
        near = self.hops.vectors[first : min(hop + step, part.stop)]
        return first + int(np.argmax(near @ text))

    def _neighbors(self, best: int, part: slice, segment: StoredSegment | None) -> slice:
        """Return the slice of hops that can belong to the same moment as the hop `best`."""
        first, end = max(part.start, best - REACH), min(part.stop, best + REACH + 1)
        if segment is None:
            return slice(first, end)
        inside = self.hops.within(segment.start_ns, self._own_end(segment))
        return slice(max(first, inside.start), min(end, inside.stop))

    def _span(self, moment: slice, segment: StoredSegment | None) -> Span:
        """Return the start and end of a moment, including deleted hops at the segment's start."""
        stamps = self.hops.stamps_ns[moment]
        start_ns = int(stamps[0])
        if segment is not None and moment.start == 0:
            start_ns = min(start_ns, segment.start_ns)
        return start_ns, int(stamps[-1])

    def _own_end(self, segment: StoredSegment) -> int:
        """Return the end of a segment, minus 1 ns if its last hop belongs to the next segment."""
        end_ns = self.end_of(segment)
        return end_ns if self._segment_at(end_ns) is segment else end_ns - 1

    def _segment_at(self, stamp_ns: int) -> StoredSegment | None:
        """Return the segment at a stamp, or None; at a boundary, return the later segment."""
        if self.running is not None and self.running.start_ns <= stamp_ns:
            return self.running
        at = int(np.searchsorted(self._pooled.stamps_ns, stamp_ns, side='right'))
        if at < len(self.closed) and self.closed[at].start_ns <= stamp_ns:
            return self.closed[at]
        last = self.closed[at - 1] if at else None  # the stream ended with this hop
        return last if last is not None and last.end_ns == stamp_ns else None

    def _find_segments(
        self, text: Vector, similarity: Similarity, start_ns: int, end_ns: int, limit: int
    ) -> list[SearchHit]:
        ends = self._pooled.stamps_ns
        first, last = int(np.searchsorted(ends, start_ns)), len(ends)
        if len(self.hops):
            # Include a segment that ends with the oldest hop, which belongs to the next segment.
            last = int(np.searchsorted(ends, self.hops.stamps_ns[0], side='right'))
        if end_ns:
            last = min(last, int(np.searchsorted(ends, end_ns)) + 1)
        vectors = self._pooled.vectors[first:last]
        best = _best(vectors @ text, limit).tolist() if len(vectors) else []
        found = [self.closed[first + i] for i in best]
        if self.running is not None and self.end_of(self.running) >= start_ns:
            hops_ns = self.hops.stamps_ns[:1].tolist()
            if not hops_ns or (end_ns and end_ns < hops_ns[0]):  # its hops in the span are deleted
                found.append(self.running)
        found = [s for s in found if not end_ns or s.start_ns <= end_ns]
        if not found:
            return []
        scores = similarity(np.stack([s.vector for s in found]))
        return [
            SearchHit((s.start_ns, self.end_of(s)), float(score), s)
            for s, score in zip(found, scores, strict=True)
        ]


def _around(peak: int, holds: NDArray[np.bool_]) -> slice:
    """Return the slice of consecutive true values that contains the index `peak`."""
    ends = np.flatnonzero(~holds)
    at = int(np.searchsorted(ends, peak))
    first = int(ends[at - 1]) + 1 if at else 0
    return slice(first, int(ends[at]) if at < len(ends) else len(holds))


def _best(scores: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Return the indices of the `limit` highest scores, unsorted."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.argpartition(-scores, limit - 1)[:limit]
