# SPDX-License-Identifier: Apache-2.0
"""The remembered stream: embeddings of every hop, and segments with their words.

Vectors are unit norm; everything older than `kept_s` before a source's newest stamp is forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from vljepa_ros.errors import InputError, ModelMismatchError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.perceiver import unit
from vljepa_ros.stream.settings import MemorySettings, check_text
from vljepa_ros.stream.types import Change, Embedding, Event, Moment, Reason, StreamKey, Vector

SegmentName = tuple[str, int]  # session, segment id


@dataclass
class _Segment:
    """One segment of one stream."""

    start_ns: int
    end_ns: int
    vector: Vector
    text: str = ''


@dataclass
class _Stream:
    """One stream's hops and segments, oldest first; `running` is the segment that is open."""

    hops: deque[Embedding] = field(default_factory=deque)
    segments: dict[SegmentName, _Segment] = field(default_factory=dict)
    running: _Segment | None = None

    def end_of(self, segment: _Segment) -> int:
        """The running segment reaches to the newest hop."""
        if segment is self.running and self.hops:
            return max(segment.end_ns, self.hops[-1].stamp_ns)
        return segment.end_ns

    def put(self, name: SegmentName, start_ns: int, end_ns: int, vector: Vector) -> _Segment:
        """Add a segment, or replace all of it but its words."""
        known = self.segments.get(name)
        segment = _Segment(start_ns, end_ns, vector, known.text if known else '')
        self.segments[name] = segment
        return segment

    def forget_before(self, oldest_ns: int) -> None:
        """Forget hops and segments that ended earlier."""
        while self.hops and self.hops[0].stamp_ns < oldest_ns:
            self.hops.popleft()
        while self.segments and self.end_of(next(iter(self.segments.values()))) < oldest_ns:
            del self.segments[next(iter(self.segments))]


class Memory:
    """What the query side knows of the past. Not thread-safe: one thread owns it.

    Where a source's time goes back (a looping bag), what it had seen after that is forgotten.
    """

    def __init__(self, model_id: str, settings: MemorySettings | None = None) -> None:
        self._model_id = model_id
        self._kept_ns = round((settings or MemorySettings()).kept_s * 1e9)
        self._streams: dict[StreamKey, _Stream] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras remembered."""
        return tuple(dict.fromkeys(key.source for key in self._streams))

    def record(self, embedding: Embedding) -> None:
        """Remember one hop. Raises ModelMismatchError for another model's vector."""
        self._check(embedding.key)
        for stream in self._streams_of(embedding.key.source):
            while stream.hops and stream.hops[-1].stamp_ns > embedding.stamp_ns:
                stream.hops.pop()
        self._stream(embedding.key).hops.append(embedding)
        self._forget_old(embedding.key.source, embedding.stamp_ns)

    def change(self, change: Change) -> None:
        """Remember a change's segments."""
        self._check(change.key)
        stream, before = self._stream(change.key), change.previous
        if before is not None and before.end_ns > change.stamp_ns:  # time went back
            self._forget_segments_after(change.key.source, change.stamp_ns)
        elif before is not None and change.previous_vector is not None:
            name = (change.session_id, before.segment_id)
            stream.put(name, before.start_ns, before.end_ns, change.previous_vector)
        stream.running = None
        if change.reason is not Reason.END:
            name = (change.session_id, change.segment_id)
            stream.running = stream.put(
                name, change.segment_start_ns, change.stamp_ns, change.vector
            )
        self._forget_old(change.key.source, change.stamp_ns)

    def event(self, event: Event) -> None:
        """Add its words to a remembered segment."""
        stream = self._streams.get(event.key, _Stream())
        found = stream.segments.get((event.session_id, event.segment_id))
        if found is not None:
            found.text = event.text

    def recall(
        self, source: str, start_ns: int, end_ns: int, prompt: str
    ) -> tuple[Vector, Moment] | None:
        """The pooled vector of the hops in a span, and the stretch of these; `end_ns` 0 is now.

        Of the standing prompt that is `prompt`, or else of the one that was asked last.
        """
        streams = [
            (key, stream.hops)
            for key, stream in self._streams.items()
            if source in ('', key.source) and stream.hops
        ]
        streams.sort(key=lambda s: (s[0].prompt == prompt, s[1][-1].stamp_ns), reverse=True)
        for key, hops in streams:
            inside = [
                hop
                for hop in hops
                if start_ns <= hop.stamp_ns and (end_ns == 0 or hop.stamp_ns <= end_ns)
            ]
            if inside:
                vector = unit(np.mean([hop.vector for hop in inside], axis=0))
                return vector, Moment(key.source, inside[0].stamp_ns, inside[-1].stamp_ns, 1.0)
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
        """The segments nearest to a text, best first; `end_ns` 0 is now.

        Raises InputError on an empty or huge text, a limit below 1, or an unknown source.
        """
        language.check(check_text(text, 'text', may_be_empty=False))
        if limit < 1:
            raise InputError(f'limit ({limit}) is not positive')
        if source and source not in self.sources:
            known = ', '.join(self.sources) or 'none yet'
            raise InputError(f"unknown source '{source}' (known: {known})")
        found = [
            (key.source, segment, stream.end_of(segment))
            for key, stream in self._streams.items()
            if source in ('', key.source)
            for segment in stream.segments.values()
            if stream.end_of(segment) >= start_ns and (end_ns == 0 or segment.start_ns <= end_ns)
        ]
        if not found:
            return []
        scores = language.similarity(np.stack([segment.vector for _, segment, _ in found]), text)
        ranked = sorted(zip(scores, found), key=lambda item: -item[0])[:limit]
        return [
            Moment(where, segment.start_ns, segment_end_ns, float(score), segment.text)
            for score, (where, segment, segment_end_ns) in ranked
        ]

    def _stream(self, key: StreamKey) -> _Stream:
        return self._streams.setdefault(key, _Stream())

    def _streams_of(self, source: str) -> list[_Stream]:
        return [stream for key, stream in self._streams.items() if key.source == source]

    def _forget_old(self, source: str, newest_ns: int) -> None:
        """Those of prompts that are no longer asked, too."""
        for stream in self._streams_of(source):
            stream.forget_before(newest_ns - self._kept_ns)
        self._streams = {k: s for k, s in self._streams.items() if s.hops or s.segments}

    def _forget_segments_after(self, source: str, newest_ns: int) -> None:
        for stream in self._streams_of(source):
            stream.segments = {
                name: segment
                for name, segment in stream.segments.items()
                if segment.end_ns <= newest_ns
            }

    def _check(self, key: StreamKey) -> None:
        if key.model_id != self._model_id:
            raise ModelMismatchError(
                f"a vector of model '{key.model_id}' cannot be compared with '{self._model_id}'"
            )
