# SPDX-License-Identifier: Apache-2.0
"""A recording with cropped images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.cropped_source import CroppedSource


class Two(Source):
    """Source with an image that has a white right half, and a damaged image."""

    total = 2

    def items(self) -> Iterator[Frame | Damaged]:
        image = np.zeros((10, 20, 3), np.uint8)
        image[:, 10:] = 255
        yield Frame(5, image)
        yield Damaged(6, 'camera', 'torn')


def test_only_images_are_changed_by_the_crop(tmp_path: Path) -> None:
    source = Two(tmp_path / 'run')
    source.start_ns, source.cameras = 5, ('front',)
    cropped = CroppedSource(source, (0.5, 0.0, 0.5, 1.0))
    first, second = cropped.items()
    assert isinstance(first, Frame) and first.image.shape == (10, 10, 3)
    assert first.image.min() == 255 and first.stamp_ns == 5
    assert second == Damaged(6, 'camera', 'torn')
    assert (cropped.name, cropped.total, cropped.start_ns, cropped.cameras) == (
        'run',
        2,
        5,
        ('front',),
    )


def test_a_crop_outside_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='crop'):
        CroppedSource(Two(tmp_path), (0.5, 0.5, 1.0, 1.0))
