# SPDX-License-Identifier: Apache-2.0
"""Live cameras: an HTTP server, GStreamer's RTSP server, and named pipes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import bags, rtsp_camera, videos
from helpers.fake_models import COLORS
from helpers.mjpeg_server import MjpegServer, mjpeg_server
from helpers.waiting import eventually

from vljepa_ros.core.errors import CameraError, InputError
from vljepa_ros.core.types import Frame, Image
from vljepa_ros.sources import live_stream, open_source
from vljepa_ros.sources.live_reader import CameraReader, Gap, LiveReader, PacedReader
from vljepa_ros.sources.live_stream import LiveStream, is_live, shown

needs_rtsp = pytest.mark.skipif(not rtsp_camera.is_available(), reason=rtsp_camera.NEEDS)


@contextmanager
def reading(reader: LiveReader) -> Iterator[LiveReader]:
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


def camera(url: str, stall_s: float = 5.0, give_up_s: float = 0.0) -> CameraReader:
    return CameraReader(url, lambda: None, stall_s, give_up_s)


def color_of(frame: Frame) -> str:
    mean = frame.image.reshape(-1, 3).mean(axis=0)
    return min(COLORS, key=lambda name: float(np.abs(mean - COLORS[name]).sum()))


class Taken:
    """Everything that was taken from a reader."""

    def __init__(self, reader: LiveReader) -> None:
        self.reader = reader
        self.frames: list[Frame] = []
        self.notices: list[Any] = []

    def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Take until a condition holds."""

        def done() -> bool:
            notices, frames = self.reader.take()
            self.notices += notices
            self.frames += [frame.frame() for frame in frames]
            return condition()

        eventually(done, timeout_s)

    def until_color(self, color: str) -> None:
        self.until(lambda: bool(self.frames) and color_of(self.frames[-1]) == color)

    @property
    def gaps(self) -> list[Gap]:
        return [notice for notice in self.notices if isinstance(notice, Gap)]


@pytest.fixture
def http() -> Iterator[MjpegServer]:
    with mjpeg_server() as server:
        yield server


def test_images_of_a_camera_arrive_with_the_time_of_the_system(http: MjpegServer) -> None:
    before_ns = time.time_ns()
    with reading(camera(http.url)) as reader:
        taken = Taken(reader)
        taken.until_color('red')
        http.color = 'blue'
        taken.until_color('blue')
    stamps = [frame.stamp_ns for frame in taken.frames]
    assert before_ns < stamps[0] and stamps[-1] < time.time_ns()
    assert stamps == sorted(set(stamps))
    assert taken.notices == [] and {frame.source for frame in taken.frames} == {'camera'}


def test_only_the_newest_image_waits(http: MjpegServer) -> None:
    with reading(camera(http.url)) as reader:
        eventually(lambda: reader.received >= 5)
        http.color = 'green'
        sent = http.sent
        eventually(lambda: http.sent >= sent + 20)
        [frame] = reader.take()[1]
        assert frame.dropped and color_of(frame.frame()) == 'green'
        assert reader.dropped >= 4
        [later] = eventually(lambda: reader.take()[1])
        assert not later.dropped


def test_a_camera_that_hangs_is_connected_again_with_a_counted_gap(http: MjpegServer) -> None:
    with reading(camera(http.url, stall_s=2.0)) as reader:
        taken = Taken(reader)
        taken.until_color('red')
        http.mode = 'hang'
        taken.until(lambda: bool(taken.notices))
        assert taken.notices == [
            f'{http.url}: the stream stalled: no packet for 2 s; connecting again'
        ]
        last_ns = taken.frames[-1].stamp_ns
        http.mode = 'send'
        taken.until(lambda: bool(taken.gaps))
        taken.until(lambda: taken.frames[-1].stamp_ns > last_ns)
    [gap] = taken.gaps
    assert (gap.number, reader.gaps) == (1, 1) and 'stalled' in gap.reason
    assert gap.end_ns - gap.start_ns > 2_000_000_000
    assert last_ns <= gap.start_ns < gap.end_ns <= taken.frames[-1].stamp_ns
    assert len(taken.notices) == 2  # the attempts in between are not reported


def test_a_camera_that_closes_the_connection_is_connected_again(http: MjpegServer) -> None:
    with reading(camera(http.url)) as reader:
        taken = Taken(reader)
        taken.until_color('red')
        http.mode = 'end'
        taken.until(lambda: bool(taken.notices))
        http.mode = 'send'
        taken.until(lambda: bool(taken.gaps))
        http.mode = 'end'
        taken.until(lambda: len(taken.notices) == 3)
        http.mode = 'send'
        taken.until(lambda: len(taken.gaps) == 2)
    assert [gap.number for gap in taken.gaps] == [1, 2] and reader.error is None


def test_reading_ends_if_the_camera_does_not_come_back_in_time(http: MjpegServer) -> None:
    with reading(camera(http.url, give_up_s=0.5)) as reader:
        Taken(reader).until_color('red')
        http.mode = '503'
        eventually(lambda: reader.ended)
    assert isinstance(reader.error, CameraError)
    assert 'no image came back within 0.5 s' in str(reader.error)


@pytest.mark.parametrize(
    ('mode', 'kind', 'message'),
    [
        ('404', InputError, '404'),
        ('401', InputError, 'check the user and password'),
        ('503', CameraError, 'Server'),
        ('html', CameraError, 'check the address'),
    ],
)
def test_an_address_without_a_video_is_named_at_once(
    http: MjpegServer, mode: str, kind: type[Exception], message: str
) -> None:
    http.mode = mode
    with pytest.raises(kind, match=message) as caught:
        camera(http.url)
    assert str(caught.value).startswith(http.url) and '\n' not in str(caught.value)


def test_the_image_size_may_change(http: MjpegServer) -> None:
    with reading(camera(http.url)) as reader:
        taken = Taken(reader)
        taken.until_color('red')
        http.height = 48
        taken.until(lambda: taken.frames[-1].image.shape == (48, 64, 3))
    assert taken.frames[0].image.shape == (24, 32, 3) and taken.notices == []


@pytest.mark.parametrize(
    ('number', 'kind', 'message'),
    [
        (errno.ENOENT, InputError, 'no such device'),
        (errno.EBUSY, CameraError, 'busy: close the other program'),
        (errno.EACCES, InputError, 'add your user to the group video'),
        (errno.ENODEV, CameraError, 'unplugged'),
        (errno.ENOTTY, InputError, 'not a camera'),
    ],
)
def test_a_device_that_cannot_be_opened_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise av.error.OSError(number, os.strerror(number), '/dev/video7')

    monkeypatch.setattr(av, 'open', refuse)
    with pytest.raises(kind, match=message) as caught:
        LiveStream('/dev/video7', 1.0)
    assert str(caught.value).startswith('/dev/video7: ')


def test_a_device_that_is_unplugged_is_read_again_when_it_is_back(
    http: MjpegServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is an HTTP camera, since there is no virtual V4L2 device."""
    open_, plugged = av.open, [True]

    def open_device(name: str, format: str | None = None, **options: Any) -> Any:
        assert (name, format) == ('/dev/video7', 'v4l2')
        if not plugged[0]:
            raise av.error.FileNotFoundError(errno.ENOENT, 'No such file or directory', name)
        return open_(http.url, **options)

    monkeypatch.setattr(av, 'open', open_device)
    with reading(camera('/dev/video7')) as reader:
        taken = Taken(reader)
        taken.until_color('red')
        plugged[0], http.mode = False, 'end'
        taken.until(lambda: bool(taken.notices))
        http.mode, plugged[0] = 'send', True
        taken.until(lambda: bool(taken.gaps))
    assert taken.notices[0].startswith('/dev/video7: ') and len(taken.gaps) == 1


def test_a_missing_device_is_one_line() -> None:
    with pytest.raises(InputError, match=r'^/dev/video99: no such device or file$'):
        camera('/dev/video99')


def test_a_refused_connection_may_be_tried_again() -> None:
    with pytest.raises(CameraError, match='connection refused'):
        camera('rtsp://127.0.0.1:9/x')


def test_a_server_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stream, 'OPEN_S', 1.0)
    with socket.create_server(('127.0.0.1', 0)) as server:
        url = f'rtsp://127.0.0.1:{server.getsockname()[1]}/x'
        with pytest.raises(CameraError, match='no video stream within'):
            camera(url, stall_s=1.0)


def test_passwords_are_not_shown() -> None:
    assert shown('rtsp://me:secret@host/1') == 'rtsp://me:***@host/1'
    with pytest.raises(CameraError) as caught:
        camera('rtsp://me:secret@127.0.0.1:9/x')
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('source', ['/dev/video0', 'rtsp://h/1', 'http://h/1.mjpg', '-'])
def test_cameras_are_recognized_by_their_names(source: str) -> None:
    assert is_live(source)


def test_files_are_recordings_pipes_are_cameras_and_other_urls_are_refused(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / 'pipe')
    assert is_live(str(tmp_path / 'pipe'))
    assert not is_live(str(tmp_path)) and not is_live('missing.mp4')
    with pytest.raises(InputError, match="URL type 'ftp' is not supported"):
        is_live('ftp://me:secret@host/a.mp4')


@contextmanager
def writing(path: Path, packets: list[bytes]) -> Iterator[None]:
    """Write packets to a named pipe in a thread, at 50 packets/s; it closes with the block."""
    os.mkfifo(path)
    done = threading.Event()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), path.open('wb', buffering=0) as pipe:
            for packet in packets:
                pipe.write(packet)
                time.sleep(0.02)
            done.wait(30)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)


def noisy(color: str, count: int) -> list[Image]:
    """Return images of about one color, which need many bytes, as real images do."""
    noise = np.random.default_rng(0).integers(0, 60, (count, 96, 128, 3))
    return [np.clip(np.abs(COLORS[color] - n), 0, 255).astype(np.uint8) for n in noise]


def test_a_named_pipe_is_read_until_its_writer_ends(tmp_path: Path) -> None:
    pipe = tmp_path / 'pipe'
    encoded = videos.encode(noisy('red', 60) + noisy('blue', 60), key_every=5)
    with writing(pipe, [packet.data for packet in encoded]):
        reader = camera(str(pipe))
        reader.start()
        taken = Taken(reader)
        taken.until_color('red')
        taken.until_color('blue')
    taken.until(lambda: reader.ended)
    reader.stop()
    assert (reader.error, reader.gaps, reader.received) == (None, 0, 120)


def test_a_stream_without_a_key_frame_is_named(tmp_path: Path) -> None:
    pipe = tmp_path / 'pipe'
    first, *others = videos.encode(noisy('red', 300))
    parameters = first.data[: first.data.index(b'\0\0\1\x65')]
    packets = [parameters + packet.data for packet in others]
    with writing(pipe, packets), reading(camera(str(pipe), stall_s=1.0)) as reader:
        eventually(lambda: reader.ended)
    assert isinstance(reader.error, CameraError)
    assert 'starts at a key frame, and none was sent' in str(reader.error)


@needs_rtsp
@pytest.mark.parametrize('codec', ['h264', 'h265', 'jpeg'])
def test_an_rtsp_camera_is_read(codec: str) -> None:
    with (
        rtsp_camera.rtsp_camera(codec) as server,
        reading(camera(server.url, stall_s=5.0)) as reader,
    ):
        taken = Taken(reader)
        taken.until_color('red')
        server.tell('color blue')
        taken.until_color('blue')
        assert taken.frames[-1].image.shape == (48, 64, 3)
        assert taken.notices == []


@needs_rtsp
def test_an_rtsp_camera_that_stalls_is_connected_again() -> None:
    with (
        rtsp_camera.rtsp_camera() as server,
        reading(camera(server.url, stall_s=1.0)) as reader,
    ):
        taken = Taken(reader)
        taken.until_color('red')
        server.freeze()
        taken.until(lambda: bool(taken.notices))
        # A frozen server may still send a few packets, too few for an image.
        assert 'for 1 s' in taken.notices[0] and 'connecting again' in taken.notices[0]
        server.go_on()
        taken.until(lambda: bool(taken.gaps))
        assert taken.gaps[0].number == 1


@needs_rtsp
def test_an_rtsp_camera_may_change_its_size() -> None:
    with (
        rtsp_camera.rtsp_camera() as server,
        reading(camera(server.url, stall_s=5.0)) as reader,
    ):
        taken = Taken(reader)
        taken.until_color('red')
        server.tell('size 128 96')
        taken.until(lambda: taken.frames[-1].image.shape == (96, 128, 3))
        assert color_of(taken.frames[-1]) == 'red'


@needs_rtsp
def test_an_rtsp_camera_that_restarts_with_another_codec_is_read_again() -> None:
    with rtsp_camera.rtsp_camera('h264') as server:
        with reading(camera(server.url, stall_s=2.0)) as reader:
            taken = Taken(reader)
            taken.until_color('red')
            server.stop()
            taken.until(lambda: bool(taken.notices))
            with rtsp_camera.rtsp_camera('h265', port=server.port) as other:
                taken.until(lambda: bool(taken.gaps))
                other.tell('color green')
                taken.until_color('green')
        assert len(taken.gaps) == 1


@needs_rtsp
def test_an_rtsp_camera_without_key_frames_is_named() -> None:
    with (
        rtsp_camera.rtsp_camera(keys=10) as server,
        reading(camera(server.url, stall_s=2.0)) as first,
    ):
        Taken(first).until_color('red')  # the first client starts the encoder
        server.tell('keys off')
        with reading(camera(server.url, stall_s=2.0)) as reader:
            eventually(lambda: reader.ended)
    assert isinstance(reader.error, CameraError)
    assert str(reader.error).startswith(f'{server.url}: no image for 2 s')
    assert 'starts at a key frame, and none was sent' in str(reader.error)


def test_a_recording_is_played_at_its_speed(tmp_path: Path) -> None:
    rows = bags.colors(['red'], 12)
    topic, log_ns, _ = rows[5]
    rows[5] = topic, log_ns, bags.compressed(log_ns, np.zeros(4, np.uint8))
    source = open_source(bags.write(tmp_path / 'bag', rows))
    began_s = time.monotonic()
    with reading(PacedReader(source, lambda: None)) as reader:
        taken = Taken(reader)
        taken.until(lambda: reader.ended)
        taken.until(lambda: True)
    assert time.monotonic() - began_s >= 1.1
    assert reader.start_ns == bags.START_NS
    stamps = [frame.stamp_ns for frame in taken.frames]  # without those that were replaced
    assert stamps == sorted(set(stamps)) and set(stamps) <= set(bags.stamps(12))
    assert stamps[-1] == bags.stamps(12)[-1] and bags.stamps(12)[5] not in stamps
    assert reader.received == 11 == len(stamps) + reader.dropped
    [damaged] = taken.notices
    assert damaged.stamp_ns == bags.stamps(12)[5]
