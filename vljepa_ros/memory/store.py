# SPDX-License-Identifier: Apache-2.0
"""What is remembered, on disk: an SQLite file in WAL mode, vectors in float16 with their stamps.

One process writes; others may read the file meanwhile. What is written counts from `commit` on: a
process that is killed loses what came after its last one, and never the file. Each write is tiny
(a hop is 0.5 kB), so that a file of its own for the vectors gains nothing.

Shapes: N hops, D embedding_dim.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.errors import BusyError, InputError, OutputError
from vljepa_ros.memory.stream import Remembered, SegmentName
from vljepa_ros.stream.types import StreamKey, Vector

VERSION = 1
TABLES = """
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, source TEXT, prompt TEXT, model_id TEXT,
    UNIQUE (source, prompt, model_id)
);
CREATE TABLE hops (
    stream INTEGER, stamp_ns INTEGER, vector BLOB, PRIMARY KEY (stream, stamp_ns)
) WITHOUT ROWID;
CREATE TABLE segments (
    stream INTEGER, session TEXT, number INTEGER, start_ns INTEGER, end_ns INTEGER, vector BLOB,
    text TEXT DEFAULT '', PRIMARY KEY (stream, session, number)
) WITHOUT ROWID;
CREATE INDEX ended ON segments (end_ns);
"""


class Store:
    """A memory's file. Not thread-safe; vectors of any models lie side by side."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Open it, or make it.

        Raises:
            InputError: it is no such file, or of another version.
            OutputError: it cannot be made.
            BusyError: another process writes it.
        """
        self.path, self._ids = path, dict[StreamKey, int]()
        if read_only and not path.is_file():
            raise InputError(f'{path}: no such file')
        self._lock = None if read_only else _lock(path)
        mode = 'ro' if read_only else 'rwc'
        try:
            self._base = sqlite3.connect(
                f'{path.resolve().as_uri()}?mode={mode}',
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            self._prepare(read_only)
        except sqlite3.OperationalError as error:
            self.close()
            raise OutputError(f'{path} cannot be opened: {error}') from error
        except (sqlite3.DatabaseError, InputError) as error:
            self.close()
            raise InputError(f'{path} is no memory: {error}') from error

    def _prepare(self, read_only: bool) -> None:
        (version,) = self._base.execute('PRAGMA user_version').fetchone()
        (tables,) = self._base.execute('SELECT count(*) FROM sqlite_master').fetchone()
        if version == 0 and tables == 0 and not read_only:
            self._base.execute('PRAGMA auto_vacuum = INCREMENTAL')
            self._base.execute('PRAGMA journal_mode = WAL')
            self._base.executescript(f'BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;')
        elif version != VERSION:
            raise InputError(f'version {version}, not {VERSION}')
        self._base.execute('PRAGMA synchronous = NORMAL')  # what is killed loses nothing committed

    # Writing. Raises OutputError: the disk is full, or the file is gone; nothing is half written.

    def put_hop(self, key: StreamKey, stamp_ns: int, vector: Vector) -> None:
        """One embedding; another of that stamp is replaced."""
        self._write('INSERT OR REPLACE INTO hops VALUES (?, ?, ?)', key, stamp_ns, _packed(vector))

    def put_segment(self, key: StreamKey, segment: Remembered) -> None:
        """A segment; all but the words of one with its name is replaced."""
        self._write(
            'INSERT INTO segments (stream, session, number, start_ns, end_ns, vector) '
            'VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET '
            'start_ns = excluded.start_ns, end_ns = excluded.end_ns, vector = excluded.vector',
            key,
            *segment.name,
            segment.start_ns,
            segment.end_ns,
            _packed(segment.vector),
        )

    def put_text(self, key: StreamKey, name: SegmentName, text: str) -> None:
        """The words of a segment that is there."""
        self._write(
            'UPDATE segments SET text = ?4 WHERE stream = ?1 AND session = ?2 AND number = ?3',
            key,
            *name,
            text,
        )

    def forget_hops(self, key: StreamKey, start_ns: int, end_ns: int) -> None:
        """Those of start_ns <= stamp < end_ns."""
        self._write(
            'DELETE FROM hops WHERE stream = ? AND stamp_ns >= ? AND stamp_ns < ?',
            key,
            start_ns,
            end_ns,
        )

    def forget_segment(self, key: StreamKey, name: SegmentName) -> None:
        """One segment."""
        self._write(
            'DELETE FROM segments WHERE stream = ? AND session = ? AND number = ?', key, *name
        )

    def commit(self) -> None:
        """From now on it is there whatever happens to this process."""
        with self._told():
            if self._base.in_transaction:
                self._base.execute('COMMIT')

    def shrink(self) -> None:
        """Give what was forgotten back to the disk."""
        self.commit()
        with self._told():
            self._base.execute('PRAGMA incremental_vacuum').fetchall()

    # Reading.

    def streams(self) -> list[StreamKey]:
        """All streams that were ever remembered, in that order."""
        rows = self._base.execute('SELECT source, prompt, model_id FROM streams ORDER BY id')
        return [StreamKey(*row) for row in rows]

    def hops(self, key: StreamKey) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Stamps (N,), rising, and vectors (N, D) of one stream."""
        rows = self._base.execute(
            'SELECT stamp_ns, vector FROM hops WHERE stream = ? ORDER BY stamp_ns',
            (self._id(key),),
        ).fetchall()
        if not rows:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        vectors = np.frombuffer(b''.join(blob for _, blob in rows), np.float16)
        stamps = np.array([stamp for stamp, _ in rows], np.int64)
        return stamps, vectors.reshape(len(rows), -1).astype(np.float32)

    def segments(self, key: StreamKey) -> list[Remembered]:
        """The segments of one stream, by their ends."""
        rows = self._base.execute(
            'SELECT session, number, start_ns, end_ns, vector, text FROM segments '
            'WHERE stream = ? ORDER BY end_ns, start_ns',
            (self._id(key),),
        )
        return [
            Remembered((session, number), start, end, _unpacked(vector), text)
            for session, number, start, end, vector, text in rows
        ]

    def close(self) -> None:
        """Commit what can be, and let another process write."""
        try:
            if hasattr(self, '_base'):
                if self._base.in_transaction:
                    self._base.execute('COMMIT')
                self._base.close()
        except sqlite3.Error:
            pass  # said at the write that failed
        finally:
            if self._lock is not None:
                self._lock.close()

    def _id(self, key: StreamKey) -> int:
        names = (key.source, key.prompt, key.model_id)
        if key not in self._ids:
            found = self._base.execute(
                'SELECT id FROM streams WHERE source = ? AND prompt = ? AND model_id = ?', names
            ).fetchone()
            if found is None:
                return -1
            self._ids[key] = int(found[0])
        return self._ids[key]

    def _write(self, statement: str, key: StreamKey, *values: Any) -> None:
        with self._told():
            if not self._base.in_transaction:
                self._base.execute('BEGIN')
            if self._id(key) < 0:
                names = (key.source, key.prompt, key.model_id)
                self._base.execute(
                    'INSERT INTO streams (source, prompt, model_id) VALUES (?, ?, ?)', names
                )
            self._base.execute(statement, (self._id(key), *values))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What fails takes back all since the last commit, and is an OutputError."""
        try:
            yield
        except sqlite3.Error as error:
            self._ids.clear()  # a stream may have been taken back
            if self._base.in_transaction:
                self._base.execute('ROLLBACK')
            raise OutputError(f'{self.path} cannot be written: {error}') from error


def _packed(vector: Vector) -> bytes:
    return np.asarray(vector, '<f2').tobytes()


def _unpacked(blob: bytes) -> Vector:
    return np.frombuffer(blob, '<f2').astype(np.float32)


def _lock(path: Path) -> IO[str]:
    """The lock of the one process that writes, until it ends; it lies beside the file."""
    try:
        lock = path.with_name(f'{path.name}-lock').open('w')
    except OSError as error:
        raise OutputError(f'{path} cannot be made: {error.strerror}') from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BusyError(f'{path} is written by another process') from error
    return lock
