# SPDX-License-Identifier: Apache-2.0
"""Changes -> events in words: one decode a change (docs/design.md section 6, rule 8).

The text of a segment that is unfamiliar to the model is withheld, and not decoded.
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

NOTHING = Decoded('', 0.0)  # what is said of an unfamiliar segment


@dataclass(frozen=True)
class _Said:
    """The words of a stream's running segment; withheld where it is unfamiliar."""

    session_id: str
    segment: Segment  # as far as it is known
    words: Decoded
    unfamiliar: float

    @property
    def is_withheld(self) -> bool:
        """Whether nothing was said of it."""
        return self.unfamiliar >= WITHHELD


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
        final, is_known = self._final_words(change), change.unfamiliar < WITHHELD
        wanted = [] if final or change.previous_vector is None else [change.previous_vector]
        wanted += [change.vector] if begins and is_known else []
        decoded = self._language.decode(np.stack(wanted)) if wanted else []
        self.decodes += len(wanted)
        if closed is not None and (final or change.previous_vector is not None):
            words, unfamiliar = final or decoded[0], change.previous_unfamiliar
            events.append(_event(change, closed, State.ENDED, words, unfamiliar))
        if begins:
            words = decoded[-1] if is_known else NOTHING
            running = Segment(change.segment_id, change.segment_start_ns, change.stamp_ns)
            state = State.UPDATED if change.reason is Reason.DRIFT else State.STARTED
            events.append(_event(change, running, state, words, change.unfamiliar))
            said = _Said(change.session_id, running, words, change.unfamiliar)
            self._said[change.key] = said
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
        return [_event(gone, said.segment, State.ENDED, said.words, said.unfamiliar)]

    def _final_words(self, change: Change) -> Decoded | None:
        """What was last said of the segment that this change closes; withheld: `NOTHING`."""
        said, closed = self._said.get(change.key), change.previous
        if closed is None:
            return None
        self._said.pop(change.key, None)
        if change.previous_unfamiliar >= WITHHELD:
            return NOTHING
        names = (change.session_id, closed.segment_id)
        is_last = said and (said.session_id, said.segment.segment_id) == names
        return said.words if said and is_last and not said.is_withheld else None


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
