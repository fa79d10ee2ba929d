# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import picture

from vljepa_ros.errors import InputError
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.files import natural
from vljepa_ros.sources.names import camera_name, camera_names


def video(path: Path, count: int = 10, fps: float = 20.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), fps, (32, 24))
    for i in range(count):
        writer.write(np.ascontiguousarray(picture('red' if i < 5 else 'blue')[..., ::-1]))
    writer.release()
    return path


def test_a_video_gives_rgb_frames_at_its_own_stamps(tmp_path: Path) -> None:
    source = open_source(video(tmp_path / 'v.avi'))
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [i * 50_000_000 for i in range(10)]
    assert frames[0].image[0, 0, 0] > 200 and frames[0].image[0, 0, 2] < 50
    assert frames[9].image[0, 0, 2] > 200 and frames[9].image[0, 0, 0] < 50
    assert (source.total, source.start_ns, source.cameras) == (10, 0, ('camera',))


def folder(path: Path) -> Path:
    path.mkdir()
    for number, colour in ((2, 'green'), (10, 'blue'), (1, 'red')):
        cv2.imwrite(str(path / f'shot{number}.png'), picture(colour)[..., ::-1])
    (path / 'notes.txt').write_text('not a picture')
    return path


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    frames = list(open_source(folder(tmp_path / 'f'), fps=4.0))
    assert [frame.stamp_ns for frame in frames] == [0, 250_000_000, 500_000_000]
    shown = [tuple(frame.image[0, 0]) for frame in frames]
    assert shown == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_a_damaged_picture_of_a_folder_is_passed_over(tmp_path: Path) -> None:
    path = folder(tmp_path / 'f')
    (path / 'shot3.jpg').write_bytes(b'\xff\xd8 broken')
    items = list(open_source(path).items())
    assert isinstance(items[2], Damaged) and 'shot3.jpg' in items[2].message
    assert [item.stamp_ns for item in items] == [0, 100_000_000, 200_000_000, 300_000_000]


def fails(path: Path, *parts: str, **options: object) -> None:
    with pytest.raises(InputError) as caught:
        open_source(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert '\n' not in text


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    fails(tmp_path / 'gone', 'no such file or folder', 'gone')


def test_empty_things_say_so(tmp_path: Path) -> None:
    (tmp_path / 'v.mp4').touch()
    fails(tmp_path / 'v.mp4', 'empty')
    (tmp_path / 'x').mkdir()
    fails(tmp_path / 'x', 'empty')


def test_what_is_no_recording_says_so(tmp_path: Path) -> None:
    (tmp_path / 'v.mp4').write_bytes(b'text' * 1000)
    fails(tmp_path / 'v.mp4', 'neither a bag', 'nor a readable video')
    (tmp_path / 'f').mkdir()
    (tmp_path / 'f' / 'notes.txt').write_text('x')
    fails(tmp_path / 'f', 'no picture')
    cv2.imwrite(str(tmp_path / 'a.png'), picture('red'))
    fails(tmp_path / 'a.png', 'one picture is no stream')


def test_a_truncated_video_is_one_line_or_shorter(tmp_path: Path) -> None:
    path = video(tmp_path / 'v.avi')
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    try:
        count = len(list(open_source(path)))
    except InputError as error:
        assert '\n' not in str(error)
    else:
        assert 0 < count < 10


def test_options_of_other_kinds_are_refused(tmp_path: Path) -> None:
    fails(video(tmp_path / 'v.avi'), 'topics', topics=['/a'])
    fails(tmp_path / 'v.avi', 'fps', fps=5.0)
    fails(folder(tmp_path / 'f'), 'fps', fps=-1.0)


def test_natural_order_counts_digits_as_numbers() -> None:
    assert sorted(['a10', 'a2', 'b1', '3'], key=natural) == ['3', 'a2', 'a10', 'b1']


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
def test_a_cameras_name_follows_from_its_topic(topic: str, name: str) -> None:
    assert camera_name(topic) == name


def test_names_that_collide_are_told_apart() -> None:
    names = camera_names(['/a/cam/image_raw', '/b/cam/image_raw'])
    assert names == {'/a/cam/image_raw': 'a_cam_image_raw', '/b/cam/image_raw': 'b_cam_image_raw'}
    with pytest.raises(InputError, match="two topics would be called 'x'"):
        camera_names(['/a', '/b'], {'/a': 'x', '/b': 'x'})
    with pytest.raises(InputError, match='not of letters'):
        camera_names(['/a'], {'/a': 'no name'})
