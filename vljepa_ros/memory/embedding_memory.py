# SPDX-License-Identifier: Apache-2.0
"""Memory of streams: embeddings of recent hops, and segments with their texts for longer.

Vectors have unit norm. Hops older than `hops_kept_s` before the newest stamp of their source are
deleted, and segments older than `kept_s`. If the memory exceeds `most_bytes`, the oldest are
deleted earlier. With a `Store`, the memory survives the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from vljepa_ros.core.errors import InputError, ModelMismatchError, OutputError
from vljepa_ros.core.protocols import Language, check_readable
from vljepa_ros.core.settings import MemorySettings, check_span, check_text
from vljepa_ros.core.types import (
    EVER_NS,
    Change,
    Embedding,
    EvaluatedSpan,
    Event,
    Moment,
    Reason,
    StreamKey,
    Vector,
)
from vljepa_ros.memory.retention import NewestStamps
from vljepa_ros.memory.segment_store import Store
from vljepa_ros.memory.stream_memory import StoredSegment, StoredStream

HOP_BYTES, SEGMENT_BYTES = 16, 400  # size of one entry without its vector
CHECKED = 64  # hops between two checks of the size limit
SELDOM = 4096  # hops between two cleanups of the data of other models
GIVEN_UP = 0.1  # fraction of the oldest entries that is deleted if the limit is exceeded
MOST_MOMENTS = 1000  # maximum number of search results
MOST_SEEN = 16  # maximum number of spans that an answer about the past is based on
SAME = 0.5  # two moments are the same if their overlap is more than this part of their union


class StoredSpans(NamedTuple):
    """Stored spans of one stream in order of time; its prompt can differ from the question's."""

    source: str
    prompt: str
    seen: list[EvaluatedSpan]


class Memory:
    """Stored embeddings and segments of all streams. Not thread-safe: one thread owns it.

    If the time of a source goes back (a looping bag), newer data of that source is deleted, except
    data that the file contained before this process. `problem`: why some data between the last two
    commits was not stored; '' if all was stored. Streams of other models in the store are retained
    while there is space, and never compared.
    """

    def __init__(
        self,
        model_id: str,
        settings: MemorySettings | None = None,
        store: Store | None = None,
        store_error: str = '',
    ) -> None:
        """Create a memory, with the stored streams of this model.

        Args:
            model_id: Only vectors of this model are accepted.
            settings: Retention and size limit.
            store: File of the memory; None for RAM only.
            store_error: Problem to report on every commit, if a wanted store could not be opened.
        """
        self._model_id, self._store, self._store_error = model_id, store, store_error
        self._settings = settings or MemorySettings()
        self._streams: dict[StreamKey, StoredStream] = {}
        self._recorded = self._dim = 0
        # Bytes of the streams of other models, in the order of their creation.
        self._others = dict[StreamKey, int]()
        self.problem, self._new_problem = '', ''
        self._held = NewestStamps({})
        if store is not None:
            self._load(store)

    @property
    def foreign(self) -> int:
        """Number of stored streams of other models."""
        return len(self._others)

    @property
    def sources(self) -> tuple[str, ...]:
        """Cameras with stored streams."""
        return tuple(dict.fromkeys(key.source for key in self._streams))

    def record(self, embedding: Embedding) -> None:
        """Store one hop.

        Raises:
            ModelMismatchError: The vector is of another model.
            InputError: The vector has another length.
        """
        self._check(embedding.key, embedding.vector)
        key, stamp_ns = embedding.key, embedding.stamp_ns
        if self._is_refused(key.source, stamp_ns):
            return
        for other, stream in self._streams_of(key.source):
            self._delete_hops_after(other, stream, stamp_ns)
        hops = self._stream(key).hops
        if len(hops) and hops.newest_ns == stamp_ns:  # a repeated frame
            hops.delete_after(stamp_ns - 1)
        hop = stamp_ns, embedding.vector, embedding.unfamiliar
        hops.append(*hop)
        self._write(lambda store: store.put_hop(key, *hop))
        self._delete_old(key.source, stamp_ns)
        self._recorded += 1
        if self._recorded % CHECKED == 0:
            self._keep_small()
        if self._recorded % SELDOM == 1:
            mine, bounds_ns = (self._model_id, key.source), self._bounds_ns(stamp_ns)
            self._write(lambda store: store.delete_of_other_models(*mine, *bounds_ns))
            if self._store is not None:
                self._others = self._sizes(self._store, list(self._others))

    def change(self, change: Change) -> None:
        """Store the segments of a change. Raises the errors of `record`."""
        self._check(change.key, change.vector)
        key, session, before = change.key, change.session_id, change.previous
        if before is None and change.reason is not Reason.END and self._reopen(change):
            return
        if self._is_refused(key.source, change.stamp_ns):
            return
        stream = self._stream(key)
        if before is not None and before.end_ns > change.stamp_ns:  # time went back
            self._delete_segments_after(key.source, change.stamp_ns)
            before = None
        elif stream.last_end_ns > change.stamp_ns:  # time went back before its first change
            self._delete(key, stream.delete_segments_after(change.stamp_ns))
        if before is not None and change.previous_vector is not None:
            ended = StoredSegment(
                (session, before.segment_id),
                before.start_ns,
                before.end_ns,
                change.previous_vector,
                unfamiliar=change.previous_unfamiliar,
            )
            self._put(key, stream.close(ended))
            self._put(key, stream.closed[-1])
        if change.reason is not Reason.END:
            name, span = (session, change.segment_id), (change.segment_start_ns, change.stamp_ns)
            begun = StoredSegment(name, *span, change.vector, unfamiliar=change.unfamiliar)
            self._open(key, stream, begun)
        self._delete_old(change.key.source, change.stamp_ns)

    def _reopen(self, change: Change) -> bool:
        """Update a known segment, if the change repeats its opening or is its drift.

        Returns:
            Whether the segment is known.
        """
        stream = self._streams.get(change.key)
        known = stream.named((change.session_id, change.segment_id)) if stream else None
        if stream is None or known is None or known.start_ns != change.segment_start_ns:
            return False
        end_ns = max(known.end_ns, change.stamp_ns)
        span = known.start_ns, end_ns
        begun = StoredSegment(known.name, *span, change.vector, unfamiliar=change.unfamiliar)
        self._open(change.key, stream, begun)
        return True

    def _open(self, key: StreamKey, stream: StoredStream, begun: StoredSegment) -> None:
        self._put(key, stream.open(begun))
        self._put(key, begun)

    def event(self, event: Event) -> None:
        """Store the text of an event with its segment."""
        stream = self._streams.get(event.key)
        name = (event.session_id, event.segment_id)
        found = stream.named(name) if stream else None
        if found is not None:
            found.text, found.nearest = event.text, event.nearest
            text = event.text, event.nearest
            self._write(lambda store: store.put_text(event.key, name, *text))

    def commit(self) -> None:
        """Make everything so far durable on disk; to be called every second."""
        for key, stream in self._streams.items():
            if stream.running is not None:
                end_ns = stream.end_of(stream.running)
                self._put(key, replace(stream.running, end_ns=end_ns))
        self._write(lambda store: store.commit())
        self.problem, self._new_problem = self._new_problem or self._store_error, ''

    def close(self) -> None:
        """Commit and close the store, so that another process can open it."""
        if self._store is not None:
            self.commit()
            self._store.close()
            self._store = None

    def recall(self, source: str, start_ns: int, end_ns: int, prompt: str) -> StoredSpans | None:
        """Return the stored spans of a time span by segment, the longest if there are many.

        They are of the standing prompt that equals `prompt`, or else of the most recent one.

        Args:
            source: Camera; '' for any.
            start_ns: Start of the time span.
            end_ns: End of the time span; 0 for now.
            prompt: Preferred prompt.

        Returns:
            The spans, or None if nothing is stored.

        Raises:
            InputError: The time span ends before it starts.
        """
        check_span(start_ns, end_ns)
        streams = [item for item in self._streams.items() if source in ('', item[0].source)]
        streams.sort(key=lambda item: (item[0].prompt == prompt, _newest(item[1])), reverse=True)
        for key, stream in streams:
            seen = stream.evaluated(start_ns, end_ns, MOST_SEEN)
            if seen:
                return StoredSpans(key.source, key.prompt, seen)
        return None

    def search(
        self,
        language: Language,
        text: str,
        source: str = '',
        start_ns: int = 0,
        end_ns: int = 0,
        limit: int = 10,
    ) -> list[Moment]:
        """Return the stored moments nearest to a text, best first.

        A moment is a run of adjacent matching hops of one segment, or the segment itself if its
        hops were deleted. A moment that is found in the streams of several prompts is returned
        once.

        Args:
            language: Text side of the model.
            text: Description to search for.
            source: Camera; '' for all.
            start_ns: Start of the searched span.
            end_ns: End of the searched span; 0 for now.
            limit: Maximum number of moments, 1..1000.

        Raises:
            InputError: The text is empty, too long or unreadable, the span ends before it starts,
                the limit is out of range, or the source is unknown.
        """
        check_readable(language, check_text(text, 'text', may_be_empty=False), 'text')
        if limit < 1:
            raise InputError(f'limit ({limit}) is not positive')
        if limit > MOST_MOMENTS:
            raise InputError(f'limit ({limit}) is more than {MOST_MOMENTS}')
        check_span(start_ns, end_ns)
        if source and source not in self.sources:
            known = ', '.join(self.sources) or 'none yet'
            raise InputError(f"unknown source '{source}' (known: {known})")
        vector = language.encode([text])[0]
        found = [
            (key.source, moment)
            for key, stream in self._streams.items()
            if source in ('', key.source)
            for moment in stream.find(
                vector, lambda vectors: language.similarity(vectors, text), start_ns, end_ns, limit
            )
        ]
        found.sort(key=lambda item: -item[1].score)
        return _distinct([Moment(where, *m.span, m.score, m.text) for where, m in found], limit)

    # Deletion.

    def _delete_old(self, source: str, newest_ns: int) -> None:
        """Delete old data of a source, also of prompts that are no longer standing prompts."""
        for key, stream in self._streams_of(source):
            self._delete_before(key, stream, *self._bounds_ns(newest_ns))

    def _bounds_ns(self, newest_ns: int) -> tuple[int, int]:
        """Return the stamps before which hops, and segments, are deleted."""
        settings = self._settings
        hops_s = min(settings.hops_kept_s, settings.kept_s)
        oldest = (newest_ns - round(kept_s * 1e9) for kept_s in (hops_s, settings.kept_s))
        hops_ns, segments_ns = (max(stamp_ns, -EVER_NS) for stamp_ns in oldest)
        return hops_ns, segments_ns

    def _delete_before(
        self, key: StreamKey, stream: StoredStream, hops_ns: int, segments_ns: int
    ) -> None:
        count = len(stream.hops)
        deleted = stream.delete_before(hops_ns, segments_ns)
        if len(stream.hops) < count:
            self._write(lambda store: store.delete_hops(key, -EVER_NS, hops_ns))
        self._delete(key, deleted)
        if not stream:
            del self._streams[key]

    def _delete_hops_after(self, key: StreamKey, stream: StoredStream, stamp_ns: int) -> None:
        if len(stream.hops) and stream.hops.newest_ns > stamp_ns:
            stream.hops.delete_after(stamp_ns)
            self._write(lambda store: store.delete_hops(key, stamp_ns + 1, EVER_NS))

    def _delete_segments_after(self, source: str, newest_ns: int) -> None:
        for key, stream in self._streams_of(source):
            self._delete(key, stream.delete_segments_after(newest_ns))

    def _delete(self, key: StreamKey, segments: list[StoredSegment]) -> None:
        for segment in segments:
            self._write(partial(Store.delete_segment, key=key, name=segment.name))

    def _keep_small(self) -> None:
        """Meet the size limit: delete streams of other models, then oldest hops, then segments."""
        if self.held_bytes + sum(self._others.values()) <= self._settings.most_bytes:
            return
        for key in list(self._others):
            if self.held_bytes + sum(self._others.values()) > self._settings.most_bytes:
                self._write(partial(Store.delete_stream, key=key))
                del self._others[key]
        while self.held_bytes > self._settings.most_bytes:
            hops = [s.hops.stamps_ns for s in self._streams.values() if len(s.hops)]
            ends = [[s.end_ns for s in stream.closed] for stream in self._streams.values()]
            stamps = sorted(int(t) for part in (hops or ends) for t in part)
            if not stamps:
                return
            until_ns = stamps[int(GIVEN_UP * len(stamps))] + 1
            for key, stream in list(self._streams.items()):
                self._delete_before(key, stream, until_ns, 0 if hops else until_ns)
        self._write(lambda store: store.shrink())

    @property
    def held_bytes(self) -> int:
        """Approximate size in memory, in bytes; about twice the size in the file."""
        streams = list(self._streams.values())
        hops, segments = (
            sum(map(len, parts))
            for parts in ([s.hops for s in streams], [s.closed for s in streams])
        )
        return _bytes(hops, segments, self._dim)

    # The store.

    def _load(self, store: Store) -> None:
        newest_ns, keys = dict[str, int](), store.streams()
        others = [key for key in keys if key.model_id != self._model_id]
        self._others = self._sizes(store, others)
        for key in (key for key in keys if key.model_id == self._model_id):
            stream = StoredStream()
            hops = store.hops(key)
            if len(hops.stamps_ns):
                stream.hops.extend(*hops)
            for segment in store.segments(key):
                stream.close(segment)
            if stream:
                self._streams[key] = stream
                self._dim = stream.dim
                newest_ns[key.source] = max(newest_ns.get(key.source, -EVER_NS), _newest(stream))
        self._held = NewestStamps(newest_ns)
        self._keep_small()

    def _sizes(self, store: Store, keys: Sequence[StreamKey]) -> dict[StreamKey, int]:
        """Return the sizes in bytes of the streams that are not empty."""
        try:
            sizes = {key: _bytes(*store.size(key)) for key in keys}
        except OutputError as error:
            self._new_problem = str(error)
            return {}
        return {key: size for key, size in sizes.items() if size}

    def _is_refused(self, source: str, stamp_ns: int) -> bool:
        refusal = self._held.refusal(source, stamp_ns)
        self._new_problem = refusal or self._new_problem
        return bool(refusal)

    def _put(self, key: StreamKey, segment: StoredSegment | None) -> None:
        if segment is not None:
            self._write(lambda store: store.put_segment(key, segment))

    def _write(self, action: Callable[[Store], None]) -> None:
        """Write to the store, if there is one; a failure is reported and the data stays in RAM."""
        if self._store is None:
            return
        try:
            action(self._store)
        except OutputError as error:
            self._new_problem = str(error)

    # Streams.

    def _stream(self, key: StreamKey) -> StoredStream:
        return self._streams.setdefault(key, StoredStream())

    def _streams_of(self, source: str) -> list[tuple[StreamKey, StoredStream]]:
        return [item for item in self._streams.items() if item[0].source == source]

    def _check(self, key: StreamKey, vector: Vector) -> None:
        if key.model_id != self._model_id:
            raise ModelMismatchError(
                f"a vector of model '{key.model_id}' cannot be compared with vectors of model "
                f"'{self._model_id}'"
            )
        if self._dim not in (0, len(vector)):
            raise InputError(
                f'the vector has {len(vector)} values, but the stored vectors have {self._dim}'
            )
        self._dim = len(vector)


def _bytes(hops: int, segments: int, dim: int) -> int:
    return hops * (4 * dim + HOP_BYTES) + segments * (8 * dim + SEGMENT_BYTES)


def _distinct(moments: Sequence[Moment], limit: int) -> list[Moment]:
    """Return the first `limit` moments, without those that mostly overlap an earlier one."""
    start, end = (np.array([getattr(m, name) for m in moments]) for name in ('start_ns', 'end_ns'))
    source = np.array([m.source for m in moments])
    known, found = np.zeros(len(moments), bool), list[Moment]()
    for i, moment in enumerate(moments):
        if len(found) == limit:
            break
        if not known[i]:
            found.append(moment)
            # A moment of one hop is a nanosecond long.
            both = np.minimum(end, end[i]) - np.maximum(start, start[i]) + 1
            either = np.maximum(end, end[i]) - np.minimum(start, start[i]) + 1
            known |= (source == source[i]) & (both > SAME * either)
    return found


def _newest(stream: StoredStream) -> int:
    ends = [stream.hops.newest_ns] if len(stream.hops) else []
    return max([*ends, *(s.end_ns for s in stream.closed[-1:])], default=0)
