# SPDX-License-Identifier: Apache-2.0
"""Recordings of which regions are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import Crop
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.regions import RegionFrames, RegionSource, check_regions

RIGHT: Crop = (0.5, 0.0, 0.5, 1.0)
LEFT: Crop = (0.0, 0.0, 0.5, 1.0)


class Two(Source):
    """Source with an image that has a white right half, and a damaged image."""

    total = 2

    def __init__(self, path: Path, camera: str = 'camera') -> None:
        super().__init__(path)
        self.cameras, self.start_ns = (camera,), 5

    def items(self) -> Iterator[Frame | Damaged]:
        image = np.zeros((10, 20, 3), np.uint8)
        image[:, 10:] = 255
        yield Frame(5, image, self.cameras[0])
        yield Damaged(6, self.cameras[0], 'torn')


def test_only_images_are_changed_by_a_region_without_a_name(tmp_path: Path) -> None:
    cropped = RegionSource(Two(tmp_path / 'run', 'front'), {'': RIGHT})
    first, second = cropped.items()
    assert isinstance(first, Frame) and first.image.shape == (10, 10, 3)
    assert first.image.min() == 255 and (first.stamp_ns, first.source) == (5, 'front')
    assert second == Damaged(6, 'front', 'torn')
    assert (cropped.name, cropped.total, cropped.start_ns) == ('run', 2, 5)
    assert cropped.cameras == ('front',)


def test_each_named_region_is_a_source_with_every_frame(tmp_path: Path) -> None:
    regions = check_regions([('door', LEFT), ('bench', RIGHT)])
    source = RegionSource(Two(tmp_path / 'run'), regions)
    frames = [item for item in source.items() if isinstance(item, Frame)]
    assert [(f.source, f.stamp_ns, int(f.image.mean())) for f in frames] == [
        ('door', 5, 0),
        ('bench', 5, 255),
    ]
    assert [item.source for item in source.items() if isinstance(item, Damaged)] == [
        'door',
        'bench',
    ]
    assert (source.cameras, source.total) == (('door', 'bench'), 4)


def test_regions_of_several_cameras_have_the_names_of_both() -> None:
    frames = RegionFrames({'door': LEFT}, ('front', 'rear'))
    assert frames.sources == ('front_door', 'rear_door')
    assert frames.sources_of('rear') == ('rear_door',)
    whole = RegionFrames({}, ('front', 'rear'))
    image = np.zeros((4, 4, 3), np.uint8)
    assert [f.image.shape for f in whole.divide(Frame(1, image, 'rear'))] == [(4, 4, 3)]
    assert whole.sources == ('front', 'rear')


@pytest.mark.parametrize(
    ('regions', 'message'),
    [
        ([('', (0.5, 0.5, 1.0, 1.0))], 'not inside the image'),
        ([('', (0.0, 0.0, 0.01, 1.0))], 'too small'),
        ([('', LEFT), ('', RIGHT)], 'two regions have no name'),
        ([('a', LEFT), ('', RIGHT)], 'a region has no name'),
        ([('a', LEFT), ('a', RIGHT)], "two regions have the name 'a'"),
        ([('a b', LEFT)], "region name 'a b' is invalid"),
    ],
)
def test_invalid_regions_are_refused_in_one_line(
    regions: list[tuple[str, Crop]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_regions(regions)
