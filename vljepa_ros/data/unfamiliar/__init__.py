# SPDX-License-Identifier: Apache-2.0
"""Clips of unfamiliar scenes for models of a robot's workbench: synthetic, recorded or simulated.

A kind is a name of `synthetic.KINDS`, `recorded.IMAGES`, `recorded.FILMS` or `simulated.SCENES`;
any other name is the path of a user's recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.unfamiliar import recorded, simulated, synthetic

__all__ = ['clips', 'recorded', 'require', 'simulated', 'synthetic']


def clips(kind: str, count: int, frames: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield at most `count` clips (frames, size, size, 3) of a kind or of a recording.

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
    """Raise InputError at the first kind with a missing package or the first missing path."""
    for kind in kinds:
        if kind in recorded.IMAGES or kind in recorded.FILMS:
            recorded.require(kind)
        elif kind in simulated.SCENES:
            simulated.require(kind)
        elif kind not in synthetic.KINDS:
            recorded.require_path(kind)


def kinds() -> Sequence[str]:
    """Return the names of all kinds."""
    return (*synthetic.KINDS, *recorded.IMAGES, *recorded.FILMS, *simulated.SCENES)
