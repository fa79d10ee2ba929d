# SPDX-License-Identifier: Apache-2.0
"""Stamps of one camera: which frames count, and which frame fills which slot of the model's grid.

`Intake` judges stamps as they are received, before anything is dropped for lack of time, so that
our own drops never look like gaps (docs/design.md section 6, rule 4). `Sampler` then lays the
frames that were kept on a grid of the model's rate. Neither reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from vljepa_ros.core.types import Image

EARLY = 4  # by this part of a period, at most


@dataclass(frozen=True)
class Verdict:
    """Whether a received frame counts, its reset counter, and a log line if there is any.

    The reset counter is incremented on every state reset: earlier frames do not belong to later
    ones.
    """

    accepted: bool
    reset_count: int
    message: str = ''


class Intake:
    """Judges one camera's received stamps. An illegal stamp leaves the state as it was."""

    def __init__(self, max_gap_ns: int, reset_count: int = 0) -> None:
        """`reset_count`: the first value; one that no other process uses keeps streams apart."""
        self._max_gap_ns = max_gap_ns
        self._newest_ns: int | None = None
        self._shape: tuple[int, int] | None = None
        self.reset_count = reset_count
        self.received = self.accepted = self.rejected = 0
        self.dropped_back = self.dropped_still = self.resets = self.size_changes = 0

    def admit(self, stamp_ns: int, shape: tuple[int, int] | None = None) -> Verdict:
        """Judge a frame by its stamp and its (height, width) where that is known."""
        self.received += 1
        newest = self._newest_ns
        message = ''
        if newest is not None:
            step_ns = stamp_ns - newest
            if step_ns == 0:
                self.dropped_still += 1
                message = f'stamp stands still at {_seconds(stamp_ns)}'
                return Verdict(False, self.reset_count, message)
            if -self._max_gap_ns < step_ns < 0:
                self.dropped_back += 1
                return Verdict(False, self.reset_count, f'stamp goes back by {_seconds(-step_ns)}')
            if step_ns < 0 or step_ns > self._max_gap_ns:
                self.resets += 1
                self.reset_count += 1
                where = 'back' if step_ns < 0 else 'forward'
                message = f'stamp jumps {where} by {_seconds(abs(step_ns))}: starting anew'
        if shape is not None:
            message = self.resize(shape) or message
        self._newest_ns = stamp_ns
        self.accepted += 1
        return Verdict(True, self.reset_count, message)

    def reject(self) -> None:
        """Count a frame whose picture could not be read."""
        self.rejected += 1

    def resize(self, shape: tuple[int, int]) -> str:
        """Note (height, width) where it is known later than the stamp; a line if it is new."""
        before, self._shape = self._shape, shape
        if before is None or before == shape:
            return ''
        self.size_changes += 1
        return f'camera changed size from {before[1]}x{before[0]} to {shape[1]}x{shape[0]}'


def _seconds(duration_ns: int) -> str:
    return f'{duration_ns / 1e9:.3f} s'


@dataclass(frozen=True)
class Slot:
    """One slot of the grid: its time, and the frame that fills it."""

    slot_ns: int
    stamp_ns: int
    image: Image


class Sampler:
    """Fills the slots of a grid of `period_ns` that begins at the first frame.

    A slot takes the frame nearest to it, and the newest one where none is within half a period:
    a camera of the grid's rate is never quite on time, and would be seen to stand still and to
    jump. One that is early by up to a quarter of a period is taken at once. A frame is repeated
    for up to `max_gap_ns`, and what lies beyond is skipped. So are slots whose frames the caller
    dropped for lack of time, as filling them would cost the time that dropping saved. `skipped`
    counts both.
    """

    def __init__(self, period_ns: int, max_gap_ns: int) -> None:
        self._period_ns, self._max_gap_ns = period_ns, max_gap_ns
        self._start_ns = 0
        self._next = 0  # index of the next slot
        self._held: tuple[int, Image] | None = None
        self.skipped = 0

    def push(self, stamp_ns: int, image: Image, room: int | None = None) -> list[Slot]:
        """The slots settled now: older ones by the frame held, those near `stamp_ns` by this one.

        `room` says that frames before this one were dropped, and how many slots to fill at most:
        the newest, and by this frame, which is the nearest left.
        """
        held, self._held = self._held, (stamp_ns, image)
        if held is None:
            self._start_ns, self._next = stamp_ns, 0
            return [self._take(self._held)]
        half_ns = (stamp_ns - held[0]) // 2  # of a fast camera, a nearer one may follow
        late_ns, early_ns = (min(self._period_ns // part, half_ns) for part in (2, EARLY))
        if room is not None:
            self._skip(self._slots_before(stamp_ns + early_ns + 1) - room)
            held = self._held
        slots = []
        while self._slot_ns() < stamp_ns - late_ns:
            if self._slot_ns() - held[0] > self._max_gap_ns:
                self._skip(self._slots_before(stamp_ns - late_ns))
            else:
                slots.append(self._take(held))
        if self._slot_ns() <= stamp_ns + early_ns:
            slots.append(self._take(self._held))
        return slots

    def reset(self) -> None:
        """Forget everything; the next frame begins a new grid."""
        self._held = None

    def _slot_ns(self) -> int:
        return self._start_ns + self._next * self._period_ns

    def _slots_before(self, end_ns: int) -> int:
        return -((self._slot_ns() - end_ns) // self._period_ns)

    def _skip(self, count: int) -> None:
        if count > 0:
            self._next += count
            self.skipped += count

    def _take(self, frame: tuple[int, Image]) -> Slot:
        slot = Slot(self._slot_ns(), *frame)
        self._next += 1
        return slot
