# SPDX-License-Identifier: Apache-2.0
"""What every source offers: its frames in the order of recording, and where its time begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame


@dataclass(frozen=True)
class Damaged:
    """A picture that cannot be read, in its place among the frames."""

    stamp_ns: int
    source: str
    message: str


class Source(ABC):
    """One recording. It may be iterated over again; each time begins at its start.

    `start_ns` is the stamp of the first picture that can be read. `total` is the number of
    pictures where it is known beforehand. `cameras` are the names that frames carry.
    """

    total: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cameras: tuple[str, ...] = ('camera',)
        self.start_ns = 0

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.path.name or str(self.path)

    @abstractmethod
    def items(self) -> Iterator[Frame | Damaged]:
        """Frames, and what stands where a picture is damaged. Raises InputError."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames that can be read."""
        return (item for item in self.items() if isinstance(item, Frame))

    def _find_start(self) -> None:
        """Read up to the first good picture. Raises InputError if there is none."""
        first_problem = ''
        for item in self.items():
            if isinstance(item, Frame):
                self.start_ns = item.stamp_ns
                return
            first_problem = first_problem or item.message
        reason = f' ({first_problem})' if first_problem else ''
        raise InputError(f'{self.path}: no picture can be read{reason}')
