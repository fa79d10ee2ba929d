# SPDX-License-Identifier: Apache-2.0
"""Annotated streams without a simulator: the color of a square encodes the concept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Annotation, StreamData

SIZE, RATE_HZ, ACT_S = 32, 10, 3
# Concepts and the colors that encode them.
SCENES = {
    ('drawer-open', 'drawer', 'red'): (230, 20, 20),
    ('door-close', 'door', 'green'): (20, 200, 20),
    ('faucet-open', 'faucet', 'blue'): (20, 20, 230),
    ('lever-pull', 'lever', 'white'): (240, 240, 240),
    ('dial-turn', 'dial', 'orange'): (250, 140, 10),
    ('soccer', 'soccer ball', 'purple'): (130, 20, 170),
}


def film(name: str, seed: int) -> StreamData:
    """Render a square in each scene's color, for three seconds after a rest."""
    rng, frames, annotations, at = np.random.default_rng(seed), [], list[Annotation](), 0.0
    for number in rng.permutation(len(SCENES)):
        (task, thing, color), rgb = list(SCENES.items())[number]
        for phase, square in (('rest', None), ('act', rgb)):
            meaning = 'rest' if square is None else f'act:{task}:{color}'
            frames += [_image(rng, square) for _ in range(ACT_S * RATE_HZ)]
            annotations.append(Annotation(at, at + ACT_S, meaning, phase, task, thing, color))
            at += ACT_S
    stamps = np.arange(len(frames), dtype=np.int64) * 100_000_000
    return StreamData(name, np.stack(frames), stamps, tuple(annotations), {'seed': seed})


def _image(rng: np.random.Generator, square: tuple[int, int, int] | None) -> NDArray[np.uint8]:
    image = rng.integers(90, 130, (SIZE, SIZE, 3)).astype(np.uint8)
    if square:
        y, x = rng.integers(4, 12, 2)
        image[y : y + 16, x : x + 16] = square
    return image
