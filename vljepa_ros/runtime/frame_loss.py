# SPDX-License-Identifier: Apache-2.0
"""Detection of lost camera frames from the counts of received and lost frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SPAN_S = 10.0  # length of the sliding window
LEAST_SHARE = 0.7  # share of received frames below which frames count as missing
CLEAR_SHARE = 0.8  # share from which they no longer do, so that warnings do not alternate
LEAST_FRAMES = 5  # sent frames in the window that suffice to judge


@dataclass
class FrameLoss:
    """Share of the published frames that were received, in a sliding window of `SPAN_S`.

    The counts come from the middleware's sequence numbers, so cameras with irregular rates are
    judged correctly. A middleware without sequence numbers never reports a loss.
    """

    share: float | None = None  # at the time when the loss was detected; None: no loss
    _counts: deque[tuple[float, int, int]] = field(default_factory=deque)

    def push(self, now_s: float, received: int, lost: int) -> float | None:
        """Record the total counts at a time, and return `share`.

        Args:
            now_s: Steady time in s; call about once a second.
            received: Number of frames received since the start.
            lost: Number of frames lost since the start.
        """
        counts = self._counts
        counts.append((now_s, received, lost))
        while len(counts) > 1 and counts[1][0] <= now_s - SPAN_S:
            counts.popleft()
        began_s, received_before, lost_before = counts[0]
        sent = received - received_before + lost - lost_before
        if now_s - began_s < SPAN_S or sent < LEAST_FRAMES:
            return self.share
        share = (received - received_before) / sent
        if self.share is None and share < LEAST_SHARE:
            self.share = share
        elif share >= CLEAR_SHARE:
            self.share = None
        return self.share
