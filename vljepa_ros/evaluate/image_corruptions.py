# SPDX-License-Identifier: Apache-2.0
"""Image corruptions: functions that degrade the images, frame rate or stamps of a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vljepa_ros.core.images import fit
from vljepa_ros.core.types import Image


@dataclass(frozen=True)
class StampedClip:
    """T images (H, W, 3), uint8 RGB, with their T stamps in nanoseconds, oldest first."""

    stamps_ns: tuple[int, ...]
    images: tuple[Image, ...]


Corruption = Callable[[StampedClip, np.random.Generator], StampedClip]
Worse = Callable[[Image, np.random.Generator], Image]


def each(worse: Worse) -> Corruption:
    """Return a corruption that applies `worse` to each image independently."""
    return lambda clip, rng: StampedClip(clip.stamps_ns, tuple(worse(i, rng) for i in clip.images))


def resized(size: int) -> Corruption:
    """Return a corruption that reduces the resolution to `size` x `size` pixels."""
    return each(lambda image, rng: fit(image, size))


def jpeg(quality: int) -> Corruption:
    """Return a corruption by JPEG compression with a quality from 0 to 100."""

    def send(image: Image, rng: np.random.Generator) -> Image:
        done, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        received = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert done and received is not None
        return np.ascontiguousarray(received[..., ::-1], np.uint8)

    return each(send)


def blurred(sigma: float) -> Corruption:
    """Return a corruption that blurs images by a Gaussian of `sigma` pixels."""
    return each(lambda image, rng: np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8))


def noisy(sigma: float) -> Corruption:
    """Return a corruption that adds Gaussian noise of `sigma` gray levels."""

    def add(image: Image, rng: np.random.Generator) -> Image:
        seen = image + rng.normal(0.0, sigma, image.shape)
        return np.clip(np.rint(seen), 0, 255).astype(np.uint8)

    return each(add)


def shaken(pixels: int) -> Corruption:
    """Return a corruption that shifts each image at random by up to `pixels` along both axes.

    Uncovered borders repeat the edge of the image.
    """

    def shift(image: Image, rng: np.random.Generator) -> Image:
        down, right = rng.integers(0, 2 * pixels + 1, 2)
        wide = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode='edge')
        return wide[down : down + image.shape[0], right : right + image.shape[1]]

    return each(shift)


def at_rate(rate_hz: float) -> Corruption:
    """Return a corruption that resamples a clip to a frame rate and keeps its newest stamp.

    Each new frame shows the clip's newest image at or before its stamp.
    """

    def sample(clip: StampedClip, rng: np.random.Generator) -> StampedClip:
        first, last = clip.stamps_ns[0], clip.stamps_ns[-1]
        count = int((last - first) * rate_hz / 1e9 + 1e-6)
        stamps = [last - round(k * 1e9 / rate_hz) for k in range(count, -1, -1)]
        shown = np.searchsorted(clip.stamps_ns, stamps, side='right') - 1
        return StampedClip(tuple(stamps), tuple(clip.images[max(i, 0)] for i in shown))

    return sample


def uneven(most_ms: float) -> Corruption:
    """Return a corruption that shifts each stamp except the newest by up to +-`most_ms`."""

    def move(clip: StampedClip, rng: np.random.Generator) -> StampedClip:
        moved = clip.stamps_ns + np.rint(rng.uniform(-1e6, 1e6, len(clip.stamps_ns)) * most_ms)
        return StampedClip(
            (*(int(stamp) for stamp in moved[:-1]), clip.stamps_ns[-1]), clip.images
        )

    return move


def unchanged(clip: StampedClip, rng: np.random.Generator) -> StampedClip:
    """Return the clip unchanged."""
    return clip


CORRUPTIONS: dict[str, Corruption] = {
    'as recorded': unchanged,
    **{f'{size}x{size} pixels': resized(size) for size in (24, 48, 72, 96)},
    **{f'JPEG quality {quality}': jpeg(quality) for quality in (5, 15, 30, 60, 90)},
    **{f'{rate} frames/s': at_rate(rate) for rate in (2, 5, 10, 15, 30)},
    **{f'frames up to {ms} ms early or late': uneven(ms) for ms in (5, 20)},
    **{f'blur of {sigma:g} px': blurred(sigma) for sigma in (0.5, 1.0, 2.0)},
    **{f'noise of {sigma} grey levels': noisy(sigma) for sigma in (5, 10, 20, 40)},
    **{f'shaken by {pixels} px': shaken(pixels) for pixels in (1, 2, 4, 8)},
}
