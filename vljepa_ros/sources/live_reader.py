# SPDX-License-Identifier: Apache-2.0
"""Threads that read images at the speed of a camera and hold only the newest of each camera.

A slow consumer thus loses old images, never new ones, and memory is bounded.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from vljepa_ros.core.errors import CameraError, VljepaError
from vljepa_ros.core.types import Frame, Image
from vljepa_ros.sources.base import Damaged, Source
from vljepa_ros.sources.live_stream import LiveStream, is_pipe

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 10.0  # pauses between attempts to connect again
MAX_NOTICES = 100


@dataclass(frozen=True)
class LiveFrame:
    """A frame that is converted to RGB when it is used.

    `dropped`: whether earlier frames of the camera were replaced before they were used.
    """

    stamp_ns: int
    source: str
    convert: Callable[[], Image]
    dropped: bool

    def frame(self) -> Frame:
        """Return the frame with its RGB image, (H, W, 3) uint8."""
        return Frame(self.stamp_ns, self.convert(), self.source)


@dataclass(frozen=True)
class Gap:
    """A time without images, from the last one before it to the first one after it.

    `number`: counts the gaps of a camera from 1.
    """

    number: int
    start_ns: int
    end_ns: int
    reason: str


Notice: TypeAlias = 'str | Gap | Damaged'  # a line is about the connection


class LiveReader(ABC):
    """Thread that reads images. `on_change` is called from it when there is something to take.

    `received` and `dropped` count frames, `gaps` counts reconnections.
    """

    cameras: tuple[str, ...] = ('camera',)

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._newest: dict[str, LiveFrame] = {}
        self._notices: deque[Notice] = deque(maxlen=MAX_NOTICES)
        self._stopping = threading.Event()
        self._ended = False
        self.error: VljepaError | None = None  # why the reader ended, if it did not end normally
        self.received = self.dropped = self.gaps = 0
        self.start_ns = 0  # stamp of the first image
        self._thread = threading.Thread(target=self._run, name='live reader', daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come; frames and notices may still wait to be taken."""
        return self._ended

    def take(self) -> tuple[list[Notice], list[LiveFrame]]:
        """Return the notices since the last call, and the newest frame of each camera."""
        with self._lock:
            notices, frames = list(self._notices), list(self._newest.values())
            self._notices.clear()
            self._newest.clear()
        return notices, frames

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop reading, and wait for the thread; a read that hangs is abandoned."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @abstractmethod
    def _read(self) -> None:
        """Read until the end, or until `_stopping` is set."""

    def _run(self) -> None:
        try:
            self._read()
        except VljepaError as error:
            self.error = error
        except Exception as error:  # a thread cannot raise
            self.error = CameraError(f'unexpected {type(error).__name__}: {error}')
        self._ended = True
        self._on_change()

    def _offer(self, stamp_ns: int, source: str, convert: Callable[[], Image]) -> None:
        with self._lock:
            replaced = source in self._newest
            self._newest[source] = LiveFrame(stamp_ns, source, convert, replaced)
            self.start_ns = self.start_ns or stamp_ns
            self.received += 1
            self.dropped += replaced
        self._on_change()

    def _notice(self, notice: Notice) -> None:
        with self._lock:
            self._notices.append(notice)
        self._on_change()


class CameraReader(LiveReader):
    """Reads a live camera, and connects again after its stream ended or stalled.

    Stamps are the time of arrival, from a steady clock that starts at the time of the system.
    """

    def __init__(
        self,
        source: str,
        on_change: Callable[[], None],
        stall_s: float = 5.0,
        give_up_s: float = 0.0,
    ) -> None:
        """Connect to the camera.

        Args:
            source: Device, URL, path of a named pipe, or '-' for the standard input.
            on_change: Called from the thread when there is something to take.
            stall_s: Time without an image after which the camera is connected again.
            give_up_s: Time without a connection after which reading ends; 0: never.

        Raises:
            CameraError: The camera cannot be reached now.
            InputError: The source is not a video stream, or access is denied.
        """
        super().__init__(on_change)
        self._source, self._stall_s, self._give_up_s = source, stall_s, give_up_s
        self._stream: LiveStream | None = LiveStream(source, stall_s)
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._last_ns = 0
        self._reason = ''  # of the present gap

    def _now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns

    def _read(self) -> None:
        pause_s, lost_s = FIRST_RETRY_S, 0.0
        while not self._stopping.is_set():
            before = self.received
            try:
                self._read_stream()
            except VljepaError as error:
                if is_pipe(self._source) and self.received:
                    return  # its writer ended
                if not self.received:
                    raise
                if self.received > before:
                    pause_s, lost_s = FIRST_RETRY_S, time.monotonic()
                if not self._reason:
                    self._notice(f'{error}; connecting again')
                self._reason = self._reason or str(error)
                if self._give_up_s and time.monotonic() - lost_s > self._give_up_s:
                    raise CameraError(
                        f'{error}; no image came back within {self._give_up_s:g} s'
                    ) from error
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)

    def _read_stream(self) -> None:
        stream, self._stream = self._stream or LiveStream(self._source, self._stall_s), None
        try:
            for frame in stream.frames():
                if self._stopping.is_set():
                    return
                self._accept(frame)
        finally:
            with suppress(Exception):  # the connection is lost
                stream.close()

    def _accept(self, frame: object) -> None:
        from vljepa_ros.sources.video_decoder import image_of

        stamp_ns = self._now_ns()
        if self._reason:
            self.gaps += 1
            self._notice(Gap(self.gaps, self._last_ns, stamp_ns, self._reason))
            self._reason = ''
        self._last_ns = stamp_ns
        self._offer(stamp_ns, 'camera', lambda: image_of(frame))  # type: ignore[arg-type]


class PacedReader(LiveReader):
    """Reads a recording at the speed at which it was recorded; pauses are limited to 10 s."""

    def __init__(self, source: Source, on_change: Callable[[], None]) -> None:
        """Read a recording.

        Args:
            source: The recording.
            on_change: Called from the thread when there is something to take.
        """
        super().__init__(on_change)
        self._source, self.cameras, self.start_ns = source, source.cameras, source.start_ns

    def _read(self) -> None:
        due_s, before_ns = time.monotonic(), self._source.start_ns
        for item in self._source.items():
            due_s += min(max(item.stamp_ns - before_ns, 0) / 1e9, LONGEST_RETRY_S)
            before_ns = item.stamp_ns
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            if isinstance(item, Frame):
                image = item.image
                self._offer(item.stamp_ns, item.source, lambda image=image: image)  # type: ignore[misc]
            else:
                self._notice(item)
