# SPDX-License-Identifier: Apache-2.0
"""Online change detection: split a stream of embeddings into segments of constant meaning.

Uses stamps only, no clock. `TRANSITIONS` is the state machine of a stream. Its signals come from
numeric rules:

CHANGE is an online form of VL-JEPA's offline rule (arXiv 2512.10942, section 4.3), which merges
adjacent segments by Ward's criterion. The newest k embeddings, with mean r, are compared with the
n embeddings before them in the segment, with mean m. Keeping them in the segment costs
n k / (n + k) |m - r|^2, minus one variance for the noise of the stream. If the cost exceeds
`change_threshold` for some k >= `confirm_hops`, a new segment began with the k-th newest
embedding. In addition, each of the newest `confirm_hops` must be nearer to the new segment than to
the old one, and the old segment must be at least `min_segment` long. A large change is detected
after `confirm_hops` embeddings, a small change only if it lasts. Hysteresis: leaving a segment and
returning to it must each exceed the threshold.

RESET: the reset counter changed, or so many embeddings were lost that the attention window does
not reach back to the previous embedding.

A DRIFT reports that the mean of some embeddings of the segment is farther than `drift_threshold`
from the vector that was published last, or that the mean `unfamiliar` of the settled embeddings
crossed `WITHHELD`.

`StreamState` contains all state of a stream and has bounded size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import (
    WITHHELD,
    Change,
    Embedding,
    Reason,
    Segment,
    StreamKey,
    Vector,
)
from vljepa_ros.core.vectors import unit
from vljepa_ros.stream.stream_state import SegmentHop, StreamState

MAX_STREAMS = (
    1024  # changed prompts leave streams open; beyond this number, the oldest stream ends
)
MINUTE_NS = 60_000_000_000
ROUNDING = 1e-6  # cosine distance between means of equal float32 vectors, due to rounding
# Increase of the log of the thresholds per event; the event budget decreases it over time.
RISE = 0.3
OPPOSITE = 4.0  # squared distance of two opposite unit vectors
# Gaps up to this time, or up to this multiple of the previous step, never reset a stream.
BRIDGED_NS, BRIDGED_HOPS = 2_000_000_000, 2


class StreamPhase(Enum):
    """Phase of a stream: whether it has an open segment."""

    CLOSED = 'no segment'
    OPEN = 'open segment'


class Signal(Enum):
    """Input of the state machine of a stream.

    An embedding is RESET, CHANGE or EMBEDDING, the first of these that applies.
    """

    RESET = 'state reset'
    CHANGE = 'confirmed change'
    EMBEDDING = 'any other embedding'
    END = 'end of the stream'


class Compared(Enum):
    """Embeddings of a segment whose mean is compared with the vector that was published last."""

    SETTLED = 'all but the newest embeddings'  # the newest `LONGEST_RUN` may still begin a segment
    ENDING = 'last embeddings'  # the newest `LAST`, because the segment closes


class Transition(NamedTuple):
    """Effect of a signal on a stream.

    `compared`: a DRIFT is reported first if these embeddings are far from the published vector, or
    if the scene became unfamiliar or familiar again.
    `reason`: reason for the change that follows. FIRST, MEANING and RESET open a segment and close
    the previous segment, if any; END only closes a segment. `phase`: phase of the stream
    afterwards.
    """

    compared: Compared | None
    reason: Reason | None
    phase: StreamPhase


# All other combinations are impossible, because they require an open segment.
TRANSITIONS: dict[tuple[StreamPhase, Signal], Transition] = {
    (StreamPhase.CLOSED, Signal.EMBEDDING): Transition(None, Reason.FIRST, StreamPhase.OPEN),
    (StreamPhase.OPEN, Signal.EMBEDDING): Transition(Compared.SETTLED, None, StreamPhase.OPEN),
    (StreamPhase.OPEN, Signal.CHANGE): Transition(
        Compared.ENDING, Reason.MEANING, StreamPhase.OPEN
    ),
    (StreamPhase.OPEN, Signal.RESET): Transition(Compared.ENDING, Reason.RESET, StreamPhase.OPEN),
    (StreamPhase.OPEN, Signal.END): Transition(Compared.ENDING, Reason.END, StreamPhase.CLOSED),
}


class Segmenter:
    """Online segmenter of any number of streams; segment ids are unique per stream and session."""

    def __init__(
        self,
        settings: SegmenterSettings,
        session_id: str,
        next_id: dict[StreamKey, int] | None = None,
    ) -> None:
        """Create a segmenter without streams.

        Args:
            settings: Parameters of change detection.
            session_id: Identifier that is copied into every change.
            next_id: Next segment id by stream, updated in place. Several segmenters of one session
                share it, so that ids stay unique.
        """
        self._settings, self._session_id = settings, session_id
        self._min_segment_ns = round(settings.min_segment_s * 1e9)
        self._streams: dict[StreamKey, StreamState] = {}
        self._next_id = {} if next_id is None else next_id
        self.changes = 0

    def push(self, embedding: Embedding) -> list[Change]:
        """Add an embedding and return the changes that it confirms.

        Raises:
            InputError: The vector is zero, not finite or of another length, or the stamp is not
                later than the previous stamp although the camera's state was not reset. The
                segmenter is unchanged.
        """
        check_vector(embedding.vector)
        stream = self._streams.get(embedding.key)
        if stream is None:
            members = [SegmentHop.of(embedding)]
            return [*self._make_room(), *self._advance(None, Signal.EMBEDDING, embedding, members)]
        check_follows(embedding, len(stream.settled), stream.reset_count, stream.newest_ns)
        elapsed_ns = max(embedding.stamp_ns - stream.newest_ns, 0)
        if needs_reset(embedding, stream.reset_count, stream.newest_ns, stream.hop_ns):
            signal, members = Signal.RESET, [SegmentHop.of(embedding)]
        else:
            stream.add(SegmentHop.of(embedding))
            members = self._split(stream)
            signal = Signal.CHANGE if members else Signal.EMBEDDING
        changes = self._advance(stream, signal, embedding, members)
        self._spend(self._streams[embedding.key], len(changes), elapsed_ns)
        return changes

    def is_repeated(self, embedding: Embedding) -> bool:
        """Return whether an embedding repeats the newest frame of its stream's last embedding.

        This happens with slow cameras. Such embeddings must not be pushed, because a repeated
        frame does not confirm a change.
        """
        stream = self._streams.get(embedding.key)
        return (
            stream is not None
            and stream.reset_count == embedding.reset_count
            and stream.newest_ns == embedding.stamp_ns
        )

    def opened(self) -> list[Change]:
        """Return the opening changes of all open segments, for late-joining subscribers.

        They carry the vector that was published last for each segment.
        """
        return [
            replace(stream.opened, vector=stream.published, unfamiliar=stream.published_unfamiliar)
            for stream in self._streams.values()
            if stream.opened is not None
        ]

    def end(self, which: Callable[[StreamKey], bool] = lambda _: True) -> list[Change]:
        """End the streams that `which` selects, by default all, and return their last changes."""
        ended = [stream for key, stream in self._streams.items() if which(key)]
        return [change for stream in ended for change in self._advance(stream, Signal.END)]

    def _advance(
        self,
        stream: StreamState | None,
        signal: Signal,
        embedding: Embedding | None = None,
        members: Sequence[SegmentHop] = (),
    ) -> list[Change]:
        """Apply `TRANSITIONS` to a stream and return the changes.

        Args:
            stream: State of the stream; None if it has no segment.
            signal: The signal.
            embedding: The newest embedding; required for all signals except END.
            members: Hops of the segment that the signal opens; empty if it opens none.
        """
        step = TRANSITIONS[StreamPhase.OPEN if stream else StreamPhase.CLOSED, signal]
        changes = list[Change]()
        if stream is not None and step.compared is not None:
            changes += self._drift(stream, step.compared)
        if stream is not None and step.phase is StreamPhase.CLOSED:
            changes.append(self._closing(stream))
            del self._streams[stream.key]
        elif embedding is not None and step.reason is not None:
            changes.append(self._open(embedding, list(members), step.reason, stream))
        self.changes += len(changes)
        return changes

    def _spend(self, stream: StreamState, events: int, elapsed_ns: int) -> None:
        """Update the strictness of a stream: events raise it, elapsed time lowers it.

        No change can occur at maximum strictness, so any time span has at most its event budget
        plus a constant number of events, not counting state resets. The update rule follows
        adaptive quantiles (Gibbs and Candes, arXiv 2106.00170).
        """
        settings = self._settings
        if not settings.events_per_minute:
            return
        due = settings.events_per_minute * elapsed_ns / MINUTE_NS
        highest = OPPOSITE * settings.longest_run  # maximum cost of the longest run
        lowest = min(settings.change_threshold / highest, settings.drift_threshold / 2.0)
        stricter = stream.strictness * math.exp(RISE * (events - due))
        stream.strictness = min(max(stricter, 1.0), 1 / lowest)

    def _split(self, stream: StreamState) -> list[SegmentHop]:
        """Remove and return the newest hops of a segment if they begin a new segment.

        The segment is split where the merge cost is highest.
        """
        settings, least = self._settings, self._settings.confirm_hops
        allowed = [
            (cost, k)
            for k, cost in enumerate(stream.costs(least).tolist(), least)
            if stream.run[-k].stamp_ns - stream.start_ns >= self._min_segment_ns
        ]
        cost, k = max(allowed, default=(0.0, 0))
        if not k or cost <= settings.change_threshold * stream.strictness:
            return []
        members, stream.run = stream.run[-k:], stream.run[:-k]
        return members

    def _drift(self, stream: StreamState, compared: Compared) -> list[Change]:
        """Return a DRIFT if the mean of the compared embeddings is far from the published vector.

        There is also a DRIFT if the scene became unfamiliar, or familiar again. Changes of meaning
        that are too small to start a segment can only be reported in this way.
        """
        crossed = False
        if compared is Compared.ENDING:
            mean, unfamiliar = stream.ending(), stream.unfamiliar()
        elif (settled := stream.settled_mean()) is not None:
            mean, unfamiliar = settled
            crossed = (unfamiliar >= WITHHELD) != (stream.published_unfamiliar >= WITHHELD)
        else:
            return []
        score = _distance(stream.published, mean)
        threshold = max(self._settings.drift_threshold * stream.strictness, ROUNDING)
        if score <= threshold and not crossed:
            return []
        stream.published, stream.published_unfamiliar = mean, unfamiliar
        return [
            Change(
                stream.newest_ns,
                stream.key,
                self._session_id,
                stream.segment_id,
                stream.start_ns,
                score,
                Reason.DRIFT,
                mean,
                unfamiliar=unfamiliar,
            )
        ]

    def _open(
        self,
        embedding: Embedding,
        members: list[SegmentHop],
        reason: Reason,
        before: StreamState | None,
    ) -> Change:
        """Open a segment, and return its opening change.

        Args:
            embedding: The newest embedding.
            members: Hops of the new segment.
            reason: Reason for the change.
            before: State of the segment that the change closes; None if there is none.
        """
        key, start_ns, score = embedding.key, members[0].stamp_ns, 1.0
        if reason is Reason.MEANING and before:
            score = _distance(before.mean(), np.sum([hop.vector for hop in members], axis=0))
        number = self._next_id.get(key, 0)
        self._next_id[key] = number + 1
        nothing = np.zeros_like(members[0].vector)
        stream = StreamState(
            key,
            embedding.reset_count,
            number,
            start_ns,
            embedding.stamp_ns,
            nothing,
            members,
            self._settings.longest_run,
        )
        if before:
            stream.noise, stream.strictness = before.noise, before.strictness
            since_ns = max(embedding.stamp_ns - before.newest_ns, 0)
            stream.hop_ns = since_ns or before.hop_ns
        stream.published, stream.published_unfamiliar = stream.mean(), stream.unfamiliar()
        self._streams[key] = stream
        end_ns = start_ns if reason is Reason.MEANING else (before.newest_ns if before else 0)
        stream.opened = Change(
            embedding.stamp_ns,
            key,
            self._session_id,
            number,
            start_ns,
            score,
            reason,
            stream.published,
            None,
            None,
            stream.published_unfamiliar,
        )
        if before is None:
            return stream.opened
        ended = Segment(before.segment_id, before.start_ns, end_ns)
        return replace(
            stream.opened,
            previous=ended,
            previous_vector=before.mean(),
            previous_unfamiliar=before.unfamiliar(),
        )

    def _closing(self, stream: StreamState) -> Change:
        """Return the change that closes a segment at the end of its stream."""
        return Change(
            stream.newest_ns,
            stream.key,
            self._session_id,
            stream.segment_id,
            stream.start_ns,
            0.0,
            Reason.END,
            stream.mean(),
            Segment(stream.segment_id, stream.start_ns, stream.newest_ns),
            stream.mean(),
            stream.unfamiliar(),
            stream.unfamiliar(),
        )

    def _make_room(self) -> list[Change]:
        """End the stream that was updated least recently if there are too many streams."""
        if len(self._streams) < MAX_STREAMS:
            return []
        oldest = min(self._streams.values(), key=lambda stream: stream.newest_ns)
        return self._advance(oldest, Signal.END)


def needs_reset(embedding: Embedding, reset_count: int, newest_ns: int, hop_ns: int) -> bool:
    """Return whether a new segment must begin, after a state reset or lost embeddings.

    Args:
        embedding: The new embedding.
        reset_count: Reset counter of the previous embedding.
        newest_ns: Stamp of the previous embedding.
        hop_ns: Time between the two previous embeddings. It matters for models whose attention
            window is one frame, so that windows never overlap.
    """
    gap_ns = embedding.stamp_ns - newest_ns
    bridged_ns = max(BRIDGED_NS, BRIDGED_HOPS * hop_ns)
    is_apart = embedding.window_start_ns > newest_ns and gap_ns > bridged_ns
    return embedding.reset_count != reset_count or is_apart


def check_follows(embedding: Embedding, dim: int, reset_count: int, newest_ns: int) -> None:
    """Check that an embedding can follow the previous embedding of its stream.

    Args:
        embedding: The new embedding.
        dim: Length of the previous vector.
        reset_count: Reset counter of the previous embedding.
        newest_ns: Stamp of the previous embedding.

    Raises:
        InputError: The length differs, or the stamp is not later although the reset counter is
            the same.
    """
    if len(embedding.vector) != dim:
        raise InputError(
            f'the embedding has {len(embedding.vector)} values, but earlier ones have {dim}'
        )
    if embedding.reset_count == reset_count and embedding.stamp_ns <= newest_ns:
        raise InputError(
            f'embedding stamp {embedding.stamp_ns / 1e9:.3f} s is not later than the previous '
            f'stamp {newest_ns / 1e9:.3f} s'
        )


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine distance between a unit vector `a` and any vector `b`."""
    return 1.0 - float(np.dot(a, unit(b)))


def check_vector(vector: Vector) -> None:
    """Raise InputError if a vector is zero or has values that are not finite."""
    if not np.isfinite(vector).all() or not vector.any():
        raise InputError('the embedding has a value that is not finite, or only zeros')
