# SPDX-License-Identifier: Apache-2.0
"""The remembered stream: embeddings of every hop, and segments with their words.

Vectors are unit norm; everything older than `kept_s` before a source's newest stamp is forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from vljepa_ros.errors import InputError, ModelMismatchError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.perceiver import unit
from vljepa_ros.stream.settings import MemorySettings, check_text
from vljepa_ros.stream.types import Change, Embedding, Event, Moment, Reason, StreamKey, Vector


@dataclass
class Remembered:
    """One segment of one stream."""

    key: StreamKey
    start_ns: int
    end_ns: int
    vector: Vector
    text: str = ''


SegmentName = tuple[StreamKey, str, int]  # stream, session, segment id


class Memory:
    """What the query side knows of the past. Not thread-safe: one thread owns it."""

    def __init__(self, model_id: str, settings: MemorySettings | None = None) -> None:
        self._model_id = model_id
        self._kept_ns = round((settings or MemorySettings()).kept_s * 1e9)
        self._hops: dict[StreamKey, deque[Embedding]] = {}
        self._segments: dict[SegmentName, Remembered] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras remembered."""
        return tuple(dict.fromkeys(key.source for key in self._hops))

    def record(self, embedding: Embedding) -> None:
        """Remember one hop. Raises ModelMismatchError for another model's vector."""
        self._check(embedding.key)
        hops = self._hops.setdefault(embedding.key, deque())
        if hops and embedding.stamp_ns < hops[-1].stamp_ns:
            hops.clear()  # time went back: the stream began anew
        hops.append(embedding)
        while hops[0].stamp_ns < embedding.stamp_ns - self._kept_ns:
            hops.popleft()

    def change(self, change: Change) -> None:
        """Remember a change's segments."""
        self._check(change.key)
        before = change.previous
        if change.reason is Reason.RESET and before and change.segment_start_ns < before.end_ns:
            self._forget(lambda item: item.key == change.key)
        if before is not None and change.previous_vector is not None:
            self._put(
                change, before.segment_id, before.start_ns, before.end_ns, change.previous_vector
            )
        if change.reason is not Reason.END:
            self._put(
                change, change.segment_id, change.segment_start_ns, change.stamp_ns, change.vector
            )
        oldest = change.stamp_ns - self._kept_ns
        self._forget(lambda item: item.key.source == change.key.source and item.end_ns < oldest)

    def event(self, event: Event) -> None:
        """Add its words to a remembered segment."""
        found = self._segments.get((event.key, event.session_id, event.segment_id))
        if found is not None:
            found.text = event.text

    def current(self, source: str = '') -> Embedding | None:
        """The newest hop of a source."""
        hops = [h[-1] for key, h in self._hops.items() if source in ('', key.source)]
        return max(hops, key=lambda item: item.stamp_ns, default=None)

    def pooled(
        self, source: str, start_ns: int, end_ns: int, prompt: str | None = None
    ) -> Vector | None:
        """The pooled vector of a span, of the given standing prompt or of the first."""
        for key, hops in self._hops.items():
            if source in ('', key.source) and prompt in (None, key.prompt):
                inside = [h.vector for h in hops if start_ns <= h.stamp_ns <= end_ns]
                if inside:
                    return unit(np.mean(inside, axis=0))
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
        check_text(text, 'text', may_be_empty=False)
        if limit < 1:
            raise InputError(f'limit ({limit}) is not positive')
        if source and source not in self.sources:
            known = ', '.join(self.sources) or 'none yet'
            raise InputError(f"unknown source '{source}' (known: {known})")
        found = [
            item
            for item in self._segments.values()
            if source in ('', item.key.source)
            and item.end_ns >= start_ns
            and (end_ns == 0 or item.start_ns <= end_ns)
        ]
        if not found:
            return []
        scores = language.similarity(np.stack([item.vector for item in found]), text)
        order = np.argsort(-scores, kind='stable')[:limit]
        return [
            Moment(
                found[i].key.source,
                found[i].start_ns,
                self._end(found[i]),
                float(scores[i]),
                found[i].text,
            )
            for i in order
        ]

    def _end(self, item: Remembered) -> int:
        """An open segment reaches to the newest hop."""
        newest = max(
            (other for other in self._segments.values() if other.key == item.key),
            key=lambda other: other.start_ns,
        )
        hops = self._hops.get(item.key)
        if newest is item and hops:
            return max(item.end_ns, hops[-1].stamp_ns)
        return item.end_ns

    def _put(
        self, change: Change, segment_id: int, start_ns: int, end_ns: int, vector: Vector
    ) -> None:
        name = (change.key, change.session_id, segment_id)
        known = self._segments.get(name)
        text = known.text if known else ''
        self._segments[name] = Remembered(change.key, start_ns, end_ns, vector, text)

    def _forget(self, which: object) -> None:
        assert callable(which)
        self._segments = {k: item for k, item in self._segments.items() if not which(item)}

    def _check(self, key: StreamKey) -> None:
        if key.model_id != self._model_id:
            raise ModelMismatchError(
                f"a vector of model '{key.model_id}' cannot be compared with '{self._model_id}'"
            )
