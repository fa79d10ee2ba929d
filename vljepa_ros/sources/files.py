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

from vljepa_ros.errors import InputError
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.stream.images import decode_compressed
from vljepa_ros.stream.types import Frame

PICTURES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.webp', '.tif', '.tiff')
DEFAULT_FPS = 10.0


class VideoSource(Source):
    """A video file; stamps are its own, or follow from its frame rate where it has none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if path.stat().st_size == 0:
            raise InputError(f'{path}: the file is empty')
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        self.total = count if count > 0 else None
        self._find_start()

    def items(self) -> Iterator[Frame | Damaged]:
        """Frames in order."""
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        period_ns = round(1e9 / rate) if math.isfinite(rate) and rate > 0 else 40_000_000
        before_ns = -1
        try:
            while True:
                good, picture = capture.read()
                if not good:
                    return
                stamp_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if stamp_ns <= before_ns:
                    stamp_ns = before_ns + period_ns
                before_ns = stamp_ns
                yield Frame(stamp_ns, np.ascontiguousarray(picture[..., ::-1]))
        finally:
            capture.release()

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
