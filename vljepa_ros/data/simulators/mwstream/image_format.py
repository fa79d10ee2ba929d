# SPDX-License-Identifier: Apache-2.0
"""Simulation of a recording pipeline's effects on images: aspect ratio, resolution and codec.

All effects are applied to a square rendering. Input and output images are (S, S, 3) uint8 RGB. No
simulator is needed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.images import fit
from vljepa_ros.data.simulators.mwstream.cameras import HELD_OUT_SHARE

ASPECTS = {'1:1': 1.0, '4:3': 4 / 3, '16:9': 16 / 9}
FITS = ('crop', 'resize', 'letterbox')  # conversion of a wide image to a square one
RESOLUTIONS = (96, 128, 192, 256, 512)  # width of the recorded image in pixels
QUALITY = (30, 95)  # JPEG quality
FPS = 10
CODECS = ('none', 'jpeg')
HELD_OUT_CODEC = 'mp4'  # absent from training


@dataclass(frozen=True)
class ImageFormat:
    """Simulated format of the recorded images, before they are scaled to the model's input size.

    Attributes:
        aspect: Aspect ratio of the recorded image (see `ASPECTS`).
        fit: Conversion to a square: 'crop', 'resize' (squeezed) or 'letterbox' (black bars).
        resolution: Width in pixels; 0 for the width of the rendering.
        codec: 'none', 'jpeg' or 'mp4'.
        quality: JPEG quality, from 1 to 100.
    """

    aspect: str = '1:1'
    fit: str = 'crop'
    resolution: int = 0
    codec: str = 'none'
    quality: int = 0

    @property
    def visible_height(self) -> float:
        """Return the fraction of the rendering's height that remains, around the middle row."""
        return 1.0 if self.fit == 'crop' else 1.0 / ASPECTS[self.aspect]

    @property
    def held_out(self) -> tuple[str, ...]:
        """Return ('codec',) if the codec is held out of training, otherwise ()."""
        return ('codec',) if self.codec == HELD_OUT_CODEC else ()

    def place(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert positions (N, 2) from fractions of the rendering to fractions of the image."""
        if self.fit != 'resize':
            return places
        x, y = places.T
        return np.stack([x, 0.5 + (y - 0.5) / self.visible_height], axis=1)

    def apply(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Convert renderings (T, S, S, 3) to recorded images of the same shape."""
        size = images.shape[1]
        across = min(self.resolution or size, size)
        small = np.stack([fit(self._fitted(p), across) for p in images])
        if self.codec == 'jpeg':
            small = np.stack([through_jpeg(p, self.quality) for p in small])
        elif self.codec == 'mp4':
            small = through_mp4(small)
        return small if across == size else np.stack([fit(p, size) for p in small])

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = len(image)
        bar = round(size * (1.0 - self.visible_height) / 2.0)
        if not bar:
            return image
        if self.fit == 'resize':
            squeezed = cv2.resize(image[bar : size - bar], (size, size))
            return np.asarray(squeezed, np.uint8)
        boxed = image.copy()
        boxed[:bar], boxed[size - bar :] = 0, 0
        return boxed


def draw_format(rng: np.random.Generator, for_training: bool) -> ImageFormat:
    """Draw a random image format; `for_training` excludes formats held out of training."""
    aspect = str(rng.choice(list(ASPECTS)))
    fit = 'crop' if aspect == '1:1' else str(rng.choice(FITS))
    resolution, codec = int(rng.choice(RESOLUTIONS)), str(rng.choice(CODECS))
    quality = int(rng.integers(*QUALITY))
    if not for_training and rng.random() < HELD_OUT_SHARE:
        codec = HELD_OUT_CODEC
    return ImageFormat(aspect, fit, resolution, codec, quality)


def through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Compress an image (S, S, 3) as JPEG and return the decoded image."""
    coded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def through_mp4(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compress images (T, S, S, 3) as MPEG-4 and return the decoded images.

    Raises:
        RuntimeError: the number of decoded images differs from T.
    """
    size = images.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'clip.mp4')
        fourcc: Any = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(path, fourcc, FPS, (size, size))
        for image in images:
            writer.write(np.ascontiguousarray(image[..., ::-1]))
        writer.release()
        reader, found = cv2.VideoCapture(path), []
        while (read := reader.read())[0]:
            found.append(np.asarray(read[1], np.uint8)[..., ::-1])
        reader.release()
    if len(found) != len(images):
        raise RuntimeError(f'MPEG-4: encoded {len(images)} frames, but decoded {len(found)}')
    return np.stack(found)
