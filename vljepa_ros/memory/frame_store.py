# SPDX-License-Identifier: Apache-2.0
"""What the cameras saw, to be looked at again: each hop's frames as one JPEG, in a database.

Frames are of the model's size. Where they would take more than `most_bytes`, those of the middle
of segments go first, then the oldest: of a segment its last attention window stays longest. So a
new question about the past has something to look at for every segment.
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
from vljepa_ros.core.settings import FootageSettings
from vljepa_ros.core.types import EVER_NS, Change, Image, Reason, Slot
from vljepa_ros.memory.retention import Held
from vljepa_ros.memory.sqlite_file import Database

VERSION = 1  # its column `epoch` is the reset counter of the stream
TABLES = """
CREATE TABLE format (image_size INTEGER, tubelet_frames INTEGER);
CREATE TABLE hops (
    id INTEGER PRIMARY KEY, source TEXT, start_ns INTEGER, stamp_ns INTEGER, epoch INTEGER,
    number INTEGER, kept INTEGER DEFAULT 0, picture BLOB
);
CREATE INDEX seen ON hops (source, stamp_ns, number);
CREATE INDEX oldest ON hops (source, kept, stamp_ns);
"""
QUALITY = 92  # of the JPEGs, 0..100
PLAIN, IN_WINDOW, WINDOW_END = 0, 1, 2  # `kept`: of no window, in a segment's last one, its end
RECENT_NS = 60_000_000_000  # so new that their segment may not be over: they go last
CHECKED = 64  # hops between two looks at how old and how much it all is
AT_ONCE = 256  # hops that are given up at most then
COLUMNS = 'id, source, start_ns, stamp_ns, epoch, number'


class Hop(NamedTuple):
    """One hop whose frames are kept: its oldest and newest frames' stamps, and where it belongs.

    Hops of one source and reset count with consecutive numbers were seen one after the other.
    """

    id: int
    source: str
    start_ns: int
    stamp_ns: int
    reset_count: int
    number: int

    def follows(self, other: Hop) -> bool:
        """Whether this was the next that was seen."""
        return (self.source, self.reset_count, self.number - 1) == (
            other.source,
            other.reset_count,
            other.number,
        )


@dataclass
class _Source:
    """What is known of one camera's hops without a look at the file."""

    stamp_ns: int = -EVER_NS  # of the newest
    reset_count: int | None = None
    size: int = 0  # bytes


class FrameStore:
    """The kept frames of all cameras. Not thread-safe: the eyes' thread owns it.

    Where a source's time goes back (a looping bag), what it had seen after that is forgotten, but
    for what a file held before this process. `trouble`: why not all between the last two commits
    was kept, or taken by the disk; '' if it was.
    """

    def __init__(
        self,
        facts: ModelFacts,
        settings: FootageSettings | None = None,
        path: Path | None = None,
    ) -> None:
        """Of frames as a model takes them; without a `path`, or on a full disk, they live in RAM.

        Raises InputError, OutputError and BusyError as a Database does.
        """
        self._window, self._settings = facts.window_tubelets, settings or FootageSettings()
        self._fileless = ''
        try:
            self._base = Database(path, 'footage', TABLES, VERSION)
        except DiskFullError as error:
            self._base, self._fileless = Database(None, 'footage', TABLES, VERSION), str(error)
            most = min(self._settings.most_bytes, FootageSettings.most_bytes)  # RAM has less
            self._settings = replace(self._settings, most_bytes=most)
        self._sources: dict[str, _Source] = {}
        self._added = 0
        self._uncertain = False  # what was taken back is still counted
        self.trouble, self._trouble = '', ''
        try:
            self._check_format(facts, path)
            self._count()
            rows = self._base.read('SELECT source, max(stamp_ns) FROM hops GROUP BY source')
            self._held = Held(dict[str, int](rows))
        except VljepaError:
            self.close()
            raise

    # The stream.

    def add(self, source: str, tubelet: Sequence[Slot], reset_count: int, number: int) -> None:
        """Keep the frames of a hop, the `number`th since the reset."""
        if refusal := self._held.refusal(source, tubelet[-1].stamp_ns):
            self._trouble = refusal
            return
        picture = _pack([slot.image for slot in tubelet])
        hop = (source, tubelet[0].stamp_ns, tubelet[-1].stamp_ns, reset_count, number)
        self._write(lambda: self._add(hop, picture))
        self._added += 1
        if self._added % CHECKED == 0:
            self._write(lambda: self._keep_small(source))

    def keep(self, change: Change) -> None:
        """A segment ended: the hops of its last attention window outlive the others."""
        ended = change.previous
        if ended is None or change.stamp_ns < ended.end_ns:  # or time went back: it is forgotten
            return
        # A new meaning begins with the hop at which the segment before it ends.
        last_ns = ended.end_ns - (change.reason is Reason.MEANING)
        self._write(lambda: self._keep(change.key.source, ended.start_ns, last_ns))

    def commit(self) -> None:
        """What was added survives whatever happens; to be called every second."""
        if self._uncertain:
            self._write(self._count)
        self._write(self._base.commit)
        self.trouble, self._trouble = self._trouble or self._fileless, ''

    def close(self) -> None:
        """Let another process have the file."""
        self._base.close()

    # Looking back. Raises OutputError where the file is damaged or gone.

    @property
    def held_bytes(self) -> int:
        """How much the frames take."""
        return sum(source.size for source in self._sources.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """The cameras of which frames are kept."""
        return tuple(name for name, source in self._sources.items() if source.size)

    def span(self, source: str) -> tuple[int, int] | None:
        """The stamps of the oldest and the newest frame that are kept."""
        rows = self._hops('source = ? ORDER BY stamp_ns, number LIMIT 1', source)
        newest = self._last(source, EVER_NS, 1)
        return (rows[0].start_ns, newest[0].stamp_ns) if rows and newest else None

    def hops(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[Hop]:
        """Those of start_ns <= stamp <= end_ns that are kept, at most the `limit` first ones."""
        which = 'source = ? AND stamp_ns BETWEEN ? AND ? ORDER BY stamp_ns, number LIMIT ?'
        return self._hops(which, source, start_ns, end_ns, limit)

    def before(self, hop: Hop, count: int) -> list[Hop]:
        """Up to `count` hops that were seen directly before this one."""
        return self._last(hop.source, hop.stamp_ns, count + 1, hop.number)[:-1]

    def landmarks(self, source: str, start_ns: int, end_ns: int, limit: int) -> list[Hop]:
        """At most `limit` hops that speak for a span: ends of segments, its newest hop, others.

        All segments' ends where they are few enough; what room there is beside them goes to hops
        at even distances, for what lasts long.
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

    def images(self, hop: Hop) -> list[Image]:
        """Its frames. Raises InputError where they were given up meanwhile, or are damaged."""
        rows = self._base.read('SELECT picture FROM hops WHERE id = ?', hop.id)
        if not rows:
            raise InputError(f'the frames of {hop.stamp_ns / 1e9:.3f} s were just given up')
        return _unpack(rows[0][0])

    def _hops(self, which: str, *values: object) -> list[Hop]:
        rows = self._base.read(f'SELECT {COLUMNS} FROM hops WHERE {which}', *values)
        return [Hop(*row) for row in rows]

    def _last(
        self, source: str, stamp_ns: int, count: int, number: int | None = None
    ) -> list[Hop]:
        """The newest `count` hops up to a stamp, without a gap; oldest first.

        `number`: of the last one, where several share its stamp.
        """
        found = list[Hop]()
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

    def _apart(self, hops: Sequence[Hop], limit: int) -> list[Hop]:
        """The first `limit` of `hops` that are at least half a window apart, in order of time."""
        found = list[Hop]()
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
                f'{path} holds {frames} frames of {size}x{size} a hop, the model takes '
                f'{our_frames} of {our_size}x{our_size}: give another file'
            )

    def _count(self) -> None:
        """Read how much there is of each source."""
        rows = self._base.read('SELECT source, sum(length(picture)) FROM hops GROUP BY source')
        sizes = dict[str, int](rows)
        for name in {*sizes, *self._sources}:
            self._sources.setdefault(name, _Source()).size = sizes.get(name, 0)
        self._uncertain = False

    def _add(self, hop: tuple[str, int, int, int, int], picture: bytes) -> None:
        source, start_ns, stamp_ns, reset_count, _ = hop
        known = self._sources.setdefault(source, _Source())
        if known.reset_count != reset_count or stamp_ns < known.stamp_ns:
            self._delete(source, 'stamp_ns >= ?', start_ns)
        self._base.write(
            'INSERT INTO hops (source, start_ns, stamp_ns, epoch, number, picture) '
            'VALUES (?, ?, ?, ?, ?, ?)',
            *hop,
            picture,
        )
        known.stamp_ns, known.reset_count = stamp_ns, reset_count
        known.size += len(picture)

    def _keep(self, source: str, start_ns: int, last_ns: int) -> None:
        window = [h for h in self._last(source, last_ns, self._window) if h.stamp_ns >= start_ns]
        marks = [(IN_WINDOW, hop.id) for hop in window[:-1]]
        marks += [(WINDOW_END, hop.id) for hop in window[-1:]]
        self._base.write_many('UPDATE hops SET kept = max(kept, ?) WHERE id = ?', marks)

    def _keep_small(self, source: str) -> None:
        known = self._sources[source]
        oldest_ns = known.stamp_ns - round(self._settings.kept_s * 1e9)
        self._delete(source, 'stamp_ns < ?', max(oldest_ns, -EVER_NS))
        if self.held_bytes <= self._settings.most_bytes:
            return
        largest = max(self._sources, key=lambda name: self._sources[name].size)
        recent_ns = self._sources[largest].stamp_ns - RECENT_NS
        room = AT_ONCE
        for kinds, until_ns in (
            ((PLAIN,), recent_ns),
            ((IN_WINDOW, WINDOW_END), EVER_NS),
            ((PLAIN,), EVER_NS),
        ):
            room -= self._give_up(largest, kinds, until_ns, room)
        self._base.shrink()

    def _give_up(self, source: str, kinds: tuple[int, ...], until_ns: int, most: int) -> int:
        """Delete the oldest of such hops until little enough is left, or `most`; how many."""
        rows = list[tuple[Any, ...]]()
        for kept in kinds:  # one by one, by the index
            rows += self._base.read(
                'SELECT stamp_ns, id, length(picture) FROM hops '
                'WHERE source = ? AND kept = ? AND stamp_ns < ? ORDER BY stamp_ns LIMIT ?',
                source,
                kept,
                until_ns,
                most,
            )
        gone = list[tuple[int]]()
        for _, number, size in sorted(rows)[:most]:
            if self.held_bytes <= self._settings.most_bytes:
                break
            gone.append((number,))
            self._sources[source].size -= size
        self._base.write_many('DELETE FROM hops WHERE id = ?', gone)
        return len(gone)

    def _delete(self, source: str, which: str, stamp_ns: int) -> None:
        which = f'source = ? AND {which}'
        [(size,)] = self._base.read(
            f'SELECT ifnull(sum(length(picture)), 0) FROM hops WHERE {which}', source, stamp_ns
        )
        if size:
            self._base.write(f'DELETE FROM hops WHERE {which}', source, stamp_ns)
            self._sources[source].size -= size

    def _write(self, action: Callable[[], None]) -> None:
        """What the disk does not take is told, and cannot be looked at again."""
        try:
            action()
        except OutputError as error:
            self._trouble = str(error)
            self._uncertain = True


def _pack(images: Sequence[Image]) -> bytes:
    """One JPEG of frames below each other."""
    rows = np.ascontiguousarray(np.concatenate(images)[..., ::-1])
    done, data = cv2.imencode('.jpg', rows, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def _unpack(data: bytes) -> list[Image]:
    """The frames, which are squares. Raises InputError where the JPEG is damaged."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise InputError('kept frames are damaged')
    rows = np.asarray(decoded, np.uint8)[..., ::-1]
    count = rows.shape[0] // rows.shape[1]
    return [np.ascontiguousarray(part) for part in np.split(rows, count)]
