# SPDX-License-Identifier: Apache-2.0
"""Stamp filter: accept or drop the frames of one camera by their stamps, and detect gaps.

Uses stamps only, no clock. Stamps are checked on arrival, before frames are dropped for lack of
time, so that dropped frames never look like gaps (docs/design.md section 6, rule 4).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StampDecision:
    """Decision about one received frame, with a log line `message` or ''.

    `reset_count` is incremented on every state reset of the camera. Frames with different reset
    counters must not be processed together.
    """

    accepted: bool
    reset_count: int
    message: str = ''


class StampFilter:
    """Accepts or drops frames of one camera by stamp; a dropped frame changes only counters."""

    def __init__(self, max_gap_ns: int, reset_count: int = 0) -> None:
        """Create a filter before the first frame.

        Args:
            max_gap_ns: Longest step between stamps, forward or back, that does not reset the
                camera's state.
            reset_count: Initial reset counter; a value that is unique to the process separates
                the streams of different processes.
        """
        self._max_gap_ns = max_gap_ns
        self._newest_ns: int | None = None
        self._shape: tuple[int, int] | None = None
        self.reset_count = reset_count
        self.received = self.accepted = self.rejected = 0
        self.dropped_back = self.dropped_still = self.resets = self.size_changes = 0

    def admit(self, stamp_ns: int, shape: tuple[int, int] | None = None) -> StampDecision:
        """Decide whether to accept a received frame and whether to reset the camera's state.

        Args:
            stamp_ns: Stamp of the frame.
            shape: Image size (height, width) in pixels; None if it is not known yet.
        """
        self.received += 1
        newest = self._newest_ns
        message = ''
        if newest is not None:
            step_ns = stamp_ns - newest
            if step_ns == 0:
                self.dropped_still += 1
                message = f'stamp repeats at {_seconds(stamp_ns)}: frame dropped'
                return StampDecision(False, self.reset_count, message)
            if -self._max_gap_ns < step_ns < 0:
                self.dropped_back += 1
                message = f'stamp goes back by {_seconds(-step_ns)}: frame dropped'
                return StampDecision(False, self.reset_count, message)
            if step_ns < 0 or step_ns > self._max_gap_ns:
                self.resets += 1
                self.reset_count += 1
                where = 'back' if step_ns < 0 else 'forward'
                message = f'stamp jumps {where} by {_seconds(abs(step_ns))}: camera state reset'
        if shape is not None:
            message = self.resize(shape) or message
        self._newest_ns = stamp_ns
        self.accepted += 1
        return StampDecision(True, self.reset_count, message)

    def reject(self) -> None:
        """Count a frame whose image could not be decoded."""
        self.rejected += 1

    def resize(self, shape: tuple[int, int]) -> str:
        """Record the image size (height, width), and return a log line if it changed, else ''."""
        before, self._shape = self._shape, shape
        if before is None or before == shape:
            return ''
        self.size_changes += 1
        return f'image size changed from {before[1]}x{before[0]} to {shape[1]}x{shape[0]}'


def _seconds(duration_ns: int) -> str:
    return f'{duration_ns / 1e9:.3f} s'
