# SPDX-License-Identifier: Apache-2.0
"""Simulation of lighting and of the lens: light and cover levels, a cloth, and sensor noise.

Images are (S, S, 3) uint8. Levels have one value per frame: light from 1 (fully lit) to 0 (dark),
cover from 0 (uncovered lens) to 1 (fully covered lens).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

DARK_BELOW = 0.15
COVERED_ABOVE = 0.9

Level = NDArray[np.float64]


def is_visible(light: NDArray[Any], cover: NDArray[Any]) -> NDArray[np.bool_]:
    """Return (T,) bool: whether the scene is lit and the lens is uncovered in each frame."""
    return (light > DARK_BELOW) & (cover < COVERED_ABOVE)


def draw_light(
    frames: int, rate_hz: int, gap_s: float, dark_s: tuple[float, float], rng: np.random.Generator
) -> Level:
    """Draw random light levels (T,) with dark intervals, half of which fade in and out.

    Args:
        frames: Number of frames, T.
        rate_hz: Frames per second.
        gap_s: Mean random time between dark intervals, in addition to a fixed pause.
        dark_s: Range of the length of a dark interval in seconds.
        rng: Random generator.
    """
    level = np.ones(frames)
    at = int(rate_hz * (2.0 + rng.exponential(gap_s)))
    while at < frames:
        dark = int(rate_hz * rng.uniform(*dark_s))
        fade = 0 if rng.random() < 0.5 else int(rate_hz * rng.uniform(0.5, 1.5))
        rest = float(rng.uniform(0.0, 0.04))
        down = np.linspace(1.0, rest, fade + 2)[1:-1]
        shape = np.concatenate([down, np.full(dark, rest), down[::-1]])[: frames - at]
        level[at : at + len(shape)] = shape
        at += len(shape) + int(rate_hz * (3.0 + rng.exponential(gap_s)))
    return level


def draw_cover(
    light: Level,
    rate_hz: int,
    gap_s: float,
    covered_s: tuple[float, float],
    rng: np.random.Generator,
) -> Level:
    """Draw random cover levels (T,) with intervals in which a cloth covers the lens.

    The lens is covered only while the light is fully on.

    Args:
        light: Light levels (T,).
        rate_hz: Frames per second.
        gap_s: Mean random time between covered intervals, in addition to a fixed pause.
        covered_s: Range of the length of a covered interval in seconds.
        rng: Random generator.
    """
    frames, level = len(light), np.zeros(len(light))
    at = int(rate_hz * (2.0 + rng.exponential(gap_s)))
    while at < frames:
        slide = int(rng.integers(1, 5))  # number of frames of sliding in, and of sliding out
        length = int(rate_hz * rng.uniform(*covered_s))
        come = np.linspace(0.0, 1.0, slide + 1)[1:]
        shape = np.concatenate([come, np.ones(length), come[::-1][1:]])[: frames - at]
        around = light[max(0, at - rate_hz) : at + len(shape) + rate_hz]
        if (around == 1.0).all():
            level[at : at + len(shape)] = shape
        at += len(shape) + int(rate_hz * (3.0 + rng.exponential(gap_s)))
    return level


class Cloth:
    """Cloth that slides in front of the lens, with random color, folds and side of entry."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        gray = rng.uniform(35, 210)
        color = np.clip(gray + rng.uniform(-45, 45, 3), 20, 235)
        folds = rng.normal(0.0, rng.uniform(4.0, 22.0), (int(rng.integers(2, 7)),) * 2)
        smooth = cv2.resize(folds, (2 * size, 2 * size), interpolation=cv2.INTER_CUBIC)
        self._picture = (color + smooth[..., None]).astype(np.float32)
        self._side, self._size = int(rng.integers(4)), size

    def over(self, image: NDArray[np.float32], level: float, sway: int) -> NDArray[np.float32]:
        """Return the image (S, S, 3) partly covered by the cloth.

        Args:
            image: Image without the cloth.
            level: Fraction of the image that the cloth covers, from the side where it enters.
            sway: Horizontal and vertical offset of the cloth's texture in pixels.
        """
        size = self._size
        part = self._picture[sway : sway + size, sway : sway + size]
        edge = round(level * size)
        rows = np.arange(size) < edge
        rows = rows if self._side % 2 else rows[::-1]
        mask = rows[:, None] if self._side < 2 else rows[None, :]
        return np.where(mask[..., None], part, image)


class Lens:
    """Simulation of a lens that a cloth covers at times, and of sensor noise."""

    def __init__(self, size: int, rng: np.random.Generator, noise: float = 1.5) -> None:
        """Create a lens with square images.

        Args:
            size: Width and height of the images in pixels.
            rng: Random generator of the cloths and the noise.
            noise: Standard deviation of the sensor noise in gray levels.
        """
        self._size, self._rng, self._noise = size, rng, noise
        self._cloth = Cloth(size, rng)

    def apply(self, scene: NDArray[np.uint8], cover: Level, at: int) -> NDArray[np.uint8]:
        """Return the image of frame `at` with cloth and noise. Call with increasing frame numbers.

        Args:
            scene: Rendered image (S, S, 3).
            cover: Cover levels (T,) of the stream.
            at: Frame number.
        """
        seen = scene.astype(np.float32)
        if cover[at] > 0:
            seen = self._cloth.over(seen, float(cover[at]), sway_of(at, self._size))
        elif at and cover[at - 1] > 0:
            self._cloth = Cloth(self._size, self._rng)  # for the next covered interval
        grain = self._rng.normal(0.0, self._noise, scene.shape).astype(np.float32)
        return np.clip(seen + grain + 0.5, 0, 255).astype(np.uint8)


def sway_of(frame: int, size: int) -> int:
    """Return the offset in pixels of a swaying cloth in a frame, for images of side `size`."""
    return round(size / 12 * (1 + np.sin(frame / 5.0)))
