# SPDX-License-Identifier: Apache-2.0
"""Base class of recordings, which are read as frames in the order of recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame


@dataclass(frozen=True)
class Damaged:
    """Placeholder that is returned instead of a frame whose image cannot be decoded.

    `is_end`: whether the recording ends early here, instead of one damaged image.
    """

    stamp_ns: int
    source: str
    message: str
    is_end: bool = False


class Source(ABC):
    """Recording as an iterable of frames; each iteration begins at the start of the recording.

    `start_ns` is the stamp of the first readable image, of a bag the first plausible stamp.
    `total` is the number of images, or None if it is not known in advance. `cameras` are the
    camera names, one or more per recording. `sources_by_topic` are the sources (cameras or their
    regions) of each image topic, of a bag. `notes` are lines about parts of the recording that
    are missing or left out.
    """

    total: int | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cameras: tuple[str, ...] = ('camera',)
        self.sources_by_topic: dict[str, tuple[str, ...]] = {}
        self.start_ns = 0

    @property
    def name(self) -> str:
        """Name of the file or folder, for log and error messages."""
        return self.path.name or str(self.path)

    @abstractmethod
    def items(self) -> Iterator[Frame | Damaged]:
        """Iterate over frames, with a `Damaged` in place of each unreadable image.

        Raises:
            InputError: The recording is damaged.
        """

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the readable frames."""
        return (item for item in self.items() if isinstance(item, Frame))

    def _find_start(self) -> None:
        """Set `start_ns` to the stamp of the first readable image, or else raise InputError."""
        first_problem = ''
        for item in self.items():
            if isinstance(item, Frame):
                self.start_ns = item.stamp_ns
                return
            first_problem = first_problem or item.message
        reason = f' ({first_problem})' if first_problem else ''
        raise InputError(f'{self.path}: no image can be read{reason}')
