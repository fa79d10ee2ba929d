# SPDX-License-Identifier: Apache-2.0
"""Base class of recordings: frames in the order of recording, and the start stamp."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame


@dataclass(frozen=True)
class Damaged:
    """Placeholder for an image that cannot be decoded, in its position among the frames."""

    stamp_ns: int
    source: str
    message: str


class Source(ABC):
    """One recording. It can be iterated repeatedly; each iteration begins at its start.

    `start_ns` is the stamp of the first readable image. `total` is the number of images if it is
    known in advance. `cameras` are the source names of its frames.
    """

    total: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cameras: tuple[str, ...] = ('camera',)
        self.start_ns = 0

    @property
    def name(self) -> str:
        """Name of the recording for messages."""
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
        """Set `start_ns` to the stamp of the first readable image; InputError if there is none."""
        first_problem = ''
        for item in self.items():
            if isinstance(item, Frame):
                self.start_ns = item.stamp_ns
                return
            first_problem = first_problem or item.message
        reason = f' ({first_problem})' if first_problem else ''
        raise InputError(f'{self.path}: no image can be read{reason}')
