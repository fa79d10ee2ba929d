# SPDX-License-Identifier: Apache-2.0
"""Frame store: an SQLite database of past frames, to answer new questions about the past.

The frames of one hop (inference step) are stored as one JPEG, at the size of the model's input. If
the store exceeds `most_bytes`, the oldest frames outside the last attention window of their
segment are deleted first. The last window of a segment is stored longest, so that a question about
the past can evaluate frames of every segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from vljepa_ros.core.errors import DiskFullError, InputError, OutputError, VljepaError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.settings import EVER_NS, FrameStoreSettings
from vljepa_ros.core.types import Change, Image, Reason, Slot
from vljepa_ros.memory.retention import Clock, Retention
from vljepa_ros.memory.sqlite_file import Database

VERSION = 1  # the column `epoch` is the reset counter of the camera
TABLES = """
CREATE TABLE format (image_size INTEGER, tubelet_frames INTEGER);
CREATE TABLE hops (
    id INTEGER PRIMARY KEY, source TEXT, start_ns INTEGER, stamp_ns INTEGER, epoch INTEGER,
    number INTEGER, kept INTEGER DEFAULT 0, picture BLOB
);
CREATE INDEX seen ON hops (source, stamp_ns, number);
CREATE INDEX oldest ON hops (source, kept, stamp_ns);
"""
QUALITY = 92  # JPEG quality, 0..100
# Values of the column `kept`: hop outside the last attention window of its segment, hop in that
# window, and last hop of that window.
PLAIN, IN_WINDOW, WINDOW_END = 0, 1, 2
RECENT_NS = 60_000_000_000  # newer hops are deleted last, because their segment may be open
CHECKED = 64  # hops between two checks of age and size
AT_ONCE = 256  # maximum number of hops that one check deletes for size
COLUMNS = 'id, source, start_ns, stamp_ns, epoch, number'


class StoredHop(NamedTuple):
    """One hop (inference step) whose frames are stored.

    `start_ns` and `stamp_ns` are the stamps of its oldest and newest frame. `number` counts the
    hops of a camera since its last reset, so hops with the same `source` and `reset_count` and
    consecutive numbers are adjacent.
    """

    id: int
    source: str
    start_ns: int
    stamp_ns: int
    reset_count: int
    number: int

    def follows(self, other: StoredHop) -> bool:
        """Return whether this hop came directly after another hop, without a gap."""
        return (self.source, self.reset_count, self.number - 1) == (
            other.source,
            other.reset_count,
            other.number,
        )


@dataclass
class _CameraSummary:
    """Summary of the stored hops of one camera, cached in RAM."""

    stamp_ns: int = -EVER_NS  # the newest hop
    reset_count: int | None = None
    size: int = 0  # bytes


class FrameStore:
    """Stored frames of all cameras. Not thread-safe: only the vision side's thread may use it.

    If the stamps of a camera go back (a bag that is played in a loop) for a while, the newer
    frames of that camera are deleted; until then, the new frames are held back. Frames that were
    in the file when it was opened are protected: a hop that does not begin after the newest of
    them is not stored. `problem` is the reason why frames were not stored between the last two
    calls of `commit`; '' if all were stored.
    """

    def __init__(
        self,
        facts: ModelFacts,
        settings: FrameStoreSettings | None = None,
        path: Path | None = None,
        now: Clock | None = None,
    ) -> None:
        """Open or create a frame store.

        Args:
            facts: Constants of the model: size of frames and number of frames per hop.
            settings: Retention time and size limit.
            path: File of the store; None for RAM, which is also used if the disk is full.
            now: Clock that the stamps should agree with, in nanoseconds; later stamps expire
                nothing. None if there is no such clock.

        Raises:
            InputError: The file is not a frame store, or its frames do not fit the model.
            OutputError: The file cannot be created or opened.
            BusyError: Another process uses the file.
        """
        self._window, self._settings = facts.window_tubelets, settings or FrameStoreSettings()
        self._file_error = ''
        try:
            self._base = Database(path, 'footage', TABLES, VERSION)
        except DiskFullError as error:
            self._base, self._file_error = Database(None, 'footage', TABLES, VERSION), str(error)
            most = min(self._settings.most_bytes, FrameStoreSettings.most_bytes)  # RAM is scarcer
            self._settings = replace(self._settings, most_bytes=most)
        self._base.limit_log(self._settings.most_bytes)
        self._sources: dict[str, _CameraSummary] = {}
        self._added = 0
        self._uncertain = False  # whether the cached sizes include frames that were lost
        self.problem, self._new_problem = '', ''
        try:
            self._check_format(facts, path)
            self._count()
            self._retention = Retention(now)
            for source in self.sources:
                rows = self._base.read('SELECT stamp_ns FROM hops WHERE source = ?', source)
                stamps_ns = (stamp_ns for (stamp_ns,) in rows)
                self._retention.load(source, stamps_ns, self._base.written_ns)
        except VljepaError:
            self.close()
            raise

    # Recording.

    def add(self, source: str, tubelet: Sequence[Slot], reset_count: int, number: int) -> None:
        """Store the frames of a hop; `problem` states the reason if they are not stored.

        Args:
            source: Name of the camera.
            tubelet: Frames of the hop, oldest first.
            reset_count: Reset counter of the camera.
            number: Number of the hop, counted since the last reset of the camera.
        """
        jpeg = _pack([slot.image for slot in tubelet])
        hop = (source, tubelet[0].stamp_ns, tubelet[-1].stamp_ns, reset_count, number)
        problem = self._retention.store(
            source,
            tubelet[-1].stamp_ns,
            lambda: self._write(lambda: self._add(hop, jpeg)),
            tubelet[0].stamp_ns - 1,  # `_add` deletes hops that overlap this one
        )
        self._new_problem = problem or self._new_problem
        self._added += 1
        if self._added % CHECKED == 0 and not self._base.is_behind:
            self._write(lambda: self._keep_small(source))

    def keep(self, change: Change) -> None:
        """Delay the deletion of the last attention window of the segment that a change closed."""
        ended = change.previous
        if ended is None or change.stamp_ns < ended.end_ns:  # stamps went back: it was deleted
            return
        # A segment begins with the hop at which the previous segment ends (reason MEANING).
        source, last_ns = change.key.source, ended.end_ns - (change.reason is Reason.MEANING)
        self._retention.follow(
            source,
            change.stamp_ns,
            False,
            lambda: self._write(lambda: self._keep(source, ended.start_ns, last_ns)),
        )

    def commit(self) -> None:
        """Commit all frames to the file and update `problem`; call this every second."""
        if self._uncertain and self._base.settle():  # pending frames are in the cached sizes
            self._write(self._count)
        self._write(self._base.commit)
        self.problem, self._new_problem = self._new_problem or self._file_error, ''

    def close(self) -> None:
        """Commit if possible, and close the file, so that another process can open it."""
        self._base.close()

    # Reading. Raises OutputError if the file is damaged or missing.

    @property
    def held_bytes(self) -> int:
        """Size of all stored frames (JPEG) in bytes."""
        return sum(source.size for source in self._sources.values())

    @property
    def file_bytes(self) -> int:
        """Size of the file and its write-ahead log in bytes; 0 in RAM."""
        return self._base.file_bytes

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the cameras that have stored frames."""
        return tuple(name for name, source in self._sources.items() if source.size)

    def span(self, source: str) -> tuple[int, int] | None:
        """Return the stamps of a camera's oldest and newest stored frame; None if it has none."""
        rows = self._hops('source = ? ORDER BY stamp_ns, number LIMIT 1', source)
        newest = self._last(source, EVER_NS, 1)
        return (rows[0].start_ns, newest[0].stamp_ns) if rows and newest else None

    def hops(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[StoredHop]:
        """Return the oldest `limit` hops of a camera with start_ns <= stamp_ns <= end_ns."""
        which = 'source = ? AND stamp_ns BETWEEN ? AND ? ORDER BY stamp_ns, number LIMIT ?'
        return self._hops(which, source, start_ns, end_ns, limit)

    def before(self, hop: StoredHop, count: int) -> list[StoredHop]:
        """Return up to `count` stored hops that precede a hop without a gap, oldest first."""
        return self._last(hop.source, hop.stamp_ns, count + 1, hop.number)[:-1]

    def landmarks(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[StoredHop]:
        """Select up to `limit` stored hops that represent a time span, in order of time.

        The selected hops are the last hops of segments and the newest hop. If the span has fewer
        segments than `limit`, evenly spaced hops are added to represent long segments. Hops are at
        least half an attention window apart.

        Args:
            source: Name of the camera.
            start_ns: Start of the span.
            end_ns: End of the span.
            limit: Maximum number of hops.
        """
        newest = self._last(source, end_ns, 1)
        first = self.hops(source, start_ns, end_ns, 1)
        if not newest or not first:
            return []
        which = 'source = ? AND kept = ? AND stamp_ns BETWEEN ? AND ? ORDER BY stamp_ns LIMIT ?'
        ends = self._hops(which, source, WINDOW_END, start_ns, end_ns, limit)
        times = np.linspace(first[0].stamp_ns, newest[0].stamp_ns, limit + 1)[1:].astype(np.int64)
        if len(ends) == limit:  # or more
            spread = [self._hops(which, source, WINDOW_END, int(t), end_ns, 1) for t in times]
            return self._apart([*newest, *(hop for hops in spread for hop in hops)], limit)
        others = [hop for t in times for hop in self._last(source, int(t), 1)]
        return self._apart([*newest, *ends, *others], limit)

    def images(self, hop: StoredHop) -> list[Image]:
        """Return the frames of a hop, oldest first, as (S, S, 3) uint8 RGB, S = `image_size`.

        Raises:
            InputError: The frames were deleted after the hop was looked up, or are damaged.
        """
        rows = self._base.read('SELECT picture FROM hops WHERE id = ?', hop.id)
        if not rows:
            raise InputError(
                f'the stored frames at {hop.stamp_ns / 1e9:.3f} s were deleted while being read'
            )
        return _unpack(rows[0][0])

    def _hops(self, which: str, *values: object) -> list[StoredHop]:
        rows = self._base.read(f'SELECT {COLUMNS} FROM hops WHERE {which}', *values)
        return [StoredHop(*row) for row in rows]

    def _last(
        self, source: str, stamp_ns: int, count: int, number: int | None = None
    ) -> list[StoredHop]:
        """Return up to `count` adjacent hops that end with the newest hop at or before a stamp.

        The hops are sorted by time. If several hops have the stamp `stamp_ns`, `number` selects
        the last hop to return; None selects the newest hop.
        """
        found = list[StoredHop]()
        for hop in self._hops(
            'source = ? AND (stamp_ns, number) <= (?, ?) '
            'ORDER BY stamp_ns DESC, number DESC LIMIT ?',
            source,
            stamp_ns,
            EVER_NS if number is None else number,
            count,
        ):
            if found and not found[-1].follows(hop):
                break
            found.append(hop)
        return found[::-1]

    def _apart(self, hops: Sequence[StoredHop], limit: int) -> list[StoredHop]:
        """Select up to `limit` hops that are at least half a window apart, and sort them by time.

        A hop that is too near to an earlier item of `hops` is skipped.
        """
        found = list[StoredHop]()
        for hop in hops:
            near = (h for h in found if h.reset_count == hop.reset_count)
            apart = all(abs(h.number - hop.number) >= self._window / 2 for h in near)
            if apart and len(found) < limit:
                found.append(hop)
        return sorted(found, key=lambda hop: (hop.stamp_ns, hop.number))

    # Writing.

    def _check_format(self, facts: ModelFacts, path: Path | None) -> None:
        ours = (facts.image_size, facts.tubelet_frames)
        found = self._base.read('SELECT * FROM format')
        if not found:
            self._base.write('INSERT INTO format VALUES (?, ?)', *ours)
        elif found[0] != ours:
            (size, frames), (our_size, our_frames) = found[0], ours
            raise InputError(
                f'{path} contains hops of {frames} frames of {size}x{size} pixels, but the model '
                f'uses {our_frames} frames of {our_size}x{our_size}; choose another file'
            )

    def _count(self) -> None:
        """Update the cached size of each camera's frames from the database."""
        rows = self._base.read('SELECT source, sum(length(picture)) FROM hops GROUP BY source')
        sizes = dict[str, int](rows)
        for name in {*sizes, *self._sources}:
            self._sources.setdefault(name, _CameraSummary()).size = sizes.get(name, 0)
        self._uncertain = False

    def _add(self, hop: tuple[str, int, int, int, int], jpeg: bytes) -> None:
        source, start_ns, stamp_ns, reset_count, _ = hop
        known = self._sources.setdefault(source, _CameraSummary())
        if known.reset_count != reset_count or stamp_ns < known.stamp_ns:
            self._delete(source, 'stamp_ns >= ?', start_ns)
        self._base.write(
            'INSERT INTO hops (source, start_ns, stamp_ns, epoch, number, picture) '
            'VALUES (?, ?, ?, ?, ?, ?)',
            *hop,
            jpeg,
        )
        known.stamp_ns, known.reset_count = stamp_ns, reset_count
        known.size += len(jpeg)

    def _keep(self, source: str, start_ns: int, last_ns: int) -> None:
        window = [h for h in self._last(source, last_ns, self._window) if h.stamp_ns >= start_ns]
        rows = [(IN_WINDOW, hop.id) for hop in window[:-1]]
        rows += [(WINDOW_END, hop.id) for hop in window[-1:]]
        self._base.write_many('UPDATE hops SET kept = max(kept, ?) WHERE id = ?', rows)

    def _keep_small(self, source: str) -> None:
        oldest_ns = self._retention.age_ns(source) - round(self._settings.kept_s * 1e9)
        self._delete(source, 'stamp_ns < ?', max(oldest_ns, -EVER_NS))
        if self.held_bytes <= self._settings.most_bytes:
            return
        largest = max(self._sources, key=lambda name: self._sources[name].size)
        recent_ns = self._retention.age_ns(largest) - RECENT_NS
        room = AT_ONCE
        for kinds, until_ns in (
            ((PLAIN,), recent_ns),
            ((IN_WINDOW, WINDOW_END), EVER_NS),
            ((PLAIN,), EVER_NS),
        ):
            room -= self._delete_oldest(largest, kinds, until_ns, room)
        self._base.shrink()

    def _delete_oldest(self, source: str, kinds: tuple[int, ...], until_ns: int, most: int) -> int:
        """Delete the oldest hops of a camera until the size limit is met.

        Args:
            source: Name of the camera.
            kinds: Values of the column `kept` of the hops that may be deleted.
            until_ns: Only hops with older stamps may be deleted.
            most: Maximum number of hops to delete.

        Returns:
            The number of deleted hops.
        """
        rows = list[tuple[Any, ...]]()
        for kept in kinds:  # one query per kind, which can use the index
            rows += self._base.read(
                'SELECT stamp_ns, id, length(picture) FROM hops '
                'WHERE source = ? AND kept = ? AND stamp_ns < ? ORDER BY stamp_ns LIMIT ?',
                source,
                kept,
                until_ns,
                most,
            )
        deleted = list[tuple[int]]()
        for _, number, size in sorted(rows)[:most]:
            if self.held_bytes <= self._settings.most_bytes:
                break
            deleted.append((number,))
            self._sources[source].size -= size
        self._base.write_many('DELETE FROM hops WHERE id = ?', deleted)
        return len(deleted)

    def _delete(self, source: str, which: str, stamp_ns: int) -> None:
        which = f'source = ? AND {which}'
        [(size,)] = self._base.read(
            f'SELECT ifnull(sum(length(picture)), 0) FROM hops WHERE {which}', source, stamp_ns
        )
        if size:
            self._base.write(f'DELETE FROM hops WHERE {which}', source, stamp_ns)
            self._sources[source].size -= size

    def _write(self, action: Callable[[], None]) -> None:
        """Run a write action; a failure is reported in `problem` and loses uncommitted frames."""
        try:
            action()
        except OutputError as error:
            self._new_problem = str(error)
            self._uncertain = True


def _pack(images: Sequence[Image]) -> bytes:
    """Stack frames vertically and encode them as one JPEG."""
    rows = np.ascontiguousarray(np.concatenate(images)[..., ::-1])
    done, data = cv2.imencode('.jpg', rows, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def _unpack(data: bytes) -> list[Image]:
    """Decode the square frames that `_pack` stacked; raise InputError if they are damaged."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise InputError('stored frames are damaged: cannot decode the JPEG')
    rows = np.asarray(decoded, np.uint8)[..., ::-1]
    count = rows.shape[0] // rows.shape[1]
    return [np.ascontiguousarray(part) for part in np.split(rows, count)]
