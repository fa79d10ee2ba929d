# SPDX-License-Identifier: Apache-2.0
"""Regions of interest: parts of camera images, each a source of its own if it is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import Crop, check_crop, crop
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source


def check_regions(regions: Sequence[tuple[str, Crop]]) -> dict[str, Crop]:
    """Return regions by name; '' for the one region that keeps the name of its camera.

    Args:
        regions: Pairs of a name and a rectangle (x, y, width, height) in fractions of the image.

    Raises:
        InputError: A rectangle is too small or not inside the image, or several regions have no
            name, an invalid name or the same name.
    """
    names = [name for name, _ in regions]
    for name in names:
        if names.count(name) > 1:
            given = f"two regions have the name '{name}'" if name else 'two regions have no name'
            raise InputError(f'{given}: name each of them, as in door=0,0,0.5,1')
        if len(names) > 1 and not name:
            raise InputError('a region has no name: name each of them, as in door=0,0,0.5,1')
        if name and not name.isidentifier():
            raise InputError(
                f"region name '{name}' is invalid: use letters, digits and _, not starting with a "
                'digit'
            )
    return {name: check_crop(part) for name, part in regions}


class RegionFrames:
    """Divides the frames of cameras into the frames of regions.

    The source of a named region is `<region>`, or `<camera>_<region>` if there are several
    cameras.
    """

    def __init__(self, regions: Mapping[str, Crop], cameras: Sequence[str]) -> None:
        """Create a divider.

        Args:
            regions: Rectangles by name, see `check_regions`; {} for the whole images.
            cameras: Names of all cameras.
        """
        several = len(cameras) > 1
        self._regions: dict[str, dict[str, Crop]] = {}  # by camera and source
        for camera in cameras:
            self._regions[camera] = {
                (f'{camera}_{name}' if name and several else name or camera): part
                for name, part in regions.items()
            } or {camera: check_crop((0, 0, 1, 1))}

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources."""
        return tuple(source for parts in self._regions.values() for source in parts)

    def sources_of(self, camera: str) -> tuple[str, ...]:
        """Return the names of the sources that a camera shows."""
        return tuple(self._regions[camera])

    def divide(self, frame: Frame) -> Iterator[Frame]:
        """Yield the frame of each region of a camera's frame."""
        for source, part in self._regions[frame.source].items():
            yield dataclasses.replace(frame, source=source, image=crop(frame.image, part))


class RegionSource(Source):
    """Regions of the images of a recording."""

    def __init__(self, source: Source, regions: Mapping[str, Crop]) -> None:
        """Wrap a recording.

        Args:
            source: The recording.
            regions: Rectangles by name, see `check_regions`.
        """
        super().__init__(source.path)
        self._source, self._frames = source, RegionFrames(regions, source.cameras)
        self.cameras, self.start_ns = self._frames.sources, source.start_ns
        self.sources_by_topic = {
            topic: tuple(name for camera in cameras for name in self._frames.sources_of(camera))
            for topic, cameras in source.sources_by_topic.items()
        }
        self.notes = source.notes
        self.total = None if source.total is None else source.total * len(regions)

    @property
    def name(self) -> str:
        """Name of the wrapped recording, for log and error messages."""
        return self._source.name

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over the frames of all regions, with a `Damaged` for each unreadable image."""
        for item in self._source.items():
            if isinstance(item, Frame):
                yield from self._frames.divide(item)
            else:
                for source in self._frames.sources_of(item.source):
                    yield dataclasses.replace(item, source=source)
