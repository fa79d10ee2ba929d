# SPDX-License-Identifier: Apache-2.0
"""Clips of scenes that are unfamiliar to a model of a robot's workbench.

The kind of a clip is a name in `synthetic.KINDS`, `recorded.IMAGES`, `recorded.FILMS` or
`simulated.SCENES`. Any other name is the path of a user's recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.unfamiliar import recorded, simulated, synthetic

__all__ = ['clips', 'recorded', 'require', 'simulated', 'synthetic']


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
    if kind in synthetic.KINDS:
        yield from (synthetic.make(kind, seed, frames, size) for seed in range(count))
    elif kind in recorded.IMAGES or kind in recorded.FILMS:
        yield from (recorded.make(kind, seed, frames, size) for seed in range(count))
    elif kind in simulated.SCENES:
        yield from (simulated.make(kind, seed, frames, size) for seed in range(count))
    else:
        yield from islice(recorded.clips_of(kind, frames, size), count)


def require(kinds: Iterable[str]) -> None:
    """Check that the packages and recordings that the kinds need exist. Raises InputError."""
    for kind in kinds:
        if kind in recorded.IMAGES or kind in recorded.FILMS:
            recorded.require(kind)
        elif kind in simulated.SCENES:
            simulated.require(kind)
        elif kind not in synthetic.KINDS:
            recorded.require_path(kind)


def kinds() -> Sequence[str]:
    """Return the names of all kinds of synthetic, recorded and simulated clips."""
    return (*synthetic.KINDS, *recorded.IMAGES, *recorded.FILMS, *simulated.SCENES)
