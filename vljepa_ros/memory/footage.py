# SPDX-License-Identifier: Apache-2.0
"""What the cameras saw, to be looked at again: each hop's frames as one JPEG, in a database.

Frames are of the model's size. Where they would take more than `most_bytes`, those of the middle
of segments go first, then the oldest: of a segment its last attention window stays longest. So a
new question about the past has something to look at for every segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vljepa_ros.errors import InputError, OutputError
from vljepa_ros.memory.database import Database
from vljepa_ros.stream.frames import Slot
from vljepa_ros.stream.interfaces import ModelFacts
from vljepa_ros.stream.settings import FootageSettings
from vljepa_ros.stream.types import EVER_NS, Image

VERSION = 1
TABLES = """
CREATE TABLE format (image_size INTEGER, tubelet_frames INTEGER);
CREATE TABLE hops (
    id INTEGER PRIMARY KEY, source TEXT, start_ns INTEGER, stamp_ns INTEGER, epoch INTEGER,
    number INTEGER, kept INTEGER DEFAULT 0, picture BLOB
);
CREATE INDEX seen ON hops (source, stamp_ns, number);
CREATE INDEX oldest ON hops (kept, stamp_ns);
"""
QUALITY = 92  # of the JPEGs, 0..100
IN_WINDOW, WINDOW_END = 1, 2  # `kept`: of a segment's last window, and the last hop of one
RECENT_NS = 60_000_000_000  # so new that their segment may not be over: they go last
AT_ONCE = 500  # hops that are given up at once
CHECKED = 64  # hops between two looks at how old and how much it all is
GIVEN_UP = 0.05  # share that goes where it is too much
ANY = 'kept BETWEEN 0 AND 2'  # every hop, by the index
COLUMNS = 'id, source, start_ns, stamp_ns, epoch, number'


class Hop(NamedTuple):
    """One hop whose frames are kept: its oldest and newest frames' stamps, and where it belongs.

    Hops of one source and epoch with consecutive numbers were seen one after the other.
    """

    id: int
    source: str
    start_ns: int
    stamp_ns: int
    epoch: int
    number: int

    def follows(self, other: Hop) -> bool:
        """Whether this was the next that was seen."""
        return (self.source, self.epoch, self.number - 1) == (
            other.source,
            other.epoch,
            other.number,
        )


@dataclass
class _Newest:
    stamp_ns: int
    epoch: int


class Footage:
    """The kept frames of all cameras. Not thread-safe: the eyes' thread owns it.

    Where a source's time goes back (a looping bag), what it had seen after that is forgotten.
    `trouble`: why the disk did not take all between the last two commits; '' if it did.
    """

    def __init__(
        self,
        facts: ModelFacts,
        settings: FootageSettings | None = None,
        path: Path | None = None,
    ) -> None:
        """Of frames as a model takes them; without a `path` they live in RAM.

        Raises InputError, OutputError and BusyError as a Database does.
        """
        self._window, self._settings = facts.window_tubelets, settings or FootageSettings()
        self._base = Database(path, 'footage', TABLES, VERSION)
        self._newest: dict[str, _Newest] = {}
        self._added = 0
        self.trouble, self._trouble = '', ''
        self.held_bytes = self._bytes_of('1')
        try:
            self._check_format(facts, path)
        except InputError:
            self.close()
            raise

    def add(self, source: str, tubelet: Sequence[Slot], epoch: int, number: int) -> None:
        """Keep the frames of a hop, the `number`th of its epoch."""
        picture = _pack([slot.image for slot in tubelet])
        start_ns, stamp_ns = tubelet[0].stamp_ns, tubelet[-1].stamp_ns
        self._write(lambda: self._add(source, start_ns, stamp_ns, epoch, number, picture))
        self._added += 1
        if self._added % CHECKED == 0:
            self._write(lambda: self._keep_small(stamp_ns))

    def keep_window(self, source: str, end_ns: int) -> None:
        """A segment ended: the hops of its last attention window outlive the others."""
        window = self._last(source, end_ns - 1, self._window)
        if not window:
            return
        marks = [(IN_WINDOW, hop.id) for hop in window[:-1]] + [(WINDOW_END, window[-1].id)]
        statement = 'UPDATE hops SET kept = max(kept, ?) WHERE id = ?'
        self._write(lambda: self._base.write_many(statement, marks))

    def hops(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[Hop]:
        """Those of start_ns <= stamp <= end_ns that are kept, at most the `limit` first ones."""
        rows = self._base.read(
            f'SELECT {COLUMNS} FROM hops WHERE source = ? AND stamp_ns BETWEEN ? AND ? '
            'ORDER BY stamp_ns, number LIMIT ?',
            source,
            start_ns,
            end_ns,
            limit,
        )
        return [Hop(*row) for row in rows]

    def before(self, hop: Hop, count: int) -> list[Hop]:
        """Up to `count` hops that were seen directly before this one."""
        return self._last(hop.source, hop.stamp_ns, count + 1, hop)[:-1]

    def landmarks(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[Hop]:
        """The last hops of the segments in a span, or hops at even distances; at most `limit`."""
        rows = self._base.read(
            f'SELECT {COLUMNS} FROM hops WHERE kept = ? AND stamp_ns BETWEEN ? AND ? '
            'AND source = ? ORDER BY stamp_ns',
            WINDOW_END,
            start_ns,
            end_ns,
            source,
        )
        if len(rows) < 2:
            times = np.linspace(start_ns, end_ns, limit + 1)[1:]
            found = [self._last(source, int(t), 1) for t in times]
            rows = [hop[0] for hop in found if hop and hop[0].stamp_ns >= start_ns]
            rows = list(dict.fromkeys(rows))
        even = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
        return [Hop(*rows[i]) for i in even]

    def span(self, source: str) -> tuple[int, int] | None:
        """The stamps of the oldest and the newest frame that are kept."""
        [(first, last)] = self._base.read(
            'SELECT min(start_ns), max(stamp_ns) FROM hops WHERE source = ?', source
        )
        return None if first is None else (first, last)

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras of which frames are kept."""
        return tuple(row[0] for row in self._base.read('SELECT DISTINCT source FROM hops'))

    def images(self, hop: Hop) -> list[Image]:
        """Its frames. Raises InputError where they were given up meanwhile."""
        rows = self._base.read('SELECT picture FROM hops WHERE id = ?', hop.id)
        if not rows:
            raise InputError(f'the frames of {hop.stamp_ns / 1e9:.3f} s were just given up')
        return _unpack(rows[0][0])

    def commit(self) -> None:
        """What was added survives whatever happens; to be called every second."""
        self._write(self._base.commit)
        self.trouble, self._trouble = self._trouble, ''

    def close(self) -> None:
        """Let another process have the file."""
        self._base.close()

    def _check_format(self, facts: ModelFacts, path: Path | None) -> None:
        ours, found = (
            (facts.image_size, facts.tubelet_frames),
            self._base.read('SELECT * FROM format'),
        )
        if not found:
            self._base.write('INSERT INTO format VALUES (?, ?)', *ours)
        elif found[0] != ours:
            (size, frames), (our_size, our_frames) = found[0], ours
            raise InputError(
                f'{path} holds {frames} frames of {size}x{size} a hop, the model takes '
                f'{our_frames} of {our_size}x{our_size}: give another file'
            )

    def _add(
        self, source: str, start_ns: int, stamp_ns: int, epoch: int, number: int, picture: bytes
    ) -> None:
        newest = self._newest.get(source)
        if newest is None or newest.epoch != epoch or stamp_ns < newest.stamp_ns:
            self._forget_from(source, start_ns)
        self._base.write(
            'INSERT INTO hops (source, start_ns, stamp_ns, epoch, number, picture) '
            'VALUES (?, ?, ?, ?, ?, ?)',
            source,
            start_ns,
            stamp_ns,
            epoch,
            number,
            picture,
        )
        self._newest[source] = _Newest(stamp_ns, epoch)
        self.held_bytes += len(picture)

    def _forget_from(self, source: str, start_ns: int) -> None:
        self._delete('source = ? AND stamp_ns >= ?', source, start_ns)

    def _last(self, source: str, stamp_ns: int, count: int, end: Hop | None = None) -> list[Hop]:
        """The newest `count` hops up to a stamp, or to `end`, without a gap; oldest first."""
        rows = self._base.read(
            f'SELECT {COLUMNS} FROM hops WHERE source = ? AND stamp_ns <= ? '
            'ORDER BY stamp_ns DESC, number DESC LIMIT ?',
            source,
            stamp_ns,
            2 * count if end else count,
        )
        found = list[Hop]()
        for hop in map(Hop._make, rows):
            if found and not found[-1].follows(hop):
                break
            if found or end is None or hop.id == end.id:
                found.append(hop)
        return found[:count][::-1]

    def _keep_small(self, newest_ns: int) -> None:
        self._delete(f'{ANY} AND stamp_ns < ?', newest_ns - round(self._settings.kept_s * 1e9))
        if self.held_bytes <= self._settings.most_bytes:
            return
        for which, until_ns in (
            ('kept = 0', newest_ns - RECENT_NS),
            ('kept > 0', EVER_NS),
            ('kept = 0', EVER_NS),
        ):
            self._give_up(which, until_ns)
        self._base.shrink()

    def _give_up(self, which: str, until_ns: int) -> None:
        """Delete the oldest of these hops until little enough is left."""
        enough = (1 - GIVEN_UP) * self._settings.most_bytes
        while self.held_bytes > enough:
            rows = self._base.read(
                f'SELECT id, length(picture) FROM hops WHERE {which} AND stamp_ns < ? '
                'ORDER BY stamp_ns LIMIT ?',
                until_ns,
                AT_ONCE,
            )
            if not rows:
                return
            sizes = np.cumsum([size for _, size in rows], dtype=np.int64)
            count = int(np.searchsorted(sizes, self.held_bytes - enough)) + 1
            gone = rows[:count]
            self._base.write_many('DELETE FROM hops WHERE id = ?', [(row[0],) for row in gone])
            self.held_bytes -= sum(row[1] for row in gone)

    def _delete(self, which: str, *values: object) -> None:
        gone = self._bytes_of(which, *values)
        if gone:
            self._base.write(f'DELETE FROM hops WHERE {which}', *values)
            self.held_bytes -= gone

    def _bytes_of(self, which: str, *values: object) -> int:
        total = f'SELECT ifnull(sum(length(picture)), 0) FROM hops WHERE {which}'
        return int(self._base.read(total, *values)[0][0])

    def _write(self, action: Callable[[], None]) -> None:
        """What the disk does not take is told, and cannot be looked at again."""
        try:
            action()
        except OutputError as error:
            self._trouble = str(error)
            self.held_bytes = self._bytes_of('1')


def _pack(images: Sequence[Image]) -> bytes:
    """One JPEG of frames below each other."""
    rows = np.ascontiguousarray(np.concatenate(images)[..., ::-1])
    done, data = cv2.imencode('.jpg', rows, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def _unpack(data: bytes) -> list[Image]:
    """The frames, which are squares."""
    rows = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1]
    count = rows.shape[0] // rows.shape[1]
    return [np.ascontiguousarray(part) for part in np.split(rows, count)]
