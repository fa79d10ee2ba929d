# SPDX-License-Identifier: Apache-2.0
"""Frame sampler: place the frames of one camera on a time grid at the model's rate."""

from __future__ import annotations

from vljepa_ros.core.types import Image, Slot

EARLY = 4  # a frame may be early by 1/EARLY of a period


class FrameSampler:
    """Fills the slots of a time grid with spacing `period_ns` that begins at the first frame.

    Uses stamps only, no clock. A slot takes the nearest frame, or the last frame before it if no
    frame is within half a period. (If a slot took only frames at or before it, jitter would repeat
    and skip frames of a camera that runs at the rate of the grid.) A frame that is early by up to
    a quarter of a period is used immediately. A frame is repeated for up to `max_gap_ns`; later
    slots are skipped. Slots whose frames the caller dropped for lack of time are skipped, too,
    because filling them would cost the time that was saved. `skipped` counts all skipped slots.
    """

    def __init__(self, period_ns: int, max_gap_ns: int) -> None:
        self._period_ns, self._max_gap_ns = period_ns, max_gap_ns
        self._start_ns = 0
        self._next = 0  # index of the next slot
        self._newest: tuple[int, Image] | None = None
        self.skipped = 0

    def push(self, stamp_ns: int, image: Image, most: int | None = None) -> list[Slot]:
        """Add a frame and return the newly filled slots, in order of time.

        Slots before the frame take the previous frame, a slot near `stamp_ns` takes this frame.

        Args:
            stamp_ns: Stamp of the frame, later than the previous stamp.
            image: Pixels of the frame.
            most: Maximum number of slots to fill if frames were dropped before this frame: the
                frame fills the newest slots, and older slots are skipped. None if no frame was
                dropped.
        """
        previous, self._newest = self._newest, (stamp_ns, image)
        if previous is None:
            self._start_ns, self._next = stamp_ns, 0
            return [self._take(self._newest)]
        half_ns = (stamp_ns - previous[0]) // 2  # a nearer frame of a fast camera may follow
        late_ns, early_ns = (min(self._period_ns // part, half_ns) for part in (2, EARLY))
        if most is not None:
            self._skip(self._slots_before(stamp_ns + early_ns + 1) - most)
            previous = self._newest
        slots = []
        while self._slot_ns() < stamp_ns - late_ns:
            if self._slot_ns() - previous[0] > self._max_gap_ns:
                self._skip(self._slots_before(stamp_ns - late_ns))
            else:
                slots.append(self._take(previous))
        if self._slot_ns() <= stamp_ns + early_ns:
            slots.append(self._take(self._newest))
        return slots

    def reset(self) -> None:
        """Discard the state, so that the next frame begins a new grid."""
        self._newest = None

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
