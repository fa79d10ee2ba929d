# SPDX-License-Identifier: Apache-2.0
"""Judges the stamps of one camera's received frames. Reads no clock.

Stamps are judged as they are received, before a frame is dropped for lack of time, so that our own
drops never look like gaps (docs/design.md section 6, rule 4).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a received frame counts, its reset counter, and a log line if there is any.

    The reset counter is incremented on every state reset: earlier frames do not belong to later
    ones.
    """

    accepted: bool
    reset_count: int
    message: str = ''


class StampFilter:
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
