# SPDX-License-Identifier: Apache-2.0
"""Textures of table, floor and wall: Meta-World's own files, and plain or patterned ones.

Textures are (H, W, 3) uint8. They are written into a MuJoCo model before its renderer is made.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Files of metaworld/assets/textures, and patterns that are drawn here.
FILES = (
    'brick1', 'darkwood', 'floor1', 'granite', 'light_wood', 'marble', 'metal', 'navy_blue',
    'plaster1', 'wood1', 'wood3', 'wood4',
)  # fmt: skip
PATTERNS = ('plain', 'checker', 'stripes', 'speckles', 'clouds')
TEXTURES = (*FILES, *PATTERNS)
HELD_OUT_TEXTURES = ('brick1', 'marble', 'stripes')  # training never has them
SURFACES = ('T_table', 'T_floor', 'T_wallmetal')  # a model's textures


class Surfaces:
    """The textures of one MuJoCo model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        names = [model.texture(i).name for i in range(model.ntex)]
        self._numbers = [names.index(name) if name in names else -1 for name in SURFACES]
        self._original = model.tex_data.copy()

    def wear(self, textures: tuple[str, str, str]) -> None:
        """Put textures on table, floor and wall ('': the model's own)."""
        self._model.tex_data[:] = self._original
        for number, name in zip(self._numbers, textures, strict=True):
            if number < 0 or not name:
                continue
            height, width = int(self._model.tex_height[number]), int(self._model.tex_width[number])
            first = int(self._model.tex_adr[number])
            channels = int(self._model.tex_nchannel[number])
            picture = texture(name, height, width)
            if channels == 4:
                picture = np.dstack([picture, np.full((height, width), 255, np.uint8)])
            self._model.tex_data[first : first + picture.size] = picture.ravel()


@functools.cache
def texture(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """A texture by its name: (height, width, 3)."""
    if name in PATTERNS:
        return _pattern(name, height, width)
    spec = importlib.util.find_spec('metaworld')
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / 'assets' / 'textures' / f'{name}.png'
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise FileNotFoundError(path)
    return np.ascontiguousarray(cv2.resize(picture, (width, height))[..., ::-1]).astype(np.uint8)


def _pattern(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Light patterns: the look's tint gives them their color."""
    rng = np.random.default_rng([PATTERNS.index(name), height])
    gray = np.full((height, width), 225.0)
    rows, columns = np.mgrid[:height, :width]
    cell = width / 8
    if name == 'checker':
        gray -= 90.0 * ((rows // cell + columns // cell) % 2)
    elif name == 'stripes':
        gray -= 80.0 * ((columns // (cell / 2)) % 2)
    elif name == 'speckles':
        gray += rng.normal(0.0, 30.0, (height, width))
    elif name == 'clouds':
        coarse = rng.normal(0.0, 40.0, (9, 9)).astype(np.float32)
        gray += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
