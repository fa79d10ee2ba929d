# SPDX-License-Identifier: Apache-2.0
"""Synthetic outliers: random images and patterns that show no scene, generated from a seed.

They train and test the detection of unfamiliar scenes: the kinds `FITTED` are for training, the
kinds `TESTED` for the suite `unfamiliar`. No kind is in both. Dead leaves (occluding shapes with
a power law of sizes) have the statistics of natural images: Lee, Mumford and Huang, "Occlusion
models for natural images", IJCV 2001.

Canvases are (H, W, 3) float32 in 0..255, clips (T, S, S, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.float32]
Frames = NDArray[np.uint8]

MARGIN = 1.5  # width of a canvas relative to the frame, to allow camera movement


def make(kind: str, seed: int, count: int, size: int) -> Frames:
    """Return one synthetic clip (count, size, size, 3) uint8.

    Args:
        kind: Name in `KINDS`.
        seed: Seed of the random generator.
        count: Number of frames.
        size: Width and height of the frames in pixels.
    """
    rng = np.random.default_rng([seed, 7])
    return KINDS[kind](rng, count, size)


def white_noise(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip of white noise, colored or gray, like a camera without a signal.

    The noise differs in each frame. Its grain is 1, 2 or 4 pixels wide.
    """
    cell = int(rng.choice([1, 2, 4]))
    side, channels = -(-size // cell), int(rng.choice([1, 3]))
    level, spread = rng.uniform(60, 190), rng.uniform(30, 90)
    noise = rng.normal(level, spread, (count, side, side, channels))
    large = noise.repeat(cell, axis=1).repeat(cell, axis=2)[:, :size, :size]
    return _to_uint8(np.broadcast_to(large, (count, size, size, 3)))


def colored_noise(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that moves over noise with a 1/f^a power spectrum."""
    side = round(MARGIN * size)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0 / side
    weight = frequency ** -rng.uniform(0.7, 1.5)
    spectrum = np.fft.rfft2(rng.normal(size=(3, side, side))) * weight
    canvas = np.fft.irfft2(spectrum, (side, side)).transpose(1, 2, 0)
    canvas = canvas @ _mixing(rng)
    canvas = (canvas - canvas.mean((0, 1))) / canvas.std((0, 1))
    return moving(rng.uniform(90, 160, 3) + rng.uniform(30, 70) * canvas, rng, count, size)


def dead_leaves(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that moves over random overlapping shapes."""
    side = round(MARGIN * size)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = rng.uniform(0, 255, 3)
    smallest = rng.uniform(0.02, 0.06)
    palette = rng.uniform(0, 255, (int(rng.integers(4, 30)), 3))
    for _ in range(int(rng.integers(60, 300))):
        radius = side * min(smallest * rng.pareto(1.0) + smallest, 0.5)
        mask = np.zeros((side, side), np.uint8)
        _draw_shape(mask, rng, radius)
        color = palette[rng.integers(len(palette))] + rng.normal(0, 12, 3)
        leaf = _textured(rng, color, side) if rng.random() < 0.5 else np.float32(color)
        canvas = np.where(mask[..., None] > 0, leaf, canvas)
    return moving(canvas, rng, count, size)


def stripes(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that moves over a rotated grating or checkerboard."""
    side = round(MARGIN * size)
    y, x = np.mgrid[:side, :side] / size
    turn, waves = rng.uniform(0, np.pi), rng.uniform(2, 16)
    along = np.sin(2 * np.pi * waves * (np.cos(turn) * x + np.sin(turn) * y))
    across = np.sin(2 * np.pi * waves * (np.cos(turn) * y - np.sin(turn) * x))
    wave = along * across if rng.random() < 0.5 else along
    share = (wave > 0) if rng.random() < 0.7 else (wave + 1) / 2
    one, other = rng.uniform(0, 255, (2, 3))
    return moving(other + share[..., None] * (one - other), rng, count, size)


def color_bars(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip of a static test pattern: saturated color bars, a gray ramp and fine lines."""
    canvas = np.zeros((size, size, 3), np.float32)
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    bars = rng.uniform(150, 255) * corners[rng.permutation(8)[: int(rng.integers(5, 9))]]
    columns = np.arange(size) * len(bars) // size
    canvas[:] = bars[columns]
    low, high = sorted(rng.uniform(0.3, 0.95, 2))
    ramp = np.linspace(0, 255, size)[:, None] * np.ones(3)
    lines = 255.0 * (np.arange(size) // int(rng.integers(1, 4)) % 2)[:, None] * np.ones(3)
    canvas[round(low * size) : round(high * size)] = ramp
    canvas[round(high * size) :] = lines
    if rng.random() < 0.5:
        center, radius = (size // 2, size // 2), round(rng.uniform(0.25, 0.45) * size)
        cv2.circle(canvas, center, radius, (255.0, 255.0, 255.0), max(1, size // 48))
    if rng.random() < 0.3:
        canvas = canvas.transpose(1, 0, 2)
    return _to_uint8(np.broadcast_to(canvas, (count, size, size, 3)))


def rings(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip of a zone plate or a wheel of sectors with a moving phase."""
    y, x = np.mgrid[:size, :size] / size - rng.uniform(0.3, 0.7, 2)[:, None, None]
    if rng.random() < 0.5:
        phase = rng.uniform(20, 120) * (x**2 + y**2)
    else:
        phase = int(rng.integers(4, 24)) * np.arctan2(y, x)
    steps = np.arange(count)[:, None, None] * rng.uniform(0, 0.6)
    share = (np.sin(phase + steps)[..., None] + 1) / 2
    one, other = rng.uniform(0, 255, (2, 3))
    return _to_uint8(other + share * (one - other))


def page(rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that moves over lines of random characters."""
    side = round(MARGIN * size)
    paper = rng.uniform(0, 255, 3)
    ink = 255.0 - paper if rng.random() < 0.8 else rng.uniform(0, 255, 3)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = paper
    letters = 'abcdefghijklmnopqrstuvwxyz     0123456789'
    scale = size / 96 * rng.uniform(0.2, 0.5)
    for row in range(round(14 * scale), side, max(4, round(34 * scale))):
        line = ''.join(rng.choice(list(letters), 60))
        cv2.putText(canvas, line, (2, row), cv2.FONT_HERSHEY_SIMPLEX, scale, ink.tolist(), 1)
    return moving(canvas, rng, count, size)


def moving(canvas: NDArray[Any], rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that slowly pans, rotates and zooms over a canvas.

    In 30% of the clips, the camera does not move.

    Args:
        canvas: Large image (H, W, 3) with values in 0..255.
        rng: Random generator of the camera's movement.
        count: Number of frames.
        size: Width and height of the frames in pixels.
    """
    height, width = canvas.shape[:2]
    still = rng.random() < 0.3
    start, end = rng.uniform(-1.0, 1.0, (2, 2))
    turns = rng.uniform(-0.15, 0.15, 2)
    zooms = rng.uniform(0.85, 1.0, 2) * min(height, width) / MARGIN / size
    if still:
        end, turns, zooms = start, turns[[0, 0]], zooms[[0, 0]]
    frames = np.empty((count, size, size, 3), np.uint8)
    source = np.clip(canvas, 0, 255).astype(np.uint8)
    for i, t in enumerate(np.linspace(0.0, 1.0, count)):
        place, turn, zoom = (a + t * (b - a) for a, b in ((start, end), turns, zooms))
        room = np.array([width, height]) / 2 - zoom * size * 0.55
        middle = np.array([width, height]) / 2 + place * np.maximum(room, 0)
        axes = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shift = middle - axes @ np.full(2, size / 2)
        warp = np.concatenate([axes, shift[:, None]], axis=1)
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if zoom < 1.5 else cv2.INTER_AREA)
        frames[i] = cv2.warpAffine(
            source, warp, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
    return frames


def _draw_shape(mask: Frames, rng: np.random.Generator, radius: float) -> None:
    side = len(mask)
    center = tuple(int(v) for v in rng.integers(0, side, 2))
    axes = tuple(max(1, round(radius * v)) for v in rng.uniform(0.3, 1.0, 2))
    kind = rng.integers(3)
    if kind == 0:
        cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, (1,), -1)
        return
    corners = 4 if kind == 1 else int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    if kind == 1:
        angles = rng.uniform(0, 2 * np.pi) + np.arctan2([1, 1, -1, -1], [1, -1, -1, 1])
    points = np.array(center) + np.stack([np.cos(angles), np.sin(angles)], axis=1) * axes
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], (1,))


def _textured(rng: np.random.Generator, color: NDArray[np.float64], side: int) -> Canvas:
    """Return a surface (side, side, 3) of one color with grain and a brightness gradient."""
    cells = int(rng.integers(4, max(5, side // 2)))
    grain = rng.normal(0, rng.uniform(5, 40), (cells, cells)).astype(np.float32)
    grain = cv2.resize(grain, (side, side), interpolation=cv2.INTER_LINEAR)
    slope = np.linspace(-1, 1, side, dtype=np.float32) * np.float32(rng.uniform(-60, 60))
    return np.float32(color) + (grain + slope[:, None])[..., None]


def _mixing(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a matrix (3, 3) that mixes three noise channels to RGB, from gray to colored."""
    colored = rng.uniform(0, 1)
    mixed: NDArray[np.float64] = (1 - colored) * np.ones((3, 3)) / 3 + colored * np.eye(3)
    return mixed


def _to_uint8(values: NDArray[np.floating]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


KINDS: dict[str, Callable[[np.random.Generator, int, int], Frames]] = {
    'white noise': white_noise,
    'colored noise': colored_noise,
    'dead leaves': dead_leaves,
    'stripes': stripes,
    'color bars': color_bars,
    'rings': rings,
    'page': page,
}
FITTED = ('colored noise', 'dead leaves', 'stripes', 'page')
TESTED = ('white noise', 'color bars', 'rings')
