# SPDX-License-Identifier: Apache-2.0
"""Lays the accepted frames of one camera on the model's time grid. Reads no clock."""

from __future__ import annotations

from vljepa_ros.core.types import Image, Slot

EARLY = 4  # a frame may be early by this part of a period


class FrameSampler:
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
