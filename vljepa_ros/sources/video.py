# SPDX-License-Identifier: Apache-2.0
"""Read video files with PyAV (FFmpeg). Stamps begin at 0; images are rotated upright."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.video_decoder import image_of

# Containers that FFmpeg recognizes by a signature.
CONTAINERS = frozenset(
    {
        'asf',
        'avi',
        'flv',
        'gif',
        'matroska,webm',
        'mov,mp4,m4a,3gp,3g2,mj2',
        'mpeg',
        'mpegts',
        'mxf',
        'nut',
        'ogg',
    }
)
MJPEG = frozenset({'mjpeg', 'mjpg'})
DEFAULT_PERIOD_NS = 40_000_000


class VideoSource(Source):
    """Recording from a video file; frames without a time stamp get one from the frame rate."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.stat().st_size == 0:
            raise InputError(f'{path}: the file is empty')
        with self._open() as container:
            stream = container.streams.video[0]
            self._is_counted = stream.frames > 0
            self._duration_ns = (container.duration or 0) * 1_000
            count = round((stream.average_rate or 0) * self._duration_ns / 1_000_000_000)
            self.total = stream.frames or count or None
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over frames, with a `Damaged` in place of each unreadable frame."""
        with self._open() as container:
            stream = container.streams.video[0]
            clock = _Clock(stream)
            index = lost = 0
            for packet in _packets(container, stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    lost += packet.size > 0
                    continue
                for frame in frames:
                    before_ns, stamp_ns = clock.now_ns, clock.next(frame.pts)
                    yield from self._lost(index, lost, before_ns, stamp_ns)
                    index, lost = index + lost + 1, 0
                    yield Frame(stamp_ns, image_of(frame))
        if self._ends_early(index, clock):
            message = f'the video ends after {index} of {self.total} frames'
            yield Damaged(clock.now_ns + clock.period_ns, 'camera', message, is_end=True)

    def _lost(
        self, index: int, count: int, before_ns: int, after_ns: int
    ) -> Iterator[Frame | Damaged]:
        """Iterate over placeholders for `count` lost frames between two readable frames."""
        for i in range(count):
            stamp_ns = max(0, before_ns + (after_ns - before_ns) * (i + 1) // (count + 1))
            message = f'frame {index + i + 1} of {self.total} cannot be decoded'
            yield Damaged(stamp_ns, 'camera', message)

    def _ends_early(self, index: int, clock: _Clock) -> bool:
        """Return whether frames are missing at the end of the file.

        If the container does not state the number of frames, its duration is checked, with a
        tolerance because the duration includes the audio track.
        """
        if self._is_counted:
            return index < (self.total or 0)
        tolerance_ns = max(2 * clock.period_ns, self._duration_ns // 50)
        return clock.end_ns + tolerance_ns < self._duration_ns

    def _open(self) -> InputContainer:
        try:
            # The prefix lets names with a colon be files.
            container = av.open(f'file:{self.path}', metadata_errors='ignore')
        except av.FFmpegError:
            container = None
        if container is None or not container.streams.video or not self._is_known(container):
            raise InputError(
                f'{self.path}: the file is neither a bag (MCAP, SQLite, ROS 1) '
                'nor a readable video'
            )
        return container

    def _is_known(self, container: InputContainer) -> bool:
        """Return whether the format of a file is certain.

        FFmpeg also guesses, for example motion JPEG for any file that contains JPEGs. Containers
        are recognized by their content. Streams without container have no signature, so the name
        of the file must confirm them.
        """
        found = container.format
        extensions = MJPEG if found.name == 'jpeg_pipe' else found.extensions
        return found.name in CONTAINERS or self.path.suffix[1:].lower() in extensions


class _Clock:
    """Converter of the time stamps of a video to strictly increasing nanoseconds."""

    def __init__(self, stream: VideoStream) -> None:
        rate = stream.average_rate
        self.period_ns = round(1_000_000_000 / rate) if rate else DEFAULT_PERIOD_NS
        self.now_ns = -1
        self._start, self._unit = stream.start_time or 0, stream.time_base or Fraction(0)

    def next(self, pts: int | None) -> int:
        """Return the stamp of the next frame in nanoseconds.

        Args:
            pts: Presentation time stamp of the frame, in units of the container's time base; None
                if the frame has no stamp.
        """
        stamp_ns = -1
        if pts is not None:
            stamp_ns = round((pts - self._start) * self._unit * 1_000_000_000)
        if self.now_ns < 0:
            stamp_ns = max(stamp_ns, 0)
        elif stamp_ns <= self.now_ns:
            stamp_ns = self.now_ns + self.period_ns
        self.now_ns = stamp_ns
        return stamp_ns

    @property
    def end_ns(self) -> int:
        """End of the last frame in nanoseconds, relative to time 0 of the container."""
        return self.now_ns + self.period_ns + round(self._start * self._unit * 1_000_000_000)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet[VideoStream]]:
    """Iterate over packets until the end of the file or the first read error."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.FFmpegError):
            return
