# SPDX-License-Identifier: Apache-2.0
"""Changes -> events in words: one decode a change (docs/design.md section 6, rule 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.errors import ModelMismatchError
from vljepa_ros.stream.interfaces import Language
from vljepa_ros.stream.types import Change, Decoded, Event, Reason, Segment, State, StreamKey


@dataclass(frozen=True)
class _Said:
    """The words of a stream's running segment."""

    session_id: str
    segment: Segment  # as far as it is known
    words: Decoded


class EventWriter:
    """Puts segments into words. Counters: `decodes` (vectors), `written` (events)."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._said: dict[StreamKey, _Said] = {}  # of the streams that are open
        self.decodes = self.written = 0

    def push(self, change: Change) -> list[Event]:
        """Close the segment that ended, in the words last said; begin or update the one that runs.

        A segment whose words are not known here, as it began before this writer did, is put into
        words at its end. One that began is told once, though its change may come again. Where
        another session begins, or changes were missed, whatever was left open has ended.
        """
        ours = self._language.facts.model_id
        if change.key.model_id != ours:
            raise ModelMismatchError(
                f"a change of model '{change.key.model_id}' cannot be put into words by '{ours}'"
            )
        if change.reason is not Reason.DRIFT and change.previous is None and self._is_said(change):
            return []
        events = self._abandoned(change)
        closed, begins = change.previous, change.reason is not Reason.END
        final = self._final_words(change)
        wanted = [] if final or change.previous_vector is None else [change.previous_vector]
        wanted += [change.vector] if begins else []
        decoded = self._language.decode(np.stack(wanted)) if wanted else []
        self.decodes += len(wanted)
        if closed is not None and (final or change.previous_vector is not None):
            events.append(_event(change, closed, State.ENDED, final or decoded[0]))
        if begins:
            running = Segment(change.segment_id, change.segment_start_ns, change.stamp_ns)
            state = State.UPDATED if change.reason is Reason.DRIFT else State.STARTED
            events.append(_event(change, running, state, decoded[-1]))
            self._said[change.key] = _Said(change.session_id, running, decoded[-1])
        self.written += len(events)
        return events

    def _is_said(self, change: Change) -> bool:
        said = self._said.get(change.key)
        names = (change.session_id, change.segment_id)
        return said is not None and (said.session_id, said.segment.segment_id) == names

    def _abandoned(self, change: Change) -> list[Event]:
        """The end of what is open, where nothing more will come of it.

        Another session, whose process is gone, left it so; or what closed it was not heard.
        """
        said = self._said.get(change.key)
        running = (change.previous or change).segment_id
        if said is None or (said.session_id, said.segment.segment_id) == (
            change.session_id,
            running,
        ):
            return []
        del self._said[change.key]
        gone = replace(change, session_id=said.session_id)
        return [_event(gone, said.segment, State.ENDED, said.words)]

    def _final_words(self, change: Change) -> Decoded | None:
        """What was last said of the segment that this change closes."""
        said, closed = self._said.get(change.key), change.previous
        if closed is None:
            return None
        self._said.pop(change.key, None)
        names = (change.session_id, closed.segment_id)
        is_last = said and (said.session_id, said.segment.segment_id) == names
        return said.words if said and is_last else None


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
        decoded.nearest,
    )
