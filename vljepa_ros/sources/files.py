# SPDX-License-Identifier: Apache-2.0
"""Video files and folders of pictures. Their time begins at 0."""

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

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.webp', '.tif', '.tiff')
DEFAULT_FPS = 10.0
COUNTED = ('.avi', '.mp4', '.m4v', '.mov')  # hold how many frames they have; others, how long
MAX_LOST = 10_000  # pictures in a row that cannot be read, before a video is given up


class VideoSource(Source):
    """A video file; stamps are its own, or follow from its frame rate where it has none."""

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
        """Frames in order, and what stands for those that the file promises and cannot give."""
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        clock = _Clock(round(1e9 / rate) if math.isfinite(rate) and rate > 0 else 40_000_000)
        place = 0
        try:
            while True:
                picture, lost = self._read(capture, place)
                if picture is None:
                    break
                before_ns, stamp_ns = clock.now_ns, clock.next(capture.get(cv2.CAP_PROP_POS_MSEC))
                yield from self._lost(place, lost, before_ns, stamp_ns)
                place += lost + 1
                yield Frame(stamp_ns, np.ascontiguousarray(picture[..., ::-1]))
        finally:
            capture.release()
        if self._ends_early(place, clock):
            message = f'the video ends after {place} of {self.total} frames'
            yield Damaged(clock.now_ns + clock.period_ns, 'camera', message)

    def _read(self, capture: Any, place: int) -> tuple[Any, int]:
        """The next picture that can be read, and how many before it cannot; None at the end."""
        promised = max(0, (self.total or 0) - place)
        for lost in range(min(promised, MAX_LOST) + 1):
            good, picture = capture.read()
            if good:
                return picture, lost
        return None, 0

    def _lost(
        self, place: int, count: int, before_ns: int, after_ns: int
    ) -> Iterator[Frame | Damaged]:
        """What stands for `count` frames that lie between two that can be read."""
        for i in range(count):
            stamp_ns = max(0, before_ns + (after_ns - before_ns) * (i + 1) // (count + 1))
            message = f'frame {place + i + 1} of {self.total} cannot be decoded'
            yield Damaged(stamp_ns, 'camera', message)

    def _ends_early(self, place: int, clock: _Clock) -> bool:
        """Whether frames are missing; a count that is only an estimate gets the benefit of doubt.

        Length times rate is no count where the rate varies, or the sound is a little longer.
        """
        missing = (self.total or 0) - place
        if self.path.suffix.lower() in COUNTED:
            return missing > 0
        return missing > max(2, place // 50) and clock.is_constant

    def _open(self) -> Any:
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # we say it ourselves, in one line
        os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
        try:
            capture = cv2.VideoCapture(str(self.path))
        except cv2.error:
            capture = None
        if capture is None or not capture.isOpened():
            raise InputError(f'{self.path}: neither a bag (.mcap, .db3) nor a readable video')
        return capture


class _Clock:
    """A video's stamps, which rise; `is_constant` if most of them are one period apart."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self.now_ns = -1
        self._regular = self._steps = 0

    def next(self, position_ms: float) -> int:
        """The stamp of a frame that says to be at a position."""
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
        """Whether the rate is."""
        return self._regular * 2 >= self._steps


class FolderSource(Source):
    """A folder of pictures in natural order (2 before 10), `fps` of them a second."""

    def __init__(self, path: Path, fps: float = DEFAULT_FPS) -> None:
        super().__init__(path)
        if not math.isfinite(fps) or not 0.001 <= fps <= 1000:
            raise InputError(f'fps ({fps:g}) is not in 0.001..1000')
        self._period_ns = 1e9 / fps
        self._files = sorted(
            (p for p in path.iterdir() if p.suffix.lower() in PICTURES and p.name[0] != '.'),
            key=lambda p: natural(p.name),
        )
        if not self._files:
            raise InputError(f'{path}: no picture in this folder, and no bag (metadata.yaml)')
        self.total = len(self._files)
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Pictures in order."""
        for index, file in enumerate(self._files):
            stamp_ns = round(index * self._period_ns)
            try:
                picture = decode_compressed(file.suffix[1:], file.read_bytes())
            except (InputError, OSError) as error:
                yield Damaged(stamp_ns, 'camera', f'{file.name}: {error}')
                continue
            yield Frame(stamp_ns, picture)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorting key: runs of digits count as numbers, and come before letters."""
    return [
        (0, int(part), '') if part.isdecimal() else (1, 0, part)
        for part in re.split(r'(\d+)', name.lower())
        if part
    ]
