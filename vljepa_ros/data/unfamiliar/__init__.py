# SPDX-License-Identifier: Apache-2.0
"""Clips of scenes that are unfamiliar to a model of a robot's workbench.

The kind of a clip is a name in `synthetic_clips.KINDS`, `recorded_clips.IMAGES`,
`recorded_clips.FILMS` or `simulated_clips.SCENES`. Any other name is the path of a user's
recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.unfamiliar import recorded_clips, simulated_clips, synthetic_clips

__all__ = ['clips', 'recorded_clips', 'require', 'simulated_clips', 'synthetic_clips']


def clips(kind: str, count: int, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield at most `count` clips (frames, size, size, 3) uint8.

    Args:
        kind: Kind of clips, or path of a recording (see the package's docstring).
        count: Maximum number of clips.
        frames: Number of frames of a clip.
        size: Width and height of the frames in pixels.

    Raises:
        InputError: a required package is not installed, or the recording does not exist.
    """
    if kind in synthetic_clips.KINDS:
        yield from (synthetic_clips.make(kind, seed, frames, size) for seed in range(count))
    elif kind in recorded_clips.IMAGES or kind in recorded_clips.FILMS:
        yield from (recorded_clips.make(kind, seed, frames, size) for seed in range(count))
    elif kind in simulated_clips.SCENES:
        yield from (simulated_clips.make(kind, seed, frames, size) for seed in range(count))
    else:
        yield from islice(recorded_clips.clips_of(kind, frames, size), count)


def require(kinds: Iterable[str]) -> None:
    """Check that the packages and recordings that the kinds need exist. Raises InputError."""
    for kind in kinds:
        if kind in recorded_clips.IMAGES or kind in recorded_clips.FILMS:
            recorded_clips.require(kind)
        elif kind in simulated_clips.SCENES:
            simulated_clips.require(kind)
        elif kind not in synthetic_clips.KINDS:
            recorded_clips.require_path(kind)


def kinds() -> Sequence[str]:
    """Return the names of all kinds of synthetic, recorded and simulated clips."""
    return (
        *synthetic_clips.KINDS,
        *recorded_clips.IMAGES,
        *recorded_clips.FILMS,
        *simulated_clips.SCENES,
    )
