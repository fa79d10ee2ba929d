# SPDX-License-Identifier: Apache-2.0
"""What a recording pipeline makes of a camera's picture: aspect ratio, size, codec.

All are warps of one square rendering. Pictures are (S, S, 3) uint8 RGB in and out. No simulator.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ASPECTS = {'1:1': 1.0, '4:3': 4 / 3, '16:9': 16 / 9}
FITS = ('crop', 'resize', 'letterbox')  # how a wide picture became square
RESOLUTIONS = (96, 128, 192, 256, 512)  # pixels across
QUALITY = (30, 95)  # of JPEG
FPS = 10
HELD_OUT_CODEC = 'mp4'  # training never has it


@dataclass(frozen=True)
class PictureFormat:
    """How pictures reach the model.

    A picture of `aspect` was cropped to its square, squeezed into one ('resize') or has black bars
    ('letterbox'); it was `resolution` pixels wide; `codec` is 'none', 'jpeg' or 'mp4'.
    """

    aspect: str = '1:1'
    fit: str = 'crop'
    resolution: int = 0
    codec: str = 'none'
    quality: int = 0

    @property
    def visible_height(self) -> float:
        """The share of the square rendering that is kept, around its middle row."""
        return 1.0 if self.fit == 'crop' else 1.0 / ASPECTS[self.aspect]

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names what training never has of it."""
        return ('codec',) if self.codec == HELD_OUT_CODEC else ()

    def place(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where (N, 2) fractions of the square rendering are in the picture."""
        if self.fit != 'resize':
            return places
        x, y = places.T
        return np.stack([x, 0.5 + (y - 0.5) / self.visible_height], axis=1)

    def apply(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(T, S, S, 3) renderings -> pictures of the same shape."""
        size = pictures.shape[1]
        across = min(self.resolution or size, size)
        small = np.stack([_resized(self._fitted(p), across) for p in pictures])
        if self.codec == 'jpeg':
            small = np.stack([through_jpeg(p, self.quality) for p in small])
        elif self.codec == 'mp4':
            small = through_mp4(small)
        return small if across == size else np.stack([_resized(p, size) for p in small])

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = len(picture)
        bar = round(size * (1.0 - self.visible_height) / 2.0)
        if not bar:
            return picture
        if self.fit == 'resize':
            return _resized(picture[bar : size - bar], size)
        boxed = picture.copy()
        boxed[:bar], boxed[size - bar :] = 0, 0
        return boxed


def draw_format(rng: np.random.Generator, for_training: bool) -> PictureFormat:
    """A format; `for_training` leaves out what is held out of training."""
    aspect = str(rng.choice(list(ASPECTS)))
    fit = 'crop' if aspect == '1:1' else str(rng.choice(FITS))
    codecs = [c for c in ('none', 'jpeg', 'mp4') if not (for_training and c == HELD_OUT_CODEC)]
    return PictureFormat(
        aspect,
        fit,
        int(rng.choice(RESOLUTIONS)),
        str(rng.choice(codecs)),
        int(rng.integers(*QUALITY)),
    )


def through_jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A picture as it comes back from JPEG."""
    coded = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def through_mp4(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, S, S, 3) pictures as they come back from an MPEG-4 video."""
    size = pictures.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'clip.mp4')
        fourcc: Any = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(path, fourcc, FPS, (size, size))
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
        writer.release()
        reader, found = cv2.VideoCapture(path), []
        while (read := reader.read())[0]:
            found.append(np.asarray(read[1], np.uint8)[..., ::-1])
        reader.release()
    if len(found) != len(pictures):
        raise RuntimeError(
            f'an MPEG-4 video of {len(pictures)} frames came back with {len(found)}'
        )
    return np.stack(found)


def _resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (size, size):
        return picture
    how = cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)
