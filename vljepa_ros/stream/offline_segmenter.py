# SPDX-License-Identifier: Apache-2.0
"""Offline change detection on a whole recording, as in the VL-JEPA paper.

Adjacent segments are merged by Ward's criterion, cheapest first, until every merge would cost more
than `change_threshold` (arXiv 2512.10942, section 4.3). If there are still more segments than
`events_per_minute` allows, merging continues down to that number. The merge cost is computed as in
`segmenter`, without subtracting noise. Changes need no confirmation, because the whole stream is
available. Shapes: T embeddings of D values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Reason, Segment, StreamKey, Vector
from vljepa_ros.core.vectors import as_sent, unit
from vljepa_ros.stream.segmenter import MINUTE_NS, check_follows, check_vector, needs_reset

Part = NDArray[np.intp]  # indices of the embeddings of one segment


class OfflineSegmenter:
    """Offline variant of `Segmenter`: `end` returns all changes, with final vectors."""

    def __init__(self, settings: SegmenterSettings, session_id: str) -> None:
        """Create a segmenter without streams.

        Args:
            settings: Parameters of change detection.
            session_id: Identifier that is copied into every change.

        Raises:
            InputError: scikit-learn is not installed.
        """
        need_ward()
        self._settings, self._session_id = settings, session_id
        self._streams: dict[StreamKey, list[Embedding]] = {}
        self._next_id: dict[StreamKey, int] = {}
        self.changes = 0

    def push(self, embedding: Embedding) -> list[Change]:
        """Store an embedding and return an empty list; `end` returns the changes.

        Raises:
            InputError: The embedding is invalid, as in `Segmenter.push`.
        """
        check_vector(embedding.vector)
        for before in self._streams.get(embedding.key, [])[-1:]:
            check_follows(embedding, len(before.vector), before.reset_count, before.stamp_ns)
        self._streams.setdefault(embedding.key, []).append(embedding)
        return []

    def is_repeated(self, embedding: Embedding) -> bool:
        """Return whether an embedding repeats the newest frame of its stream's last embedding."""
        before = self._streams.get(embedding.key, [])[-1:]
        newest = (embedding.reset_count, embedding.stamp_ns)
        return [(e.reset_count, e.stamp_ns) for e in before] == [newest]

    def end(self, which: Callable[[StreamKey], bool] = lambda _: True) -> list[Change]:
        """End the streams that `which` selects, by default all, and return all their changes."""
        ended = [key for key in self._streams if which(key)]
        found = [change for key in ended for change in self._changes(key, self._streams.pop(key))]
        self.changes += len(found)
        return found

    def _changes(self, key: StreamKey, hops: list[Embedding]) -> Iterator[Change]:
        begun: Change | None = None
        newest_ns = 0
        for reason, part in self._segments(hops):
            start_ns, vector = part[0].stamp_ns, _mean(part)
            closed = _closed(begun, start_ns if reason is Reason.MEANING else newest_ns)
            number = self._next_id[key] = self._next_id.get(key, -1) + 1
            score = 1.0 - float(begun.vector @ vector) if begun else 1.0
            before = begun.vector if begun else None
            unfamiliar_before = begun.unfamiliar if begun else 0.0
            begun = Change(
                start_ns,
                key,
                self._session_id,
                number,
                start_ns,
                score,
                reason,
                vector,
                closed,
                before,
                as_sent(np.mean([hop.unfamiliar for hop in part])),
                unfamiliar_before,
            )
            yield begun
            newest_ns = part[-1].stamp_ns
        assert begun is not None
        yield replace(
            begun,
            stamp_ns=newest_ns,
            score=0.0,
            reason=Reason.END,
            previous=_closed(begun, newest_ns),
            previous_vector=begun.vector,
            previous_unfamiliar=begun.unfamiliar,
        )

    def _segments(self, hops: list[Embedding]) -> Iterator[tuple[Reason, list[Embedding]]]:
        """Iterate over (reason, embeddings) of all segments; a state reset starts a segment."""
        hops_ns = [0, *(max(b.stamp_ns - a.stamp_ns, 0) for a, b in pairwise(hops))]
        cuts = [
            i
            for i in range(1, len(hops))
            if needs_reset(hops[i], hops[i - 1].reset_count, hops[i - 1].stamp_ns, hops_ns[i - 1])
        ]
        reason = Reason.FIRST
        for first, end in zip([0, *cuts], [*cuts, len(hops)], strict=True):
            for part in self._parts(hops[first:end]):
                yield reason, part
                reason = Reason.MEANING
            reason = Reason.RESET

    def _parts(self, hops: list[Embedding]) -> list[list[Embedding]]:
        settings = self._settings
        vectors = np.array([unit(e.vector.astype(np.float64)) for e in hops])
        parts = clustered(vectors, threshold=settings.change_threshold)
        if settings.events_per_minute:
            minutes = (hops[-1].stamp_ns - hops[0].stamp_ns) / MINUTE_NS
            most = max(1, int(minutes * settings.events_per_minute))
            parts = clustered(vectors, most) if len(parts) > most else parts
        return [[hops[i] for i in part] for part in parts]


def clustered(
    vectors: NDArray[Any], count: int | None = None, threshold: float = 0.0
) -> list[Part]:
    """Cluster embeddings into contiguous segments by Ward's criterion.

    Args:
        vectors: Unit vectors (T, D) in order of time.
        count: Number of segments, or None to use `threshold`.
        threshold: Maximum cost of a merge if `count` is None.

    Returns:
        The indices of each segment, in order of time.
    """
    if len(vectors) == 1 or (count is not None and count >= len(vectors)):
        return list(np.arange(len(vectors))[:, None])
    agglomerative, chain = need_ward()
    joined = agglomerative(
        count,
        connectivity=chain(len(vectors), 1, 1),
        linkage='ward',
        distance_threshold=None
        if count
        else float(np.sqrt(2 * threshold)),  # as scikit-learn scales it
    )
    label = joined.fit(vectors.astype(np.float64)).labels_
    return np.split(np.arange(len(vectors)), np.flatnonzero(np.diff(label)) + 1)


def need_ward() -> tuple[Any, Any]:
    """Return scikit-learn's `AgglomerativeClustering` and `grid_to_graph`.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering
        from sklearn.feature_extraction.image import grid_to_graph
    except ImportError as error:
        raise InputError(
            "offline segmentation needs scikit-learn: install it with pip install '.[evaluate]'"
        ) from error
    return AgglomerativeClustering, grid_to_graph


def _closed(begun: Change | None, end_ns: int) -> Segment | None:
    """Return the segment that a change opened, closed at `end_ns`; None without a change."""
    return Segment(begun.segment_id, begun.segment_start_ns, end_ns) if begun else None


def _mean(part: list[Embedding]) -> Vector:
    total = np.sum([unit(e.vector.astype(np.float64)) for e in part], axis=0)
    return np.asarray(unit(total), np.float32)
