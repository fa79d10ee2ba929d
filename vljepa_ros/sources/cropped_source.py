# SPDX-License-Identifier: Apache-2.0
"""Recording whose images are cropped to the same rectangle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from vljepa_ros.core.images import Crop, check_crop, crop
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source


class CroppedSource(Source):
    """Wrapper of a recording that crops every image to the same rectangle."""

    def __init__(self, source: Source, part: Crop) -> None:
        """Wrap a recording.

        Args:
            source: The recording.
            part: Rectangle (x, y, width, height) in fractions of the image.

        Raises:
            InputError: The rectangle is too small or not inside the image.
        """
        super().__init__(source.path)
        self._source, self._part = source, check_crop(part)
        self.cameras, self.start_ns, self.total = source.cameras, source.start_ns, source.total
        self.notes = source.notes
        self.names: Mapping[str, str] = getattr(source, 'names', {})

    @property
    def name(self) -> str:
        """Name of the wrapped recording, for log and error messages."""
        return self._source.name

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over cropped frames, with a `Damaged` in place of each unreadable image."""
        for item in self._source.items():
            if isinstance(item, Frame):
                item = dataclasses.replace(item, image=crop(item.image, self._part))
            yield item
