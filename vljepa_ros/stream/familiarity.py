# SPDX-License-Identifier: Apache-2.0
"""Detect when the scene of a camera has been unfamiliar to the model for some time.

Uses stamps only, no clock. A hop is one inference step of a camera.
"""

from __future__ import annotations

from vljepa_ros.core.types import WITHHELD, Embedding

REPORTED_NS = 3_000_000_000  # minimum length of an unfamiliar span that is reported


class UnfamiliarSpan:
    """Current run of consecutive unfamiliar hops of one camera."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._reset_count = 0

    def push(self, embedding: Embedding) -> bool:
        """Add an embedding, and return whether the scene has been unfamiliar for at least 3 s.

        A familiar hop or a state reset of the camera ends the run.
        """
        if embedding.unfamiliar < WITHHELD:
            self._start_ns = None
            return False
        if self._start_ns is None or embedding.reset_count != self._reset_count:
            self._start_ns, self._reset_count = embedding.stamp_ns, embedding.reset_count
        return embedding.stamp_ns - self._start_ns >= REPORTED_NS
