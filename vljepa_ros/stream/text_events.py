# SPDX-License-Identifier: Apache-2.0
"""Turn changes into text events, with one call of the text decoder per change.

This follows rule 8 of docs/design.md, section 6. The text of a segment whose scene is unfamiliar
to the model is withheld and not decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.core.errors import ModelMismatchError
from vljepa_ros.core.protocols import Language
from vljepa_ros.core.types import (
    WITHHELD,
    AbstainReason,
    Change,
    Decoded,
    Event,
    Reason,
    Segment,
    State,
    StreamKey,
)

_WITHHELD_TEXT = Decoded('', 0.0)  # text of an unfamiliar segment


@dataclass(frozen=True)
class _OpenSegment:
    """Open segment of a stream with its text, which is withheld if the scene is unfamiliar."""

    session_id: str
    segment: Segment  # its end is the newest known stamp
    decoded: Decoded
    unfamiliar: float

    @property
    def is_withheld(self) -> bool:
        """Whether the text is withheld."""
        return self.unfamiliar >= WITHHELD


class EventWriter:
    """Turns changes into text events. Counters: `decodes` (vectors) and `written` (events)."""

    def __init__(self, language: Language) -> None:
        self._language = language
        self._open: dict[StreamKey, _OpenSegment] = {}
        self.decodes = self.written = 0

    def push(self, change: Change) -> list[Event]:
        """Return the text events that follow from one change.

        The closed segment gets an ENDED event with the text that was published last; the open
        segment gets a STARTED or UPDATED event. If the text of a closed segment is unknown,
        because the segment began before this writer was created, its vector is decoded now. An
        opening change that is received again is ignored. If the session changed, or if changes
        were lost, the segment that was left open gets an ENDED event, too.

        Raises:
            ModelMismatchError: The change is from another model.
        """
        ours = self._language.facts.model_id
        if change.key.model_id != ours:
            raise ModelMismatchError(
                f"a change of model '{change.key.model_id}' cannot be decoded by model '{ours}'"
            )
        if change.reason is not Reason.DRIFT and change.previous is None and self._is_open(change):
            return []
        events = self._abandoned(change)
        closed, begins = change.previous, change.reason is not Reason.END
        final, is_familiar = self._final_text(change), change.unfamiliar < WITHHELD
        wanted = [] if final or change.previous_vector is None else [change.previous_vector]
        wanted += [change.vector] if begins and is_familiar else []
        decoded = self._language.decode(np.stack(wanted)) if wanted else []
        self.decodes += len(wanted)
        if closed is not None and (final or change.previous_vector is not None):
            text, unfamiliar = final or decoded[0], change.previous_unfamiliar
            events.append(_event(change, closed, State.ENDED, text, unfamiliar))
        if begins:
            text = decoded[-1] if is_familiar else _WITHHELD_TEXT
            running = Segment(change.segment_id, change.segment_start_ns, change.stamp_ns)
            state = State.UPDATED if change.reason is Reason.DRIFT else State.STARTED
            events.append(_event(change, running, state, text, change.unfamiliar))
            opened = _OpenSegment(change.session_id, running, text, change.unfamiliar)
            self._open[change.key] = opened
        self.written += len(events)
        return events

    def _is_open(self, change: Change) -> bool:
        known = self._open.get(change.key)
        names = (change.session_id, change.segment_id)
        return known is not None and (known.session_id, known.segment.segment_id) == names

    def _abandoned(self, change: Change) -> list[Event]:
        """Return the ENDED event of an open segment that no change will close any more.

        This happens if the process of its session ended, or if its closing change was lost.
        """
        known = self._open.get(change.key)
        running = (change.previous or change).segment_id
        if known is None or (known.session_id, known.segment.segment_id) == (
            change.session_id,
            running,
        ):
            return []
        del self._open[change.key]
        own = replace(change, session_id=known.session_id)
        return [_event(own, known.segment, State.ENDED, known.decoded, known.unfamiliar)]

    def _final_text(self, change: Change) -> Decoded | None:
        """Return the final text of the segment that a change closes; None if it is unknown."""
        known, closed = self._open.get(change.key), change.previous
        if closed is None:
            return None
        self._open.pop(change.key, None)
        if change.previous_unfamiliar >= WITHHELD:
            return _WITHHELD_TEXT
        names = (change.session_id, closed.segment_id)
        is_same = known and (known.session_id, known.segment.segment_id) == names
        return known.decoded if known and is_same and not known.is_withheld else None


def _event(
    change: Change, segment: Segment, state: State, decoded: Decoded, unfamiliar: float
) -> Event:
    withheld = unfamiliar >= WITHHELD
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
        unfamiliar,
        AbstainReason.UNFAMILIAR if withheld else AbstainReason.NONE,
    )
