# SPDX-License-Identifier: Apache-2.0
"""Random augmentation of clips: geometric transforms, color changes, and image corruption.

Shapes: L frames of a clip, S side of the augmented images in pixels. A region is the part of a
frame to crop to: (x, y, width, height) in fractions of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.images import WHOLE, cut_transform, fit
from vljepa_ros.model.streaming.region_finder import within

Regions = NDArray[np.float64]

SHIFT, TURN_DEG = 0.07, 9.0  # largest random shift (fraction of the size) and rotation of a clip
ZOOM = (0.78, 1.3)
STRETCHED, LETTERBOXED = 0.25, 0.12  # fractions of the clips
# Standard deviations of the simulated errors of regions: of the center, as a fraction of the side,
# and of the logarithm of the side. The first pair is per clip, the second per tubelet.
CLIP_OFFSET, CLIP_ZOOM = 0.05, 0.08
TUBELET_OFFSET, TUBELET_ZOOM = 0.012, 0.02
DAMAGED = 0.3  # fraction of the clips with image corruption


@dataclass(frozen=True)
class Augmentation:
    """One augmentation, which is applied to all frames of a clip.

    `warp` (2, 3): affine transform in pixels, which follows the crop. `curve` (1, 256, 3): lookup
    table of pixel values for each channel. `bars` (S, S): true in the black bars of a letterbox.
    """

    warp: NDArray[np.float64]
    curve: NDArray[np.uint8]
    bars: NDArray[np.bool_]

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> Augmentation:
        """Draw a random augmentation for images of `size` x `size` pixels.

        It combines shift, rotation, zoom, stretch, gain, contrast, tint and letterbox.
        """
        return cls(_warp(size, rng), _curve(rng), _letterbox(size, rng))

    def apply(
        self, frames: NDArray[np.uint8], regions: Regions, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """Crop the frames of a clip to `regions`, augment them, and corrupt some clips.

        Args:
            frames: (L, side, side, 3).
            regions: Region of each frame (L, 4).
            rng: Draws the image corruption, which a fraction `DAMAGED` of the clips has.

        Returns:
            Augmented frames (L, S, S, 3).
        """
        size = len(self.bars)
        moved = [
            cv2.LUT(
                cv2.warpAffine(
                    frame,
                    self._after_crop(region, frame.shape[0]),
                    (size, size),
                    borderMode=cv2.BORDER_REPLICATE,
                ),
                self.curve,
            )
            for frame, region in zip(frames, regions, strict=True)
        ]
        for frame in moved:
            frame[self.bars] = 0
        if rng.random() < DAMAGED:
            moved = damaged(moved, rng)
        return np.stack(moved)

    def place(self, places: NDArray[np.float32], regions: Regions) -> NDArray[np.float32]:
        """Map points in frames to points in the cropped and augmented images.

        Args:
            places: One point per frame (N, 2), in fractions of the frame.
            regions: Region of each frame (N, 4).

        Returns:
            Points (N, 2) in fractions of the augmented image; NaN if outside of it.
        """
        moved = self.map_points((places - regions[:, :2]) / regions[:, 2:])
        inside = ((moved >= 0) & (moved <= 1)).all(axis=1, keepdims=True)
        return np.where(inside, moved, np.nan).astype(np.float32)

    def map_points(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply `warp` to points (N, 2) in fractions of the image; results may be outside 0..1."""
        size = len(self.bars)
        pixels = places * size - 0.5
        return (pixels @ self.warp[:, :2].T + self.warp[:, 2] + 0.5) / size

    @property
    def zoom(self) -> NDArray[np.float64]:
        """Factors (2,) by which the augmentation scales horizontal and vertical lengths."""
        return np.linalg.norm(self.warp[:, :2], axis=1)

    def _after_crop(self, region: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        """Return the affine transform (2, 3) from pixels of a frame to pixels of the result.

        The transform crops a frame of `side` x `side` pixels to `region`, then applies `warp`.
        """
        crop = np.vstack([cut_transform(region, side, len(self.bars)), (0.0, 0.0, 1.0)])
        return self.warp @ crop


def augment(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply a random `Augmentation` to the frames (L, S, S, 3) of a clip, without a crop."""
    whole = np.tile(np.array(WHOLE), (len(frames), 1))
    return Augmentation.draw(frames.shape[1], rng).apply(frames, whole, rng)


def _warp(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an affine transform (2, 3): shift, and rotation, zoom and stretch about the center."""
    angle = np.radians(rng.uniform(-TURN_DEG, TURN_DEG))
    zoom = np.exp(rng.uniform(*np.log(ZOOM)))
    stretch = np.ones(2)
    if rng.random() < STRETCHED:  # like wide images (or some tall ones) squeezed into squares
        stretch[int(rng.random() < 0.8)] = rng.uniform(1.0, 1.8)
    c, s = np.cos(angle), np.sin(angle)
    linear = zoom * np.diag(stretch) @ np.array([[c, s], [-s, c]])
    middle = np.full(2, (size - 1) / 2)
    shift = middle - linear @ middle + rng.uniform(-SHIFT, SHIFT, 2) * size
    return np.column_stack([linear, shift])


def _curve(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a gain, a contrast and a tint, and return their lookup table (1, 256, 3)."""
    gray = np.arange(256, dtype=np.float32)
    contrast, gain = rng.uniform(0.8, 1.2), rng.uniform(0.85, 1.15)
    tint = rng.uniform(0.94, 1.06, 3) * gain
    curve = np.clip((gray - 100) * contrast + 100, 0, 255)
    table = np.clip(curve[:, None] * tint[None], 0, 255).astype(np.uint8)[None]
    table[0, :8] = np.arange(8, dtype=np.uint8)[:, None]  # black stays black, as in the dark
    return table


def _letterbox(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a mask (S, S) that is true in black bars; for most clips it is false everywhere."""
    mask = np.zeros((size, size), bool)
    if rng.random() < LETTERBOXED:
        bar = round(size * rng.uniform(0.04, 0.22))
        mask[:bar] = mask[size - bar :] = True
        if rng.random() < 0.2:
            mask = mask.T
    return mask


def inaccurate(
    regions: Regions, tubelet_frames: int, smallest: float, rng: np.random.Generator
) -> Regions:
    """Add random errors, like those of a region finder, to the regions of a clip.

    The errors of tubelets vary little around a common error of the clip. Regions that are whole
    frames are not changed.

    Args:
        regions: Region of each frame (L, 4).
        tubelet_frames: Frames per tubelet.
        smallest: Minimum side of a region.
        rng: Random generator.

    Returns:
        Regions (L, 4) within the frame.
    """
    found = list[Regions]()
    offset, zoom = rng.normal(0.0, CLIP_OFFSET, 2), rng.normal(0.0, CLIP_ZOOM, 2)
    for start in range(0, len(regions), tubelet_frames):
        part = regions[start : start + tubelet_frames]
        corners, sides = np.split(part, 2, axis=1)
        moved = offset + rng.normal(0.0, TUBELET_OFFSET, 2)
        scale = np.exp(zoom + rng.normal(0.0, TUBELET_ZOOM))
        disturbed = within(corners + sides * (0.5 + moved), sides * scale, smallest)
        is_whole = (sides >= 1.0).all(axis=1, keepdims=True)
        found.append(np.where(is_whole, part, disturbed))
    return np.concatenate(found)


def damaged(frames: list[Any], rng: np.random.Generator) -> list[Any]:
    """Apply one random image corruption to frames (S, S, 3).

    It is blur, low resolution, JPEG compression or noise, as is typical of poor cameras and links.
    """
    size = frames[0].shape[0]
    how = int(rng.integers(4))
    if how == 0:
        sigma = float(rng.uniform(0.4, 1.3))
        return [cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]
    if how == 1:
        small = int(size * rng.uniform(0.2, 0.9))
        return [fit(fit(f, small), size) for f in frames]
    if how == 2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 70))]
        small = int(size * rng.uniform(0.45, 1.0))
        reduced = [fit(f, small) for f in frames]
        coded = [cv2.imdecode(cv2.imencode('.jpg', f, quality)[1], 1) for f in reduced]
        return [fit(np.asarray(f, np.uint8), size) for f in coded]
    strength = float(rng.uniform(3.0, 14.0))
    noise = rng.normal(0.0, strength, (len(frames), *frames[0].shape))
    dark = np.array([f.mean() < 8 for f in frames])  # black stays black
    return [
        f if d else np.clip(f + n + 0.5, 0, 255).astype(np.uint8)
        for f, n, d in zip(frames, noise, dark, strict=True)
    ]
