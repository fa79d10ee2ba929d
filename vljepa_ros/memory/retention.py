# SPDX-License-Identifier: Apache-2.0
"""Trust in the stamps of stored data, so that a wrong stamp deletes nothing.

Stored data of a camera is deleted for two reasons that depend on stamps: it is older than its
retention time, or the stamps went back (a bag that is played in a loop) and new data replaces it.
A stamp can be wrong (a clock that jumped, or is not set yet). Therefore:

- Ages are counted from a stamp that does not follow a jump before the stamps after the jump have
  lasted `SETTLED_NS`, and that is never later than the node's clock.
- Data with stamps older than trusted data is held in RAM until its stamps have lasted
  `TRUSTED_NS`. If the stamps return before that, the held data is discarded.
- Data with stamps older than the trusted data that was in the file when it was opened is refused.

A run is a sequence of stamps that ascend in steps of at most `JUMP_NS`. Trusted data is a run that
lasts at least `TRUSTED_NS`, and all data before its end. Data after it (a future stamp) is
replaced as soon as the stamps return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vljepa_ros.core.settings import EVER_NS

JUMP_NS = 60_000_000_000
TRUSTED_NS = 10_000_000_000
SETTLED_NS = 600_000_000_000
NEAR_NS = 60_000_000_000  # stamps this near to the node's clock agree with it
MOST_HELD = 10_000  # maximum number of held items of a camera

Clock = Callable[[], int]  # ROS time in nanoseconds; 0 if it is not known


@dataclass
class _Camera:
    """Stamps of the stored data of one camera."""

    newest_ns: int
    age_ns: int  # ages are counted from here
    run_ns: int  # first stamp of the current run
    trusted_ns: int = -EVER_NS  # newest stamp of trusted data
    stored_ns: int = -EVER_NS  # newest trusted stamp of the file when it was opened
    is_live: bool = False  # whether the newest stamp agreed with the node's clock
    held: list[tuple[int | None, Callable[[], None]]] = field(default_factory=list)
    held_ns: int = 0  # newest stamp of the held data
    lasted_ns: int = 0  # duration of the held data, without its jumps

    def advance(self, stamp_ns: int) -> None:
        """Take over the stamp of a stored hop."""
        step_ns = stamp_ns - self.newest_ns
        if 0 <= step_ns <= JUMP_NS:
            self.age_ns += step_ns
        else:
            self.run_ns, self.age_ns = stamp_ns, min(self.age_ns, stamp_ns)
        if stamp_ns - self.age_ns <= JUMP_NS:  # no jump, or the stamps are back
            self.age_ns = stamp_ns
        self.newest_ns = stamp_ns
        if stamp_ns - self.run_ns >= TRUSTED_NS:
            self.trusted_ns = stamp_ns
        if stamp_ns - self.run_ns >= SETTLED_NS:
            self.age_ns = stamp_ns

    def hold(self, stamp_ns: int | None, action: Callable[[], None]) -> None:
        """Hold an item; None for an item that is not a hop."""
        if stamp_ns is not None:
            step_ns = stamp_ns - self.held_ns if self.held else 0
            self.lasted_ns += step_ns if 0 <= step_ns <= JUMP_NS else 0
            self.held_ns = stamp_ns
        if len(self.held) < MOST_HELD:
            self.held.append((stamp_ns, action))

    def discard(self) -> list[tuple[int | None, Callable[[], None]]]:
        """Remove and return all held items."""
        held, self.held, self.lasted_ns = self.held, [], 0
        return held


class Retention:
    """Decides when data of each camera is stored, and from which stamp its age is counted."""

    def __init__(self, now: Clock | None = None) -> None:
        """Create the state without cameras; `now` is the node's clock, if there is one."""
        self._now = now
        self._cameras: dict[str, _Camera] = {}

    def load(self, source: str, stamps_ns: Iterable[int], written_ns: int = 0) -> None:
        """Take over the stamps of a camera's data in a file that was opened.

        Args:
            source: Name of the camera.
            stamps_ns: Stamps of the stored data, in any order.
            written_ns: Wall-clock time of the last write to the file. An earlier clock is not set.
        """
        runs = _runs(stamps_ns)
        if not runs:
            return
        now_ns = self._now() if self._now is not None else 0
        if now_ns >= written_ns - NEAR_NS:  # the clock is set: later stamps are of the future
            runs = [run for run in runs if run[1] <= now_ns + NEAR_NS] or runs
        lasting = [run for run in runs if run[1] - run[0] >= TRUSTED_NS]
        start_ns, end_ns = lasting[-1] if lasting else max(runs, key=lambda run: run[1] - run[0])
        self._cameras[source] = _Camera(end_ns, end_ns, start_ns, end_ns, end_ns)

    def age_ns(self, source: str) -> int:
        """Return the stamp from which the ages of a camera's data are counted."""
        camera = self._cameras.get(source)
        if camera is None:
            return -EVER_NS
        return camera.age_ns if self._now is None else min(camera.age_ns, self._now())

    def store(
        self, source: str, stamp_ns: int, action: Callable[[], None], after_ns: int | None = None
    ) -> str:
        """Store a hop now or later, or refuse it.

        Args:
            source: Name of the camera.
            stamp_ns: Stamp of the hop.
            action: Stores the hop and deletes newer data of the camera.
            after_ns: The action deletes data after this stamp; None: after `stamp_ns`.

        Returns:
            The reason why the hop is not stored now; '' if it is.
        """
        camera = self._cameras.get(source)
        if camera is None:
            camera = self._cameras[source] = _Camera(stamp_ns, stamp_ns, stamp_ns)
        after_ns = stamp_ns if after_ns is None else after_ns
        if refusal := self._refusal(source, camera, after_ns):
            return refusal
        if stamp_ns < camera.trusted_ns:
            camera.hold(stamp_ns, action)
            if camera.lasted_ns < TRUSTED_NS:
                return _held(source, camera)
            self._release(camera)
            return ''
        camera.discard()
        action()
        self._advance(camera, stamp_ns)
        return ''

    def follow(
        self, source: str, stamp_ns: int, goes_back: bool, action: Callable[[], None]
    ) -> str:
        """Store an item that belongs to hops: now, with the held hops, or never.

        Args:
            source: Name of the camera.
            stamp_ns: Stamp of the hop to which the item belongs.
            goes_back: Whether the action deletes newer data.
            action: Stores the item.

        Returns:
            The reason why the item is not stored now; '' if it is.
        """
        camera = self._cameras.get(source)
        if camera is None:
            action()
            return ''
        if refusal := self._refusal(source, camera, stamp_ns):
            return refusal
        of_held = abs(stamp_ns - camera.held_ns) < abs(stamp_ns - camera.newest_ns)
        if (camera.held and of_held) or (goes_back and stamp_ns < camera.trusted_ns):
            if not camera.held:
                camera.held_ns = stamp_ns
            camera.hold(None, action)
            return _held(source, camera)
        action()
        return ''

    def follow_held(self, source: str, action: Callable[[], None]) -> None:
        """Store an item together with the held hops of a camera, if there are any."""
        camera = self._cameras.get(source)
        if camera is not None and camera.held:
            camera.hold(None, action)

    def _refusal(self, source: str, camera: _Camera, stamp_ns: int) -> str:
        """Return the reason for refusing data with this stamp, or '' if it can be stored."""
        is_old = stamp_ns < camera.stored_ns
        is_odd = stamp_ns < camera.trusted_ns and camera.is_live and not self._is_near(stamp_ns)
        if not is_old and not is_odd:
            return ''
        behind_s = (camera.trusted_ns - stamp_ns) / 1e9
        return (
            f"'{source}': stamps are {behind_s:,.0f} s older than the newest stored stamp; "
            'not recording (clock not set, or an old bag?)'
        )

    def _is_near(self, stamp_ns: int) -> bool:
        return self._now is not None and abs(stamp_ns - self._now()) <= NEAR_NS

    def _advance(self, camera: _Camera, stamp_ns: int) -> None:
        camera.advance(stamp_ns)
        camera.is_live = self._is_near(stamp_ns)

    def _release(self, camera: _Camera) -> None:
        camera.trusted_ns = -EVER_NS
        for stamp_ns, action in camera.discard():
            action()
            if stamp_ns is not None:
                self._advance(camera, stamp_ns)


def _held(source: str, camera: _Camera) -> str:
    behind_s = (camera.trusted_ns - camera.held_ns) / 1e9
    return (
        f"'{source}': stamps went back by {behind_s:,.0f} s; keeping the newer data until this "
        f'has lasted {TRUSTED_NS / 1e9:g} s (looping bag, or a clock that jumped?)'
    )


def _runs(stamps_ns: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last stamp of each run, in ascending order."""
    runs = list[tuple[int, int]]()
    for stamp_ns in sorted(stamps_ns):
        if runs and stamp_ns - runs[-1][1] <= JUMP_NS:
            runs[-1] = runs[-1][0], stamp_ns
        else:
            runs.append((stamp_ns, stamp_ns))
    return runs
