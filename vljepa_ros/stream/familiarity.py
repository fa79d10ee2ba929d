# SPDX-License-Identifier: Apache-2.0
"""How long a camera's scene has been unfamiliar to the model. Reads no clock."""

from __future__ import annotations

from vljepa_ros.core.types import WITHHELD, Embedding

REPORTED_NS = 3_000_000_000  # an unfamiliar span of this length is reported


class UnfamiliarSpan:
    """The run of unfamiliar hops that one camera is in, by their stamps."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._reset_count = 0

    def push(self, embedding: Embedding) -> bool:
        """Whether every hop of the last 3 s was unfamiliar; a familiar hop or a reset ends it."""
        if embedding.unfamiliar < WITHHELD:
            self._start_ns = None
            return False
        if self._start_ns is None or embedding.reset_count != self._reset_count:
            self._start_ns, self._reset_count = embedding.stamp_ns, embedding.reset_count
        return embedding.stamp_ns - self._start_ns >= REPORTED_NS
