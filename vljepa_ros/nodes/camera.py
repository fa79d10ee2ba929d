# SPDX-License-Identifier: Apache-2.0
"""Camera of perception_node: a region of the images of one topic, which is a source of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vljepa_ros.core.images import Crop, check_crop, crop, rotate
from vljepa_ros.core.types import Image
from vljepa_ros.stream.familiarity import UnfamiliarSpan


class _Region(NamedTuple):
    """Cropped rectangle, and how often it was changed."""

    crop: Crop
    changes: int


class RegionImage(NamedTuple):
    """The image that a camera shows, with the number of changes of its crop."""

    image: Image
    changes: int


class CameraRegion:
    """Region of the images of one topic. Cameras of the same topic share its subscription.

    `topic` and `transport`: parameters of the camera; `unfamiliar`: detects unfamiliar scenes.
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        """Create a camera.

        Args:
            name: Name of the camera.
            values: Parameter values by name, such as `<name>.topic`.

        Raises:
            InputError: The crop is invalid.
        """
        self.name = name
        self.topic: str = values[f'{name}.topic']
        self.transport: str = values[f'{name}.transport']
        self.degrees: int = values[f'{name}.rotate']
        self.unfamiliar = UnfamiliarSpan()
        self._region = _Region(check_crop(values[f'{name}.crop']), 0)

    @property
    def crop_changes(self) -> int:
        """How often the crop was changed; each change resets the stream of the camera."""
        return self._region.changes

    def set_crop(self, values: Sequence[float]) -> bool:
        """Use another crop from the next image on, and return whether it differs.

        Raises:
            InputError: The crop is invalid; the old crop stays in use.
        """
        found = check_crop(values)
        changed = found != self._region.crop
        if changed:  # replaced as a whole, because the model thread reads it
            self._region = _Region(found, self._region.changes + 1)
        return changed

    def view(self, image: Image) -> RegionImage:
        """Rotate and crop an image of the topic."""
        region = self._region
        return RegionImage(crop(rotate(image, self.degrees), region.crop), region.changes)
