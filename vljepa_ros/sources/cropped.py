# SPDX-License-Identifier: Apache-2.0
"""A recording of which only a part of each image is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from vljepa_ros.core.images import Crop, check_crop, crop
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source


class CroppedSource(Source):
    """The same recording with cropped images."""

    def __init__(self, source: Source, part: Crop) -> None:
        """Raises InputError if `part` is not inside the image."""
        super().__init__(source.path)
        self._source, self._part = source, check_crop(part)
        self.cameras, self.start_ns, self.total = source.cameras, source.start_ns, source.total
        self.names: Mapping[str, str] = getattr(source, 'names', {})

    @property
    def name(self) -> str:
        """Name of the recording for messages."""
        return self._source.name

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over cropped frames, with a `Damaged` in place of each unreadable image."""
        for item in self._source.items():
            if isinstance(item, Frame):
                item = dataclasses.replace(item, image=crop(item.image, self._part))
            yield item
