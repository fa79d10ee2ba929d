# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.fake_models import solid_image
from helpers.printed import numbers

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.files import VideoSource, natural
from vljepa_ros.sources.names import camera_name, camera_names


def video(path: Path, count: int = 10, fps: float = 20.0, codec: str = 'MJPG') -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (32, 24))
    for i in range(count):
        writer.write(np.ascontiguousarray(solid_image('red' if i < 5 else 'blue')[..., ::-1]))
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
    for number, color in ((2, 'green'), (10, 'blue'), (1, 'red')):
        cv2.imwrite(str(path / f'shot{number}.png'), solid_image(color)[..., ::-1])
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
    fails(tmp_path / 'f', 'no image')
    cv2.imwrite(str(tmp_path / 'a.png'), solid_image('red'))
    fails(tmp_path / 'a.png', 'a single image is not a stream')


@pytest.mark.parametrize('suffix', ['avi', 'mkv'])
def test_a_truncated_video_says_where_it_ends(tmp_path: Path, suffix: str) -> None:
    path = video(tmp_path / f'v.{suffix}', 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    items = list(open_source(path).items())
    assert all(isinstance(item, Frame) for item in items[:-1]) and 10 < len(items) < 50
    assert isinstance(items[-1], Damaged) and items[-1].stamp_ns > items[-2].stamp_ns
    assert numbers(items[-1].message) == [len(items) - 1, 60]


def test_a_hole_in_a_video_costs_only_the_frames_in_it(tmp_path: Path) -> None:
    path = video(tmp_path / 'v.mp4', 60)
    data = path.read_bytes()
    end = data.index(b'moov')
    middle, size = end // 2, end // 10
    path.write_bytes(data[:middle] + bytes(size) + data[middle + size :])
    items = list(open_source(path).items())
    lost = [i for i, item in enumerate(items) if isinstance(item, Damaged)]
    assert len(items) == 60 and 4 <= len(lost) <= 9 and lost[-1] < 40
    assert [item.stamp_ns for item in items] == [i * 50_000_000 for i in range(60)]
    first = items[lost[0]]
    assert isinstance(first, Damaged)
    assert numbers(first.message) == [lost[0] + 1, 60]


def test_a_hole_that_hides_its_size_leaves_the_rest_and_is_told(tmp_path: Path) -> None:
    path = video(tmp_path / 'v.avi', 60)
    data = path.read_bytes()
    middle, size = len(data) // 2, len(data) // 8
    path.write_bytes(data[:middle] + bytes(size) + data[middle + size :])
    items = list(open_source(path).items())
    assert 45 <= sum(isinstance(item, Frame) for item in items) < 60
    assert isinstance(items[-1], Damaged) and len(numbers(items[-1].message)) == 2


@pytest.mark.parametrize(
    ('codec', 'suffix'),
    [('MJPG', 'avi'), ('XVID', 'avi'), ('mp4v', 'mp4'), ('MJPG', 'mkv'), ('VP80', 'webm')],
)
@pytest.mark.parametrize(('count', 'fps'), [(1, 20.0), (7, 29.97), (60, 12.5)])
def test_an_intact_video_is_all_frames(
    tmp_path: Path, codec: str, suffix: str, count: int, fps: float
) -> None:
    items = list(open_source(video(tmp_path / f'v.{suffix}', count, fps, codec)).items())
    assert len(items) == count and all(isinstance(item, Frame) for item in items)


class Capture:
    """Fake capture of `pictures` (None: damaged), 40 ms apart by default."""

    def __init__(self, pictures: list[np.ndarray | None], promised: float, step_ms: float) -> None:
        self.pictures, self.promised, self.step_ms, self.reads = pictures, promised, step_ms, 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        found = self.pictures[self.reads] if self.reads < len(self.pictures) else None
        self.reads += 1
        return found is not None, found

    def get(self, which: int) -> float:
        known = {cv2.CAP_PROP_FRAME_COUNT: self.promised, cv2.CAP_PROP_FPS: 25.0}
        return known.get(which, (self.reads - 1) * self.step_ms)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def release(self) -> None:
        pass


def opened(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    pictures: list[np.ndarray | None],
    promised: float,
    step_ms: float = 40.0,
) -> tuple[VideoSource, list[Capture]]:
    path.write_bytes(b'x')
    made: list[Capture] = []

    def capture(_: str) -> Capture:
        made.append(Capture(pictures, promised, step_ms))
        return made[-1]

    monkeypatch.setattr(cv2, 'VideoCapture', capture)
    return VideoSource(path), made


def test_a_count_that_is_far_too_high_is_not_tried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [solid_image('red')] * 3
    source, made = opened(monkeypatch, tmp_path / 'v.avi', [*shown], 1e12)
    items = list(source.items())
    assert len(items) == 4 and isinstance(items[-1], Damaged)
    assert made[-1].reads < 20_000


@pytest.mark.parametrize('promised', [float('nan'), float('inf'), -4e15, 0.0])
def test_a_count_that_is_none_promises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promised: float
) -> None:
    source, _ = opened(monkeypatch, tmp_path / 'v.avi', [solid_image('red')] * 3, promised)
    assert source.total is None
    assert all(isinstance(item, Frame) for item in source.items())


def test_a_rate_that_varies_makes_the_count_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A screen recording at half the rate in its header has no missing frames."""
    shown = [solid_image('red')] * 30
    source, _ = opened(monkeypatch, tmp_path / 'v.mkv', [*shown], 60.0, step_ms=80.0)
    assert all(isinstance(item, Frame) for item in source.items())


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
    with pytest.raises(InputError, match="'x'"):
        camera_names(['/a', '/b'], {'/a': 'x', '/b': 'x'})
    with pytest.raises(InputError, match='letters'):
        camera_names(['/a'], {'/a': 'no name'})
