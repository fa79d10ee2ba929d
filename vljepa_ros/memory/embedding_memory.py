# SPDX-License-Identifier: Apache-2.0
"""Memory of all streams: embeddings of recent hops, and segments with texts for a longer time.

A stream is one camera, one prompt and one model. A hop is one inference step, which yields one
embedding per stream. Vectors have unit norm. Hops are deleted when they are `hops_kept_s` older
than the newest data of their camera, segments when they are `kept_s` older; a stamp that jumps
does not count as the newest at once (see `retention`). If the memory exceeds
`most_bytes`, the oldest hops are deleted earlier, then the oldest segments. With a `Store`, the
memory is also written to a file and survives the process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from vljepa_ros.core.errors import InputError, ModelMismatchError, OutputError
from vljepa_ros.core.protocols import Language, check_readable
from vljepa_ros.core.settings import EVER_NS, MemorySettings, check_span, check_text
from vljepa_ros.core.types import (
    Change,
    Embedding,
    EvaluatedSpan,
    Event,
    Moment,
    Reason,
    StreamKey,
    Vector,
)
from vljepa_ros.memory.retention import Clock, Retention
from vljepa_ros.memory.segment_store import Store
from vljepa_ros.memory.stream_memory import StoredSegment, StoredStream

HOP_BYTES, SEGMENT_BYTES = 16, 400  # size of one entry without its vector
CHECKED = 64  # hops between two checks of the size limit
SELDOM = 4096  # hops between two deletions of old data of other models
GIVEN_UP = 0.1  # fraction of all entries, the oldest, that is deleted at a time to meet the limit
MOST_MOMENTS = 1000  # maximum number of search results
MOST_SEEN = 16  # maximum number of spans that an answer about the past is based on
SAME = 0.5  # moments are the same if they overlap by more than this fraction of their union


class StoredSpans(NamedTuple):
    """Result of `Memory.recall`: stored spans (`seen`) of one stream, in order of time.

    `source` and `prompt` identify the stream; its prompt can differ from the asked question.
    """

    source: str
    prompt: str
    seen: list[EvaluatedSpan]


class Memory:
    """Stored embeddings and segments of all streams. Not thread-safe: only one thread may use it.

    If the stamps of a camera go back (a bag that is played in a loop) for a while, newer data of
    that camera is deleted, except data that was in the file when it was opened; until then, the
    new data is held back. `problem` is the reason why data was not stored between the last two
    calls of `commit`; '' if all data was stored. Streams of other models in the file are retained
    while there is space, but never searched.
    """

    def __init__(
        self,
        model_id: str,
        settings: MemorySettings | None = None,
        store: Store | None = None,
        store_error: str = '',
        now: Clock | None = None,
    ) -> None:
        """Create a memory, and load the streams of this model from the file.

        Args:
            model_id: Only vectors of this model are accepted.
            settings: Retention times and size limit.
            store: Opened file of the memory; None to use RAM only.
            store_error: Problem to report on every commit if the file could not be opened.
            now: Clock that the stamps should agree with, in nanoseconds; later stamps expire
                nothing. None if there is no such clock.

        Raises:
            OutputError: The file cannot be read.
        """
        self._model_id, self._store, self._store_error = model_id, store, store_error
        self._settings = settings or MemorySettings()
        self._streams: dict[StreamKey, StoredStream] = {}
        self._recorded = self._dim = 0
        # Bytes of the streams of other models, in the order of their creation.
        self._others = dict[StreamKey, int]()
        self.problem, self._new_problem = '', ''
        self._retention = Retention(now)
        if store is not None:
            store.limit_log(self._settings.most_bytes)
            self._load(store)

    @property
    def foreign(self) -> int:
        """Number of streams of other models in the file that are not empty."""
        return len(self._others)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the cameras that have stored streams."""
        return tuple(dict.fromkeys(key.source for key in self._streams))

    def record(self, embedding: Embedding) -> None:
        """Store one embedding; it replaces an embedding of its stream with the same stamp.

        Newer embeddings of the same camera are deleted. If they are trusted data, the embedding is
        held back first, or refused if they were in the file when it was opened; `problem` states
        the reason.

        Raises:
            ModelMismatchError: The vector is from another model.
            InputError: The vector differs in length from the stored vectors.
        """
        self._check(embedding.key, embedding.vector)
        source = embedding.key.source
        self._report(
            self._retention.store(source, embedding.stamp_ns, lambda: self._record(embedding))
        )
        self._delete_old(source)
        self._recorded += 1
        if self._recorded % CHECKED == 0:
            self._keep_small()
        if self._recorded % SELDOM == 1:
            mine, bounds_ns = (self._model_id, source), self._bounds_ns(source)
            self._write(lambda store: store.delete_of_other_models(*mine, *bounds_ns))
            if self._store is not None:
                self._others = self._sizes(self._store, list(self._others))

    def _record(self, embedding: Embedding) -> None:
        key, stamp_ns = embedding.key, embedding.stamp_ns
        for other, stream in self._streams_of(key.source):
            self._delete_hops_after(other, stream, stamp_ns)
        hops = self._stream(key).hops
        if len(hops) and hops.newest_ns == stamp_ns:  # the newest frame is repeated
            hops.delete_after(stamp_ns - 1)
        hop = stamp_ns, embedding.vector, embedding.unfamiliar
        hops.append(*hop)
        self._write(lambda store: store.put_hop(key, *hop))

    def change(self, change: Change) -> None:
        """Store the segment that a change closes and the segment that it opens or updates.

        Raises:
            ModelMismatchError: The vector is from another model.
            InputError: The vector differs in length from the stored vectors.
        """
        self._check(change.key, change.vector)
        key, before = change.key, change.previous
        if before is None and change.reason is not Reason.END and self._reopen(change):
            return
        stream = self._streams.get(key)
        ends_ns = [before.end_ns if before else -EVER_NS, stream.last_end_ns if stream else 0]
        goes_back = max(ends_ns) > change.stamp_ns
        self._report(
            self._retention.follow(
                key.source, change.stamp_ns, goes_back, lambda: self._change(change)
            )
        )

    def _change(self, change: Change) -> None:
        key, session, before = change.key, change.session_id, change.previous
        stream = self._stream(key)
        if before is not None and before.end_ns > change.stamp_ns:  # stamps went back
            self._delete_segments_after(key.source, change.stamp_ns)
            before = None
        elif before is not None and not stream.can_close(before.end_ns):  # it was discarded
            before = None
        elif stream.last_end_ns > change.stamp_ns:  # stamps went back before its first change
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
        self._delete_old(key.source)

    def _reopen(self, change: Change) -> bool:
        """Update the stored segment to which a DRIFT or a repeated opening change refers.

        Returns:
            Whether the segment of the change is stored, and was therefore updated.
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
        """Store the text of an event in its segment; do nothing if the segment is not stored."""
        stream = self._streams.get(event.key)
        name = (event.session_id, event.segment_id)
        found = stream.named(name) if stream else None
        if found is None:
            self._retention.follow_held(event.key.source, lambda: self.event(event))
        else:
            found.text, found.nearest = event.text, event.nearest
            text = event.text, event.nearest
            self._write(lambda store: store.put_text(event.key, name, *text))

    def commit(self) -> None:
        """Commit all data to the file and update `problem`; call this every second."""
        for key, stream in self._streams.items():
            if stream.running is not None:
                end_ns = stream.end_of(stream.running)
                self._put(key, replace(stream.running, end_ns=end_ns))
        self._write(lambda store: store.commit())
        self.problem, self._new_problem = self._new_problem or self._store_error, ''

    def close(self) -> None:
        """Commit and close the file, so that another process can open it."""
        if self._store is not None:
            self.commit()
            self._store.close()
            self._store = None

    def recall(self, source: str, start_ns: int, end_ns: int, prompt: str) -> StoredSpans | None:
        """Select one stream and return its stored spans in a time span, one per segment.

        The stream whose standing prompt equals `prompt` is preferred, then the stream with the
        newest data. If there are more than `MOST_SEEN` spans, the longest are returned.

        Args:
            source: Name of the camera; '' for any.
            start_ns: Start of the time span; 0 for an open start.
            end_ns: End of the time span; 0 for an open end.
            prompt: Preferred prompt.

        Returns:
            The stored spans, or None if no stream has data in the time span.

        Raises:
            InputError: The time span is invalid.
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
        """Return the stored moments that are most similar to a text, best first.

        A moment is a run of adjacent matching hops of one segment, or the segment itself if its
        hops were deleted. Of several moments of a camera that mostly overlap, for example because
        its streams have different prompts, only the best is returned.

        Args:
            language: Text side of the model.
            text: Description to search for.
            source: Name of the camera; '' for all.
            start_ns: Start of the searched span; 0 for an open start.
            end_ns: End of the searched span; 0 for an open end.
            limit: Maximum number of moments, 1..1000.

        Raises:
            InputError: The text is empty, too long or unreadable, the span is invalid, the limit
                is out of range, or the source is unknown.
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

    def _delete_old(self, source: str) -> None:
        """Delete data that is older than its retention time from all streams of a camera."""
        for key, stream in self._streams_of(source):
            self._delete_before(key, stream, *self._bounds_ns(source))

    def _bounds_ns(self, source: str) -> tuple[int, int]:
        """Return two stamps: hops before the first and segments before the second are too old."""
        settings, now_ns = self._settings, self._retention.age_ns(source)
        hops_s = min(settings.hops_kept_s, settings.kept_s)
        oldest = (now_ns - round(kept_s * 1e9) for kept_s in (hops_s, settings.kept_s))
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
        """Meet the size limit: delete streams of other models, then old hops, then segments."""
        if self.held_bytes + sum(self._others.values()) <= self._settings.most_bytes:
            return
        for key in list(self._others):
            if self.held_bytes + sum(self._others.values()) > self._settings.most_bytes:
                self._write(partial(Store.delete_stream, key=key))
                del self._others[key]
        while self.held_bytes > self._settings.most_bytes:
            # Ages, not stamps: the clocks of two cameras can differ.
            now_ns = {source: self._retention.age_ns(source) for source in self.sources}
            streams = [(now_ns[key.source], stream) for key, stream in self._streams.items()]
            hops = [now - int(t) for now, s in streams for t in s.hops.stamps_ns]
            ends = [now - s.end_ns for now, stream in streams for s in stream.closed]
            ages_ns = sorted(hops or ends, reverse=True)
            if not ages_ns:
                return
            most_ns = ages_ns[int(GIVEN_UP * len(ages_ns))]
            for key, stream in list(self._streams.items()):
                until_ns = now_ns[key.source] - most_ns + 1
                self._delete_before(key, stream, until_ns, -EVER_NS if hops else until_ns)
        self._write(lambda store: store.shrink())

    @property
    def held_bytes(self) -> int:
        """Approximate size of the data in RAM, in bytes; the file is about half as large."""
        streams = list(self._streams.values())
        hops, segments = (
            sum(map(len, parts))
            for parts in ([s.hops for s in streams], [s.closed for s in streams])
        )
        return _bytes(hops, segments, self._dim)

    @property
    def file_bytes(self) -> int:
        """Size of the file and its write-ahead log in bytes; 0 if there is no file."""
        return self._store.file_bytes if self._store is not None else 0

    # The store.

    def _load(self, store: Store) -> None:
        stamps_ns, keys = defaultdict[str, list[int]](list), store.streams()
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
                stamps_ns[key.source] += hops.stamps_ns.tolist()
                stamps_ns[key.source] += [t for s in stream.closed for t in (s.start_ns, s.end_ns)]
        for source, found in stamps_ns.items():
            self._retention.load(source, found, store.written_ns)
        self._keep_small()

    def _sizes(self, store: Store, keys: Sequence[StreamKey]) -> dict[StreamKey, int]:
        """Return the size in bytes of each stream in `keys` that is not empty."""
        try:
            sizes = {key: _bytes(*store.size(key)) for key in keys}
        except OutputError as error:
            self._new_problem = str(error)
            return {}
        return {key: size for key, size in sizes.items() if size}

    def _report(self, problem: str) -> None:
        self._new_problem = problem or self._new_problem

    def _put(self, key: StreamKey, segment: StoredSegment | None) -> None:
        if segment is not None:
            self._write(lambda store: store.put_segment(key, segment))

    def _write(self, action: Callable[[Store], None]) -> None:
        """Write to the file, if there is one; a failure is reported, and the data stays in RAM."""
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
    """Return the first `limit` moments; skip moments that mostly overlap an earlier moment."""
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
