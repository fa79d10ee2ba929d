# SPDX-License-Identifier: Apache-2.0
"""SQLite file in WAL mode, written by one process and readable by others at the same time.

A file is written by a thread of its own (see `write_queue`). A process that is killed loses only
the writes after its last `commit`; the file stays intact.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import shutil
import sqlite3
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from vljepa_ros.core.errors import BusyError, DiskFullError, InputError, OutputError
from vljepa_ros.memory.write_queue import BUSY_S, LOG_BYTES, Statement, WriteQueue

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # maximum wait for pending writes when a file is closed
LEAST_LOG = 8_000_000  # smallest limit of the write-ahead log; SQLite itself lets it grow to 4 MB
PAGES_AT_ONCE = 2000  # maximum number of pages that `shrink` frees (8 MB)
FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = 1 << 20  # a disk with fewer free bytes counts as full if a file cannot be opened


class Database:
    """SQLite database with a versioned set of tables. Not thread-safe.

    Writes to a file are queued. `read` and `commit` wait for them, but for at most 0.1 s, and not
    at all while the file cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        what: str,
        tables: str,
        version: int,
        read_only: bool = False,
        migrations: Mapping[int, str] | None = None,
    ) -> None:
        """Open or create the database.

        Args:
            path: The file; None for a database in RAM.
            what: Name of the database format; its hash is the SQLite application id of the file.
            tables: SQL statements that create the tables.
            version: Version of the tables.
            read_only: Open an existing file without locking or upgrading it; the attribute
                `version` is then the version of the file.
            migrations: SQL statements that upgrade a file from a version to the next, by version.

        Raises:
            InputError: The file has another format or an unsupported version, or is missing and
                `read_only` is set.
            OutputError: The file cannot be created or opened; DiskFullError if the disk is full.
            BusyError: Another process has opened the file for writing.
        """
        self.path, self.version = path, version
        self._queue: WriteQueue | None = None
        self._migrations = migrations or {}
        if path is not None and read_only and not path.is_file():
            raise InputError(f'{path}: {"it is a folder" if path.is_dir() else "no such file"}')
        # Wall-clock time of the last write before the file was opened; 0 for a new file.
        self.written_ns = max((file.stat().st_mtime_ns for file in _files(path)), default=0)
        self._lock = None if read_only or path is None else _lock(path)
        try:
            self._base = _connect(path, read_only)
            self._prepare(what, tables, read_only)
            self._base.execute(f'PRAGMA busy_timeout = {round(BUSY_S * 1e3)}')
        except sqlite3.OperationalError as error:
            self.close()
            if not read_only and _is_full(path):  # SQLite uses several error codes
                raise DiskFullError(f'{path} cannot be opened: the disk is full') from error
            raise OutputError(f'{path} cannot be opened: {error}') from error
        except (sqlite3.DatabaseError, InputError) as error:
            self.close()
            raise InputError(f'{path} cannot be used: {error}; choose another file') from error
        if path is not None and not read_only:
            self._queue = WriteQueue(path, partial(_connect, path, False))
            weakref.finalize(self, self._queue.stop)  # if it is not closed

    def _prepare(self, what: str, tables: str, read_only: bool) -> None:
        (version,) = self._base.execute('PRAGMA user_version').fetchone()
        (kind,) = self._base.execute('PRAGMA application_id').fetchone()
        (count,) = self._base.execute('SELECT count(*) FROM sqlite_master').fetchone()
        ours = zlib.crc32(what.encode()) >> 1  # application_id is a signed 32-bit integer
        if version == 0 and count == 0 and not read_only:
            self._base.execute('PRAGMA auto_vacuum = INCREMENTAL')
            self._base.execute('PRAGMA journal_mode = WAL')
            self._base.executescript(
                f'BEGIN; {tables} PRAGMA user_version = {self.version}; '
                f'PRAGMA application_id = {ours}; COMMIT;'
            )
        elif kind != ours:
            raise InputError('it is a database of another application or kind')
        elif version != self.version:
            self._migrate(version, read_only)
        self._base.execute(
            'PRAGMA synchronous = NORMAL'
        )  # committed data survives a kill of the process

    def _migrate(self, version: int, read_only: bool) -> None:
        """Upgrade an older file in one transaction; raise InputError for unsupported versions."""
        missing = range(version, self.version)
        if version > self.version or not all(step in self._migrations for step in missing):
            raise InputError(
                f'its format version {version} is not supported (expected {self.version})'
            )
        if read_only:
            self.version = version
            return
        statements = ' '.join(self._migrations[step] for step in missing)
        self._base.executescript(
            f'BEGIN; {statements} PRAGMA user_version = {self.version}; COMMIT;'
        )

    def read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of an SQL query; raise OutputError if the file is damaged or missing."""
        self.settle()
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise OutputError(f'{self.path} cannot be read: {error}') from error

    @property
    def is_behind(self) -> bool:
        """Whether writes wait, because the file cannot be written or the disk is slow."""
        return self._queue is not None and self._queue.is_behind

    @property
    def file_bytes(self) -> int:
        """Size of the file and its write-ahead log in bytes; 0 in RAM."""
        return sum(file.stat().st_size for file in _files(self.path))

    def limit_log(self, size: int) -> None:
        """Let writes wait while the write-ahead log has `size` bytes, at least `LEAST_LOG`."""
        if self._queue is not None:
            self._queue.log_bytes = min(max(size, LEAST_LOG), LOG_BYTES)

    # Writing. Raises OutputError: in RAM if a statement fails, and everything since the last
    # commit is then rolled back; for a file if too many writes wait. `commit` raises OutputError
    # while the file cannot be written.

    def write(self, statement: str, *values: Any) -> None:
        """Execute an SQL statement; `commit` makes its effect permanent."""
        self.write_many(statement, [values])

    def write_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute an SQL statement once per row of values; `commit` makes the effect permanent."""
        if self._queue is not None:
            self._queue.put(Statement(statement, tuple(rows)))
            return
        with self._rolled_back_on_error():
            self._begin()
            self._base.executemany(statement, rows)

    def settle(self) -> bool:
        """Wait a moment until all writes are on the disk, and return whether they are."""
        return self._queue is None or self._queue.settle()

    def commit(self) -> None:
        """Commit all writes since the last commit."""
        if self._queue is not None:
            self._queue.settle()
            if problem := self._queue.problem:
                raise OutputError(problem)
            return
        with self._rolled_back_on_error():
            if self._base.in_transaction:
                self._base.execute('COMMIT')

    def shrink(self) -> None:
        """Commit, and return up to `PAGES_AT_ONCE` unused pages to the file system."""
        script = f'PRAGMA incremental_vacuum({PAGES_AT_ONCE});'
        if self._queue is not None:
            self._queue.put(Statement(script, is_script=True))
            return
        self.commit()
        with self._rolled_back_on_error():
            self._base.executescript(script)

    def close(self) -> None:
        """Commit if possible, close the file and release its lock."""
        if self._queue is not None and not self._queue.stop(CLOSE_S):
            log.warning('%s; they are lost', self._queue.problem or f'{self.path}: slow disk')
        try:
            if hasattr(self, '_base'):
                if self._base.in_transaction:
                    self._base.execute('COMMIT')
                self._base.close()
        except sqlite3.Error:
            pass  # reported at the write that failed
        finally:
            if self._lock is not None:
                self._lock.close()

    def _begin(self) -> None:
        if not self._base.in_transaction:
            self._base.execute('BEGIN')

    @contextmanager
    def _rolled_back_on_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if self._base.in_transaction:
                self._base.execute('ROLLBACK')
            raise OutputError(f'{self.path} cannot be written: {error}') from error


def _connect(path: Path | None, read_only: bool) -> sqlite3.Connection:
    where = ':memory:' if path is None else f'{path.resolve().as_uri()}?mode='
    if path is not None:
        where += 'ro' if read_only else 'rwc'
    return sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)


def _lock(path: Path) -> IO[str]:
    """Lock a file beside the database, so that only one process writes, and return it."""
    try:
        lock = path.with_name(f'{path.name}-lock').open('w')
    except OSError as error:
        kind = DiskFullError if error.errno in FULL else OutputError
        raise kind(f'{path} cannot be created: {error.strerror}') from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BusyError(f'{path} is in use by another process') from error
    return lock


def _is_full(path: Path | None) -> bool:
    folder = path.parent if path else None
    return folder is not None and folder.is_dir() and shutil.disk_usage(folder).free < ROOM


def _files(path: Path | None) -> list[Path]:
    """Return the existing files of a database: the file and its write-ahead log."""
    files = [path, path.with_name(f'{path.name}-wal')] if path else []
    return [file for file in files if file.is_file()]
