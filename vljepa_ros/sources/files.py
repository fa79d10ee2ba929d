# SPDX-License-Identifier: Apache-2.0
"""Video files and image folders. Their stamps begin at 0."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import decode_compressed
from vljepa_ros.core.types import Frame
from vljepa_ros.sources.base import Damaged, Source

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.webp', '.tif', '.tiff')
DEFAULT_FPS = 10.0
COUNTED = ('.avi', '.mp4', '.m4v', '.mov')  # containers with a frame count; others have a duration
MAX_LOST = 10_000  # consecutive unreadable frames after which reading a video stops


class VideoSource(Source):
    """A video file with its own stamps, or stamps from its frame rate if it has none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.stat().st_size == 0:
            raise InputError(f'{path}: the file is empty')
        capture = self._open()
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.total = int(count) if math.isfinite(count) and count >= 1 else None
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over frames, with a `Damaged` for each frame that is missing or unreadable."""
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        clock = _Clock(round(1e9 / rate) if math.isfinite(rate) and rate > 0 else 40_000_000)
        index = 0
        try:
            while True:
                image, lost = self._read(capture, index)
                if image is None:
                    break
                before_ns, stamp_ns = clock.now_ns, clock.next(capture.get(cv2.CAP_PROP_POS_MSEC))
                yield from self._lost(index, lost, before_ns, stamp_ns)
                index += lost + 1
                yield Frame(stamp_ns, np.ascontiguousarray(image[..., ::-1]))
        finally:
            capture.release()
        if self._ends_early(index, clock):
            message = f'the video ends after {index} of {self.total} frames'
            yield Damaged(clock.now_ns + clock.period_ns, 'camera', message)

    def _read(self, capture: Any, index: int) -> tuple[Any, int]:
        """Return the next readable image (None at the end) and the count of lost frames."""
        remaining = max(0, (self.total or 0) - index)
        for lost in range(min(remaining, MAX_LOST) + 1):
            good, image = capture.read()
            if good:
                return image, lost
        return None, 0

    def _lost(
        self, index: int, count: int, before_ns: int, after_ns: int
    ) -> Iterator[Frame | Damaged]:
        """Iterate over placeholders for `count` lost frames between two readable frames."""
        for i in range(count):
            stamp_ns = max(0, before_ns + (after_ns - before_ns) * (i + 1) // (count + 1))
            message = f'frame {index + i + 1} of {self.total} cannot be decoded'
            yield Damaged(stamp_ns, 'camera', message)

    def _ends_early(self, index: int, clock: _Clock) -> bool:
        """Whether frames are missing at the end; an estimated frame count gets a tolerance.

        The estimate is duration times rate. It is wrong if the rate varies or if the audio track
        is longer than the video.
        """
        missing = (self.total or 0) - index
        if self.path.suffix.lower() in COUNTED:
            return missing > 0
        return missing > max(2, index // 50) and clock.is_constant

    def _open(self) -> Any:
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # replaced by our one-line error
        os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
        try:
            capture = cv2.VideoCapture(str(self.path))
        except cv2.error:
            capture = None
        if capture is None or not capture.isOpened():
            raise InputError(
                f'{self.path}: the file is neither a bag (.mcap, .db3) nor a readable video'
            )
        return capture


class _Clock:
    """Increasing stamps of a video; `is_constant` if most steps are one period long."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.now_ns = -1
        self._regular = self._steps = 0

    def next(self, position_ms: float) -> int:
        """Return the stamp of the next frame, whose container position is `position_ms`."""
        stamp_ns = round(position_ms * 1e6) if math.isfinite(position_ms) else -1
        if stamp_ns <= self.now_ns:
            stamp_ns = self.now_ns + self.period_ns
        if self.now_ns >= 0:
            self._steps += 1
            self._regular += abs(stamp_ns - self.now_ns - self.period_ns) * 4 < self.period_ns
        self.now_ns = stamp_ns
        return stamp_ns

    @property
    def is_constant(self) -> bool:
        """Whether the frame rate is constant."""
        return self._regular * 2 >= self._steps


class FolderSource(Source):
    """A folder of images in natural order (2 before 10)."""

    def __init__(self, path: Path, fps: float = DEFAULT_FPS) -> None:
        """List the images.

        Args:
            path: The folder.
            fps: Images per second, which determine the stamps.

        Raises:
            InputError: `fps` is out of range, or no image can be read.
        """
        super().__init__(path)
        if not math.isfinite(fps) or not 0.001 <= fps <= 1000:
            raise InputError(f'fps ({fps:g}) is not in 0.001..1000')
        self._period_ns = 1e9 / fps
        self._files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != '.'),
            key=lambda p: natural(p.name),
        )
        if not self._files:
            raise InputError(f'{path}: the folder contains no image and no bag (metadata.yaml)')
        self.total = len(self._files)
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over the images in order."""
        for index, file in enumerate(self._files):
            stamp_ns = round(index * self._period_ns)
            try:
                image = decode_compressed(file.suffix[1:], file.read_bytes())
            except (InputError, OSError) as error:
                yield Damaged(stamp_ns, 'camera', f'{file.name}: {error}')
                continue
            yield Frame(stamp_ns, image)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares runs of digits as numbers and puts them before letters."""
    return [
        (0, int(part), '') if part.isdecimal() else (1, 0, part)
        for part in re.split(r'(\d+)', name.lower())
        if part
    ]
