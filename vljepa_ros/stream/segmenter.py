# SPDX-License-Identifier: Apache-2.0
"""Change detection: a stream of embeddings -> segments of one meaning. Reads no clock.

Everything that affects the state of a stream is in `_Stream`. A segment is summed up by the mean
of its vectors. An embedding that is farther from it than `change_threshold` may begin a new
segment; `confirm_hops` of them in a row do, and the new segment began with the first of them.

This is the online counterpart of the paper's offline clustering (arXiv 2512.10942, section 4.3).
A stream whose window no longer reaches back to the embedding before it was reset by the eyes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.errors import InputError
from vljepa_ros.stream.settings import SegmenterSettings
from vljepa_ros.stream.types import Change, Embedding, Reason, Segment, StreamKey, Vector

MAX_STREAMS = 1024  # prompts that change at run time leave streams behind: the oldest ends


@dataclass
class _Stream:
    """One stream's open segment, and the embeddings that may begin the next one."""

    key: StreamKey
    segment_id: int
    start_ns: int
    newest_ns: int
    total: NDArray[np.float64]
    said: Vector  # the mean when it was last put into words
    pending: list[Embedding] = field(default_factory=list)

    def mean(self) -> Vector:
        """The segment's pooled vector, unit norm."""
        norm = max(float(np.linalg.norm(self.total)), 1e-12)
        return np.asarray(self.total / norm, dtype=np.float32)


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
        """The changes that this embedding settles. Raises InputError, the state unchanged."""
        if not np.isfinite(embedding.vector).all() or not embedding.vector.any():
            raise InputError('an embedding holds a value that is not finite, or only zeros')
        stream = self._streams.get(embedding.key)
        if stream is None:
            return [
                *self._make_room(),
                self._open(embedding, [embedding], Reason.FIRST, 1.0, None),
            ]
        if len(stream.total) != len(embedding.vector):
            raise InputError(
                f'embedding of {len(embedding.vector)} values in a stream of {len(stream.total)}'
            )
        if _was_reset(stream, embedding):
            return [self._open(embedding, [embedding], Reason.RESET, 1.0, stream)]
        return self._advance(stream, embedding)

    def end(self, which: Callable[[StreamKey], bool] = lambda _: True) -> list[Change]:
        """Close the open streams that `which` picks, or all."""
        return [self._close(key) for key in list(self._streams) if which(key)]

    def _advance(self, stream: _Stream, embedding: Embedding) -> list[Change]:
        settings, mean = self._settings, stream.mean()
        score = _distance(mean, embedding.vector)
        stream.newest_ns = embedding.stamp_ns
        long_enough = embedding.stamp_ns - stream.start_ns >= self._min_segment_ns
        if score > settings.change_threshold and long_enough:
            stream.pending.append(embedding)
            if len(stream.pending) >= settings.confirm_hops:
                return [self._open(embedding, stream.pending, Reason.MEANING, score, stream)]
            return []
        for item in (*stream.pending, embedding):
            stream.total += item.vector
        stream.pending.clear()
        return self._drift(stream, embedding) if long_enough else []

    def _drift(self, stream: _Stream, embedding: Embedding) -> list[Change]:
        mean = stream.mean()
        score = _distance(stream.said, mean)
        if score <= self._settings.drift_threshold:
            return []
        stream.said = mean
        self.changes += 1
        return [
            Change(
                embedding.stamp_ns,
                stream.key,
                self._session_id,
                stream.segment_id,
                stream.start_ns,
                score,
                Reason.DRIFT,
                mean,
            )
        ]

    def _open(
        self,
        embedding: Embedding,
        members: list[Embedding],
        reason: Reason,
        score: float,
        before: _Stream | None,
    ) -> Change:
        key, start_ns = embedding.key, members[0].stamp_ns
        total = np.stack([item.vector for item in members]).sum(axis=0, dtype=np.float64)
        number = self._next_id.get(key, 0)
        self._next_id[key] = number + 1
        stream = _Stream(key, number, start_ns, embedding.stamp_ns, total, np.zeros(0, np.float32))
        stream.said = stream.mean()
        self._streams[key] = stream
        self.changes += 1
        end_ns = start_ns if reason is Reason.MEANING else (before.newest_ns if before else 0)
        return Change(
            embedding.stamp_ns,
            key,
            self._session_id,
            number,
            start_ns,
            score,
            reason,
            stream.said,
            Segment(before.segment_id, before.start_ns, end_ns) if before else None,
            before.mean() if before else None,
        )

    def _close(self, key: StreamKey) -> Change:
        stream = self._streams.pop(key)
        self.changes += 1
        return Change(
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
        )

    def _make_room(self) -> list[Change]:
        if len(self._streams) < MAX_STREAMS:
            return []
        return [self._close(min(self._streams, key=lambda key: self._streams[key].newest_ns))]


def _was_reset(stream: _Stream, embedding: Embedding) -> bool:
    """Whether the eyes forgot what came before: time goes back, or the windows do not overlap."""
    return embedding.stamp_ns < stream.newest_ns or embedding.window_start_ns > stream.newest_ns


def _distance(a: Vector, b: Vector) -> float:
    """Cosine distance, of a unit vector and any vector."""
    return 1.0 - float(np.dot(a, b) / max(float(np.linalg.norm(b)), 1e-12))
