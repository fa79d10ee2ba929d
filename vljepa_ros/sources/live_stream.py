# SPDX-License-Identifier: Apache-2.0
"""One connection to a live camera with PyAV (FFmpeg): a V4L2 device, RTSP, HTTP or a pipe.

A failure is one line: a `CameraError` if another attempt may succeed, otherwise an `InputError`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer

from vljepa_ros.core.errors import CameraError, InputError

OPEN_S = 10.0  # maximum time to connect and to recognize the stream
STDIN = '-'
# Limits of what is read to recognize the stream, in microseconds and bytes. These packets are
# decoded, too (no fflags=nobuffer): they may contain the only key frame of many seconds.
OPTIONS = {'analyzeduration': '2000000', 'probesize': '1000000'}
DEVICE = re.compile(r'/dev/(video|v4l/).*')
URL = re.compile(r'([a-zA-Z][a-zA-Z0-9+.-]*)://')
SCHEMES = ('rtsp', 'rtsps', 'http', 'https', 'tcp', 'udp', 'srt', 'rtmp')
REASONS = {
    errno.ENOENT: 'no such device or file',
    errno.ENXIO: 'no such device',
    errno.ENODEV: 'the device was unplugged',
    errno.EBUSY: 'the device is busy: close the other program that uses it',
    errno.ECONNREFUSED: 'connection refused: no server listens there',
    errno.EIO: 'nothing can be read: check the address, and that it is a video stream',
    errno.ENOTTY: 'not a camera: the device does not capture video',
    errno.EINVAL: 'the device or stream does not provide video',
}
FINAL = (av.error.HTTPClientError, av.error.InvalidDataError, av.error.ProtocolNotFoundError)


def is_live(source: str) -> bool:
    """Return whether a source is a camera, a stream or a pipe, not a recording.

    Raises:
        InputError: The source is a URL of an unknown type.
    """
    found = URL.match(source)
    if found and found[1].lower() not in SCHEMES:
        known = ', '.join(SCHEMES)
        raise InputError(f"{shown(source)}: URL type '{found[1]}' is not supported ({known} are)")
    return bool(found) or source == STDIN or is_device(source) or is_pipe(source)


def is_device(source: str) -> bool:
    """Return whether a source is a camera of this machine, such as /dev/video0."""
    return DEVICE.fullmatch(source) is not None


def is_pipe(source: str) -> bool:
    """Return whether a source is a named pipe or the standard input, which ends for good."""
    if source == STDIN:
        return True
    try:
        return stat.S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


def shown(source: str) -> str:
    """Return a source for messages, without the password of a URL."""
    if source == STDIN:
        return 'stdin'
    return re.sub(r'(://[^/@:]*):[^/@]*@', r'\1:***@', source)


class LiveStream:
    """Open connection to a camera, which yields decoded frames until it ends.

    `packets` and `key_frames`: what was received.
    """

    def __init__(self, source: str, stall_s: float) -> None:
        """Connect to the camera.

        Args:
            source: Device, URL, path of a named pipe, or '-' for the standard input.
            stall_s: Maximum time without a packet, or with packets but without an image.

        Raises:
            CameraError: The camera cannot be reached now.
            InputError: The source is not a video stream, or access is denied.
        """
        self._source, self._stall_s = source, stall_s
        self.packets = self.key_frames = 0
        self._began_s = time.monotonic()
        self._is_open = False
        self._container = self._open()
        self._is_open = True

    def _open(self) -> InputContainer:
        source, options, format = self._source, dict(OPTIONS), None
        if source.startswith('rtsp'):
            options['rtsp_transport'] = 'tcp'  # UDP loses packets, which spoils images
        elif source == STDIN:
            source = 'pipe:0'
        elif is_device(source):
            format = 'v4l2'
        elif not URL.match(source):
            source = f'file:{Path(source).absolute()}'
        try:
            container = av.open(
                source,
                format=format,
                options=options,
                timeout=(OPEN_S, self._stall_s),
                metadata_errors='ignore',
            )
        except (av.FFmpegError, OSError) as error:
            raise self._problem(error) from error
        if not container.streams.video:
            container.close()
            raise InputError(f'{shown(self._source)}: the stream has no video')
        return container

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield decoded frames as they arrive. Damaged packets are skipped.

        Raises:
            CameraError: The stream ended or stalled, or no key frame arrived.
        """
        stream = self._container.streams.video[0]
        stream.thread_type = 'SLICE'  # threads that decode several frames at once delay them
        image_s = time.monotonic()
        try:
            for packet in self._container.demux(stream):
                self.packets += packet.size > 0
                self.key_frames += packet.size > 0 and packet.is_keyframe
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    decoded = []
                for frame in decoded:
                    yield frame
                    image_s = time.monotonic()
                if time.monotonic() - image_s > self._stall_s:
                    raise CameraError(self._without_images())
        except (av.FFmpegError, OSError) as error:
            raise self._problem(error) from error
        raise CameraError(f'{shown(self._source)}: the stream ended')

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _without_images(self) -> str:
        codec = self._container.streams.video[0].codec.name
        where = f'{shown(self._source)}: no image for {self._stall_s:g} s, although'
        if self.key_frames:
            return f'{where} {self.packets} packets ({codec}) arrived: they cannot be decoded'
        return (
            f'{where} {self.packets} packets ({codec}) arrived: decoding starts at a key frame, '
            'and none was sent; set a shorter key frame interval (GOP) in the camera'
        )

    def _problem(self, error: Exception) -> CameraError | InputError:
        """Return the error of one line for an error of FFmpeg."""
        number, name = getattr(error, 'errno', None), shown(self._source)
        if self._is_open and isinstance(error, av.error.ExitError):  # a timeout of `av.open`
            return CameraError(f'{name}: the stream stalled: no packet for {self._stall_s:g} s')
        waited_s = time.monotonic() - self._began_s
        # RTSP reports a timeout as invalid data.
        if not self._is_open and (isinstance(error, av.error.ExitError) or waited_s >= OPEN_S):
            return CameraError(f'{name}: no video stream within {waited_s:.0f} s')
        if isinstance(error, av.error.HTTPUnauthorizedError):
            return InputError(f'{name}: access denied: check the user and password in the URL')
        if number in (errno.EACCES, errno.EPERM):
            remedy = ': add your user to the group video' if is_device(self._source) else ''
            return InputError(f'{name}: permission denied{remedy}')
        is_final = isinstance(error, FINAL) or number in (errno.ENOENT, errno.ENOTTY)
        if self._is_open and number in (errno.EIO, errno.EPIPE, errno.ECONNRESET):
            return CameraError(f'{name}: the connection was lost')
        reason = REASONS.get(number or 0) or getattr(error, 'strerror', None) or str(error)
        if isinstance(error, av.error.InvalidDataError):
            reason = 'no video stream of a known format'
        kind = InputError if is_final else CameraError
        return kind(f'{name}: {reason}')
