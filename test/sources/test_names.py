# SPDX-License-Identifier: Apache-2.0
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.sources.names import camera_name, camera_names


@pytest.mark.parametrize(
    ('topic', 'name'),
    [
        ('/camera/image_raw/compressed', 'camera'),
        ('/front/image_raw', 'front'),
        ('/robot/arm/color/image_rect_color', 'arm'),
        ('/image', 'camera'),
        ('/usb-cam/rgb', 'usb_cam'),
        ('/7/image', 'camera_7'),
    ],
)
def test_camera_names_are_derived_from_topics(topic: str, name: str) -> None:
    assert camera_name(topic) == name


def test_colliding_names_are_made_unique() -> None:
    names = camera_names(['/a/cam/image_raw', '/b/cam/image_raw'])
    assert names == {'/a/cam/image_raw': 'a_cam_image_raw', '/b/cam/image_raw': 'b_cam_image_raw'}
    with pytest.raises(InputError, match="'x'"):
        camera_names(['/a', '/b'], {'/a': 'x', '/b': 'x'})
    with pytest.raises(InputError, match='letters'):
        camera_names(['/a'], {'/a': 'no name'})
