# SPDX-License-Identifier: Apache-2.0
"""Event boundaries by a baseline without a model: peaks of motion energy.

Motion energy is the mean absolute difference of a frame to the previous one, in gray levels.
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

CLOSEST_S = SegmenterSettings().min_segment_s  # minimum distance of peaks, as for our segments

Energy = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """Motion energy (T,) of a stream, and frame times (T,) in seconds from its start."""

    energy: Energy
    at_s: NDArray[np.float64]

    def moments(self, count: int) -> list[float]:
        """Return the sorted times (s) of at most `count` highest peaks (see `peaks`)."""
        return peaks(self.energy, self.at_s, count, CLOSEST_S)


def motion_of(stream: Stream) -> Motion:
    """Return the motion energy of a stream, computed from its frames."""
    stamps_ns = stream.stamps_ns()
    return Motion(energy(frames_of(stream)), (stamps_ns - stamps_ns[0]) / SECOND_NS)


def energy(frames: Iterable[Image]) -> Energy:
    """Return the motion energy (T,) of T frames (H, W, 3); it is 0 for the first frame."""
    found, before = list[float](), np.zeros(0, np.int16)
    for frame in frames:
        now = frame.astype(np.int16)
        found.append(float(np.abs(now - before).mean()) if found else 0.0)
        before = now
    return np.array(found)


def peaks(
    values: Energy, at_s: Sequence[float] | NDArray[np.float64], count: int, apart_s: float
) -> list[float]:
    """Return the sorted times of the `count` highest values that are at least `apart_s` apart.

    Values are chosen greedily in descending order; of equal values, the earlier one is first. The
    result has fewer than `count` times if no other value is far enough from the chosen ones.
    """
    taken = list[float]()
    for t in np.argsort(-values, kind='stable'):
        if len(taken) == count:
            break
        if all(abs(at_s[t] - other) >= apart_s for other in taken):
            taken.append(float(at_s[t]))
    return sorted(taken)
