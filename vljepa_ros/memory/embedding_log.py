# SPDX-License-Identifier: Apache-2.0
"""Growing arrays of embeddings by time, so that a search is one matrix product.

Shapes: N vectors, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.types import Vector

FIRST_ROOM = 64  # initial capacity


class VectorLog:
    """Vectors (N, D) float32, ascending stamps (N,) and `unfamiliar` (N,), cut at either end."""

    def __init__(self) -> None:
        self._stamps = np.zeros(FIRST_ROOM, np.int64)
        self._vectors = np.zeros((FIRST_ROOM, 0), np.float32)
        self._unfamiliar = np.zeros(FIRST_ROOM, np.float32)
        self._first = self._end = 0

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """Stamps (N,), a view."""
        return self._stamps[self._first : self._end]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors (N, D), a view."""
        return self._vectors[self._first : self._end]

    @property
    def unfamiliar(self) -> NDArray[np.float32]:
        """How unfamiliar each hop's scene is, (N,), 0..1, a view."""
        return self._unfamiliar[self._first : self._end]

    @property
    def dim(self) -> int:
        """D; 0 before the first vector."""
        return self._vectors.shape[1]

    @property
    def newest_ns(self) -> int:
        """The last stamp; the log must not be empty."""
        return int(self._stamps[self._end - 1])

    def append(self, stamp_ns: int, vector: Vector, unfamiliar: float = 0.0) -> None:
        """Append a vector (D,) that is not older than the last one."""
        if not len(self) and self.dim != len(vector):
            self._vectors = np.zeros((len(self._stamps), len(vector)), np.float32)
        if self._end == len(self._stamps):
            self._make_room()
        self._stamps[self._end], self._vectors[self._end] = stamp_ns, vector
        self._unfamiliar[self._end] = unfamiliar
        self._end += 1

    def drop_last(self) -> None:
        """Remove the newest vector."""
        self._end -= 1

    def extend(
        self,
        stamps_ns: NDArray[np.int64],
        vectors: NDArray[np.float32],
        unfamiliar: NDArray[np.float32],
    ) -> None:
        """Append vectors (M, D) with stamps (M,) and `unfamiliar` (M,), in order of time."""
        own = self.vectors if len(self) else vectors[:0]
        self._stamps, self._vectors, self._unfamiliar = (
            np.concatenate([self.stamps_ns, stamps_ns]),
            np.concatenate([own, vectors]),
            np.concatenate([self.unfamiliar, unfamiliar]),
        )
        self._first, self._end = 0, len(self._stamps)

    def delete_before(self, stamp_ns: int) -> None:
        """Remove vectors older than `stamp_ns`."""
        self._first += int(np.searchsorted(self.stamps_ns, stamp_ns, side='left'))

    def delete_after(self, stamp_ns: int) -> None:
        """Remove vectors newer than `stamp_ns`."""
        self._end = self._first + int(np.searchsorted(self.stamps_ns, stamp_ns, side='right'))

    def within(self, start_ns: int, end_ns: int) -> slice:
        """Return the rows with start_ns <= stamp <= end_ns; `end_ns` 0: up to the newest."""
        first = int(np.searchsorted(self.stamps_ns, start_ns, side='left'))
        last = int(np.searchsorted(self.stamps_ns, end_ns, side='right')) if end_ns else len(self)
        return slice(first, max(first, last))

    def _make_room(self) -> None:
        """Reallocate the arrays so that half of the capacity is free."""
        count = len(self)
        room = max(2 * count, FIRST_ROOM)
        stamps = np.zeros(room, np.int64)
        vectors = np.zeros((room, self._vectors.shape[1]), np.float32)
        unfamiliar = np.zeros(room, np.float32)
        stamps[:count], vectors[:count] = self.stamps_ns, self.vectors
        unfamiliar[:count] = self.unfamiliar
        self._stamps, self._vectors, self._unfamiliar = stamps, vectors, unfamiliar
        self._first, self._end = 0, count
