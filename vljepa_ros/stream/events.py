# SPDX-License-Identifier: Apache-2.0
"""Changes -> events in words: one call of the Y-Decoder a change (DESIGN.md section 6, rule 8)."""

from __future__ import annotations

import numpy as np

from vljepa_ros.errors import ModelMismatchError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.types import Change, Decoded, Event, Reason, Segment, State, Vector


class EventWriter:
    """Puts segments into words. Counters: `decodes` (calls), `written` (events)."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self.decodes = self.written = 0

    def push(self, change: Change) -> list[Event]:
        """Close the segment that ended, in its final words; begin or update the one that runs."""
        ours = self._language.facts.model_id
        if change.key.model_id != ours:
            raise ModelMismatchError(
                f"a change of model '{change.key.model_id}' cannot be put into words by '{ours}'"
            )
        wanted: list[Vector] = []
        if change.previous is not None and change.previous_vector is not None:
            wanted.append(change.previous_vector)
        if change.reason is not Reason.END:
            wanted.append(change.vector)
        if not wanted:
            return []
        decoded = self._language.decode(np.stack(wanted))
        self.decodes += 1
        events = []
        if change.previous is not None and change.previous_vector is not None:
            events.append(_event(change, change.previous, State.ENDED, decoded[0]))
        if change.reason is not Reason.END:
            running = Segment(change.segment_id, change.segment_start_ns, change.stamp_ns)
            state = State.UPDATED if change.reason is Reason.DRIFT else State.STARTED
            events.append(_event(change, running, state, decoded[-1]))
        self.written += len(events)
        return events


def _event(change: Change, segment: Segment, state: State, decoded: Decoded) -> Event:
    return Event(
        change.stamp_ns,
        change.key,
        change.session_id,
        segment.segment_id,
        segment.start_ns,
        segment.end_ns,
        state,
        decoded.text,
        decoded.confidence,
        decoded.alternatives,
    )
