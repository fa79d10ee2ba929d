# SPDX-License-Identifier: Apache-2.0
"""Detection of long unfamiliar spans of a camera, by stamps; no clock is read."""

from __future__ import annotations

from vljepa_ros.core.types import WITHHELD, Embedding

REPORTED_NS = 3_000_000_000  # minimum length of an unfamiliar span that is reported


class UnfamiliarSpan:
    """The current run of unfamiliar hops of one camera."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._reset_count = 0

    def push(self, embedding: Embedding) -> bool:
        """Whether every hop of the last 3 s was unfamiliar; familiar hops and resets end a run."""
        if embedding.unfamiliar < WITHHELD:
            self._start_ns = None
            return False
        if self._start_ns is None or embedding.reset_count != self._reset_count:
            self._start_ns, self._reset_count = embedding.stamp_ns, embedding.reset_count
        return embedding.stamp_ns - self._start_ns >= REPORTED_NS
