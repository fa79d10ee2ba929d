# SPDX-License-Identifier: Apache-2.0
"""Storage of a stream's frames as JPEGs in one file with random access.

The file takes about a tenth of the raw size.

frames.jpegs       the concatenated JPEGs
frames.index.npy   (T + 1,) int64: byte offset of each JPEG, and the length of the file
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError

FILE, INDEX = 'frames.jpegs', 'frames.index.npy'
FULL_COLOR = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class JpegFrames:
    """Frames (T, S, S, 3) uint8 RGB of a JPEG file, decoded when they are indexed."""

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path) -> None:
        """Open the files in `folder`. Raises InputError if index and JPEG file do not match."""
        self._path = folder / FILE
        self._starts: NDArray[np.int64] = np.load(folder / INDEX)
        if self._starts.ndim != 1 or len(self._starts) < 2 or (np.diff(self._starts) <= 0).any():
            raise InputError(
                f'{INDEX} is damaged: it must contain at least 2 increasing byte offsets '
                f'(shape: {self._starts.shape})'
            )
        if self._path.stat().st_size != self._starts[-1]:
            raise InputError(
                f'{FILE} has {self._path.stat().st_size} bytes, but {INDEX} requires '
                f'{self._starts[-1]}'
            )
        self._bytes = np.memmap(self._path, np.uint8, 'r')
        self.shape = (len(self._starts) - 1, *self[0].shape)

    def __len__(self) -> int:
        """Return the number of frames, T."""
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Iterate over the decoded frames (S, S, 3)."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, which: int | slice | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Decode one frame (S, S, 3), or several frames (N, S, S, 3) for a slice or an array.

        Raises:
            InputError: a JPEG is damaged.
            IndexError: there is no frame with this number.
        """
        if isinstance(which, slice | np.ndarray):
            numbers = np.arange(len(self))[which].tolist()
            if not numbers:
                return np.empty((0, *self.shape[1:]), np.uint8)
            return np.stack([self._decoded(number) for number in numbers])
        return self._decoded(range(len(self))[operator.index(which)])

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Return all frames, decoded: (T, S, S, 3) uint8."""
        return self[:]

    def _decoded(self, number: int) -> NDArray[np.uint8]:
        coded = self._bytes[self._starts[number] : self._starts[number + 1]]
        found = cv2.imdecode(np.asarray(coded), cv2.IMREAD_COLOR)
        if found is None:
            raise InputError(f'{self._path}: frame {number} is not a JPEG')
        return np.ascontiguousarray(found[..., ::-1]).astype(np.uint8, copy=False)


def write(folder: Path, frames: NDArray[np.uint8], quality: int) -> None:
    """Write frames as JPEGs, with their index, to a folder.

    Args:
        folder: Existing folder.
        frames: Frames (T, S, S, 3) uint8 RGB.
        quality: JPEG quality, from 1 to 100.

    Raises:
        OSError: a file cannot be written.
    """
    starts = [0]
    with (folder / FILE).open('wb') as stream:
        for frame in frames:
            coded = cv2.imencode(
                '.jpg', frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, *FULL_COLOR]
            )[1]
            starts.append(starts[-1] + stream.write(coded.data))
    np.save(folder / INDEX, np.array(starts, np.int64))
