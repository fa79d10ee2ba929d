# SPDX-License-Identifier: Apache-2.0
"""Generation of kitchen streams from a seed: doors that open and close, light and lens covers.

As in mwstream, a stream has frames (T, S, S, 3) uint8 at 10 frames/s, and annotations that cover
it without gaps. Its state contains the opening of each door, the light level and the cover level,
with one value per frame.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import StreamData
from vljepa_ros.data.lens import Lens, Level, draw_cover, draw_light
from vljepa_ros.data.simulators.kitchen.doors import (
    DOORS,
    Openings,
    annotate_doors,
    draw_movements,
    openings,
)
from vljepa_ros.data.simulators.kitchen.scene import Kitchen, View, draw_view
from vljepa_ros.data.simulators.mwstream.labels import RATE_HZ, stamps_ns
from vljepa_ros.data.splits import KITCHEN

SIZE = 192
GAP_S, HIDDEN_S = 15.0, (3.0, 7.0)  # of dark and of covered intervals: gap, length


class Director:
    """Generator of kitchen streams, which creates the kitchen once."""

    def __init__(self, size: int = SIZE) -> None:
        self._size, self._kitchen = size, Kitchen(size)

    def film(self, split: str, seed: int, seconds: float) -> StreamData:
        """Generate one stream of the kitchen.

        Args:
            split: Name of the split, for the stream's id and metadata.
            seed: Seed of all random values.
            seconds: Length of the stream.
        """
        frames, rng = round(seconds * RATE_HZ), np.random.default_rng([seed, 1])
        view = draw_view(rng)
        light = draw_light(frames, RATE_HZ, GAP_S, HIDDEN_S, rng)
        cover = draw_cover(light, RATE_HZ, GAP_S, HIDDEN_S, rng)
        movements = draw_movements(light, cover, rng)
        opened = openings(frames, movements)
        levels = {**dict(zip(DOORS, opened.T, strict=True)), 'light': light, 'cover': cover}
        return StreamData(
            f'{split}-{seed:05d}',
            self._pictures(view, opened, light, cover, rng),
            stamps_ns(frames),
            annotate_doors(opened, light, cover),
            {
                'simulator': KITCHEN,
                'seed': seed,
                'split': split,
                'rate_hz': RATE_HZ,
                'camera': asdict(view),
                'episodes': [asdict(movement) for movement in movements],
            },
            {name: values.astype(np.float16) for name, values in levels.items()},
        )

    def _pictures(
        self,
        view: View,
        opened: Openings,
        light: Level,
        cover: Level,
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Return the images (T, S, S, 3) of a stream; unchanged scenes are not rendered again."""
        images = np.empty((len(light), self._size, self._size, 3), dtype=np.uint8)
        lens = Lens(self._size, rng, float(rng.uniform(0.5, 3.0)))
        self._kitchen.enter(view)
        for at, (doors, level) in enumerate(zip(opened, light, strict=True)):
            if not at or level != light[at - 1] or (doors != opened[at - 1]).any():
                clean = self._kitchen.render(doors, float(level))
            images[at] = lens.apply(clean, cover, at)
        self._kitchen.leave()
        return images
