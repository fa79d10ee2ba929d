# SPDX-License-Identifier: Apache-2.0
"""Boundaries without a model: where the picture moves most.

Energy is the mean absolute difference of a frame to the one before it, in grey levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Image
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS
from vljepa_ros.evaluate.views import frames_of

CLOSEST_S = SegmenterSettings().min_segment_s  # peaks are as far apart as our segments

Energy = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """A stream's energy (T,), and its frames' times (T,) in seconds from its start."""

    energy: Energy
    at_s: NDArray[np.float64]

    def moments(self, count: int) -> list[float]:
        """When most moves: at most `count` times."""
        return peaks(self.energy, self.at_s, count, CLOSEST_S)


def motion_of(stream: Stream) -> Motion:
    """The motion in a stream."""
    stamps_ns = stream.stamps_ns()
    return Motion(energy(frames_of(stream)), (stamps_ns - stamps_ns[0]) / SECOND_NS)


def energy(frames: Iterable[Image]) -> Energy:
    """Return the energy (T,) of T frames (H, W, 3), read one after another; 0 of the first."""
    found, before = list[float](), np.zeros(0, np.int16)
    for frame in frames:
        now = frame.astype(np.int16)
        found.append(float(np.abs(now - before).mean()) if found else 0.0)
        before = now
    return np.array(found)


def peaks(
    values: Energy, at_s: Sequence[float] | NDArray[np.float64], count: int, apart_s: float
) -> list[float]:
    """The times, in order, of the `count` highest values that are at least `apart_s` apart.

    The highest are taken first, of equal ones the earlier. Fewer where no more have room.
    """
    taken = list[float]()
    for t in np.argsort(-values, kind='stable'):
        if len(taken) == count:
            break
        if all(abs(at_s[t] - other) >= apart_s for other in taken):
            taken.append(float(at_s[t]))
    return sorted(taken)
