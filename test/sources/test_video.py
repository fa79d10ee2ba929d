# SPDX-License-Identifier: Apache-2.0
"""Video files of constant and variable rate, rotated and damaged ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.fake_models import solid_image
from helpers.printed import numbers

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.sources import Damaged, open_source

VARIABLE_MS = [0, 50, 100, 400, 450, 500, 1500, 1550]


def video(path: Path, count: int = 10, fps: float = 20.0, codec: str = 'MJPG') -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (32, 24))
    for i in range(count):
        writer.write(np.ascontiguousarray(solid_image('red' if i < 5 else 'blue')[..., ::-1]))
    writer.release()
    return path


def with_pyav(
    path: Path,
    stamps_ms: Iterable[int],
    codec: str = 'mpeg4',
    rotation: int = 0,
) -> Path:
    """Write a video of 64x48 pixels with red upper and blue lower half."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :, 0], image[24:, :, 2] = 255, 255
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=20)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for stamp_ms in stamps_ms:
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = stamp_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_video_yields_rgb_frames_with_its_own_stamps(tmp_path: Path) -> None:
    source = open_source(video(tmp_path / 'v.avi'))
    frames = list(source)
    assert [frame.stamp_ns for frame in frames] == [i * 50_000_000 for i in range(10)]
    assert frames[0].image[0, 0, 0] > 200 and frames[0].image[0, 0, 2] < 50
    assert frames[9].image[0, 0, 2] > 200 and frames[9].image[0, 0, 0] < 50
    assert (source.total, source.start_ns, source.cameras) == (10, 0, ('camera',))


@pytest.mark.parametrize('name', ['v.mp4', 'v.mkv'])
@pytest.mark.parametrize('codec', ['mpeg4', 'h264'])
def test_variable_rate_videos_keep_the_stamps_of_the_file(
    tmp_path: Path, name: str, codec: str
) -> None:
    source = open_source(with_pyav(tmp_path / name, VARIABLE_MS, codec))
    items = list(source.items())
    assert all(isinstance(item, Frame) for item in items)
    assert [item.stamp_ns for item in items] == [ms * 1_000_000 for ms in VARIABLE_MS]


def test_stamps_start_at_zero(tmp_path: Path) -> None:
    path = with_pyav(tmp_path / 'v.mkv', [700, 750, 900])
    assert [item.stamp_ns for item in open_source(path).items()] == [0, 50_000_000, 200_000_000]


@pytest.mark.parametrize(
    ('rotation', 'shape', 'red'),
    [
        (0, (48, 64, 3), np.s_[:20]),
        (90, (64, 48, 3), np.s_[:, :20]),
        (180, (48, 64, 3), np.s_[-20:]),
        (270, (64, 48, 3), np.s_[:, -20:]),
    ],
)
def test_a_rotated_video_is_upright(
    tmp_path: Path, rotation: int, shape: tuple[int, ...], red: object
) -> None:
    """The matrix of the file rotates counterclockwise."""
    frames = list(open_source(with_pyav(tmp_path / 'v.mp4', [0, 50], rotation=rotation)))
    assert len(frames) == 2
    for frame in frames:
        assert frame.image.shape == shape and frame.image.flags.c_contiguous
        assert np.all(frame.image[red][..., 0] > 200), frame.image[:, :, 0]  # type: ignore[index]


def test_av1_videos_are_read(tmp_path: Path) -> None:
    """OpenCV's wheels contain no decoder for AV1."""
    path = with_pyav(tmp_path / 'v.mp4', range(0, 500, 50), 'libsvtav1')
    items = list(open_source(path).items())
    assert [item.stamp_ns for item in items] == [i * 50_000_000 for i in range(10)]
    assert all(isinstance(item, Frame) for item in items)


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = video(tmp_path / 'run.avi').rename('run_12:30.avi')
    assert len(list(open_source(Path(path.name)))) == 10


def test_a_name_that_is_not_utf_8_is_a_file(tmp_path: Path) -> None:
    path = video(tmp_path / 'v.avi')
    renamed = Path(os.fsdecode(os.fsencode(tmp_path) + b'/v\xff\xe9.avi'))
    assert len(list(open_source(path.rename(renamed)))) == 10


def opencv_stamps(path: Path) -> list[int]:
    """Return the stamps that OpenCV reads."""
    capture, found = cv2.VideoCapture(str(path)), list[int]()
    while capture.read()[0]:
        found.append(round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6))
    return found


def test_files_without_video_are_rejected(tmp_path: Path) -> None:
    (tmp_path / 'empty.mp4').touch()
    (tmp_path / 'text.mp4').write_bytes(b'text' * 1000)
    sound = tmp_path / 'sound.mp4'
    with av.open(str(sound), 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format='fltp', layout='mono'
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    no_video = 'readable video'
    for name, message in (('empty', 'empty'), ('text', no_video), ('sound', no_video)):
        with pytest.raises(InputError, match=f'{name}.mp4: .*{message}'):
            open_source(tmp_path / f'{name}.mp4')


def test_a_file_that_only_contains_jpegs_is_no_video(tmp_path: Path) -> None:
    """FFmpeg guesses motion JPEG from the content, for example of a bag."""
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    data = cv2.imencode('.jpg', image)[1].tobytes() * 20
    for name in ('run.bin', 'run.bag', 'run.mp4', 'run'):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f'{name}: .*readable video'):
            open_source(tmp_path / name)
    (tmp_path / 'run.mjpeg').write_bytes(data)
    assert len(list(open_source(tmp_path / 'run.mjpeg'))) == 20


def test_a_container_is_recognized_under_any_name(tmp_path: Path) -> None:
    for suffix in ('avi', 'mp4', 'mkv'):
        path = video(tmp_path / f'v.{suffix}').rename(tmp_path / f'{suffix}_of_monday')
        assert len(list(open_source(path))) == 10


@pytest.mark.parametrize('suffix', ['avi', 'mkv'])
def test_a_truncated_video_reports_its_number_of_frames(tmp_path: Path, suffix: str) -> None:
    path = video(tmp_path / f'v.{suffix}', 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    items = list(open_source(path).items())
    assert all(isinstance(item, Frame) for item in items[:-1]) and 10 < len(items) < 50
    assert isinstance(items[-1], Damaged) and items[-1].stamp_ns > items[-2].stamp_ns
    assert items[-1].is_end
    assert numbers(items[-1].message) == [len(items) - 1, 60]


def test_only_damaged_frames_of_a_video_are_lost(tmp_path: Path) -> None:
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


def test_a_damaged_part_of_unknown_length_is_reported_at_the_end(tmp_path: Path) -> None:
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
def test_an_intact_video_yields_all_frames(
    tmp_path: Path, codec: str, suffix: str, count: int, fps: float
) -> None:
    path = video(tmp_path / f'v.{suffix}', count, fps, codec)
    items = list(open_source(path).items())
    assert len(items) == count and all(isinstance(item, Frame) for item in items)
    assert [item.stamp_ns for item in items] == opencv_stamps(path)


def test_an_excessive_frame_count_in_the_header_is_not_trusted(tmp_path: Path) -> None:
    path = video(tmp_path / 'v.avi', 3)
    data = bytearray(path.read_bytes())
    length = data.index(b'strh') + 8 + 32  # dwLength of the stream header
    assert int.from_bytes(data[length : length + 4], 'little') == 3
    data[length : length + 4] = (2_000_000_000).to_bytes(4, 'little')
    path.write_bytes(data)
    items = list(open_source(path).items())
    assert len(items) == 4 and isinstance(items[-1], Damaged)
    assert numbers(items[-1].message) == [3, 2_000_000_000]


def test_a_raw_stream_has_stamps_at_its_rate_and_no_frame_count(tmp_path: Path) -> None:
    path = with_pyav(tmp_path / 'v.h264', range(0, 500, 50), 'h264')
    source = open_source(path)
    frames = list(source)
    assert source.total is None
    assert [frame.stamp_ns for frame in frames] == [i * 40_000_000 for i in range(10)]


def test_missing_frames_of_a_variable_rate_video_are_not_damage(tmp_path: Path) -> None:
    """A screen recording at half the rate in its header has no missing frames."""
    source = open_source(with_pyav(tmp_path / 'v.mkv', range(0, 3000, 100)))
    items = list(source.items())
    assert source.total in (59, 60)
    assert len(items) == 30 and all(isinstance(item, Frame) for item in items)


def test_a_missing_pyav_is_reported_with_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(tmp_path / 'v.avi')
    monkeypatch.delitem(sys.modules, 'vljepa_ros.sources.video')
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(InputError, match=r'v\.avi: .*pip install av'):
        open_source(path)
