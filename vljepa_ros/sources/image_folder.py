# SPDX-License-Identifier: Apache-2.0
"""Read folders of image files as recordings. Stamps begin at 0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import decode_compressed
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.natural_order import natural

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.webp', '.tif', '.tiff')
DEFAULT_FPS = 10.0


class FolderSource(Source):
    """Recording from a folder of image files, in natural order of their names (2 before 10)."""

    def __init__(self, path: Path, fps: float = DEFAULT_FPS) -> None:
        """List the image files.

        Args:
            path: The folder.
            fps: Images per second, which determine the stamps.

        Raises:
            InputError: `fps` is out of range, or no image can be read.
        """
        super().__init__(path)
        if not math.isfinite(fps) or not 0.001 <= fps <= 1000:
            raise InputError(f'fps ({fps:g}) is not in 0.001..1000')
        self._period_ns = 1e9 / fps
        self._files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != '.'),
            key=lambda p: natural(p.name),
        )
        if not self._files:
            raise InputError(f'{path}: the folder contains no image and no bag (metadata.yaml)')
        self.total = len(self._files)
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over frames in order, with a `Damaged` in place of each unreadable image."""
        for index, file in enumerate(self._files):
            stamp_ns = round(index * self._period_ns)
            try:
                image = decode_compressed(file.suffix[1:], file.read_bytes())
            except (InputError, OSError) as error:
                yield Damaged(stamp_ns, 'camera', f'{file.name}: {error}')
                continue
            yield Frame(stamp_ns, image)
