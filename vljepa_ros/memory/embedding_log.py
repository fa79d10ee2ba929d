# SPDX-License-Identifier: Apache-2.0
"""Growable array of embeddings, sorted by stamp, so that a search is one matrix product.

Shapes: N stored vectors of D = `embedding_dim` values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.types import Vector

FIRST_ROOM = 64  # initial capacity


class VectorLog:
    """Growable array of float32 vectors, sorted by stamp, that can be truncated at both ends.

    Each vector has a stamp and a score `unfamiliar`, 0..1: how unfamiliar the scene is to the
    model.
    """

    def __init__(self) -> None:
        self._stamps = np.zeros(FIRST_ROOM, np.int64)
        self._vectors = np.zeros((FIRST_ROOM, 0), np.float32)
        self._unfamiliar = np.zeros(FIRST_ROOM, np.float32)
        self._first = self._end = 0

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """Stamps (N,) in ascending order, as a view of the internal array."""
        return self._stamps[self._first : self._end]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors (N, D) in order of time, as a view of the internal array."""
        return self._vectors[self._first : self._end]

    @property
    def unfamiliar(self) -> NDArray[np.float32]:
        """Scores `unfamiliar` (N,), 0..1, as a view of the internal array."""
        return self._unfamiliar[self._first : self._end]

    @property
    def dim(self) -> int:
        """Number D of values per vector; 0 before the first vector is appended."""
        return self._vectors.shape[1]

    @property
    def newest_ns(self) -> int:
        """Stamp of the newest vector. The log must not be empty."""
        return int(self._stamps[self._end - 1])

    def append(self, stamp_ns: int, vector: Vector, unfamiliar: float = 0.0) -> None:
        """Append a vector (D,) whose stamp is not older than the newest stored stamp."""
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
        """Append M vectors in order of time, none of them older than the stored vectors.

        Args:
            stamps_ns: Ascending stamps (M,).
            vectors: Vectors (M, D).
            unfamiliar: How unfamiliar the scene of each vector is to the model, (M,), 0..1.
        """
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
        """Return the slice of vectors with start_ns <= stamp <= end_ns.

        `end_ns` = 0 means no upper limit.
        """
        first = int(np.searchsorted(self.stamps_ns, start_ns, side='left'))
        last = int(np.searchsorted(self.stamps_ns, end_ns, side='right')) if end_ns else len(self)
        return slice(first, max(first, last))

    def _make_room(self) -> None:
        """Reallocate the arrays so that at least half of the capacity is free."""
        count = len(self)
        room = max(2 * count, FIRST_ROOM)
        stamps = np.zeros(room, np.int64)
        vectors = np.zeros((room, self._vectors.shape[1]), np.float32)
        unfamiliar = np.zeros(room, np.float32)
        stamps[:count], vectors[:count] = self.stamps_ns, self.vectors
        unfamiliar[:count] = self.unfamiliar
        self._stamps, self._vectors, self._unfamiliar = stamps, vectors, unfamiliar
        self._first, self._end = 0, count
