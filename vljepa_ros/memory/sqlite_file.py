# SPDX-License-Identifier: Apache-2.0
"""An SQLite file in WAL mode, which one process writes and others may read meanwhile.

What is written counts from `commit` on: a process that is killed loses what came after its last
one, and never the file.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vljepa_ros.core.errors import BusyError, DiskFullError, InputError, OutputError

PAGES_AT_ONCE = 2000  # 8 MB
FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = 1 << 20  # bytes that must be free for a file to be made, or opened to be written


class Database:
    """Rows of tables that are made with the file. Not thread-safe."""

    def __init__(
        self,
        path: Path | None,
        what: str,
        tables: str,
        version: int,
        read_only: bool = False,
        migrations: Mapping[int, str] | None = None,
    ) -> None:
        """Open the file, or make it; without a `path` it is in RAM. `what` it is, for errors.

        `migrations`: by older version, the statements that lead to the next one. They are run at
        once, unless the file is only read: then `version` is the file's.

        Raises:
            InputError: it is no such file, or of another version.
            OutputError: it cannot be made; DiskFullError where that is why.
            BusyError: another process writes it.
        """
        self.path, self.version = path, version
        self._migrations = migrations or {}
        if path is not None and read_only and not path.is_file():
            raise InputError(f'{path}: no such file')
        self._lock = None if read_only or path is None else _lock(path)
        try:
            self._base = _connect(path, read_only)
            self._prepare(what, tables, read_only)
        except sqlite3.OperationalError as error:
            self.close()
            if not read_only and _is_full(path):  # which SQLite calls by several names
                raise DiskFullError(f'{path} cannot be opened: the disk is full') from error
            raise OutputError(f'{path} cannot be opened: {error}') from error
        except (sqlite3.DatabaseError, InputError) as error:
            self.close()
            raise InputError(f'{path} is no {what}: {error}') from error

    def _prepare(self, what: str, tables: str, read_only: bool) -> None:
        (version,) = self._base.execute('PRAGMA user_version').fetchone()
        (kind,) = self._base.execute('PRAGMA application_id').fetchone()
        (count,) = self._base.execute('SELECT count(*) FROM sqlite_master').fetchone()
        ours = zlib.crc32(what.encode()) >> 1  # it is signed
        if version == 0 and count == 0 and not read_only:
            self._base.execute('PRAGMA auto_vacuum = INCREMENTAL')
            self._base.execute('PRAGMA journal_mode = WAL')
            self._base.executescript(
                f'BEGIN; {tables} PRAGMA user_version = {self.version}; '
                f'PRAGMA application_id = {ours}; COMMIT;'
            )
        elif kind != ours:
            raise InputError('it is a database of another kind')
        elif version != self.version:
            self._migrate(version, read_only)
        self._base.execute('PRAGMA synchronous = NORMAL')  # what is killed loses nothing committed

    def _migrate(self, version: int, read_only: bool) -> None:
        """Bring an older file up to date in one transaction. Raises InputError if it cannot."""
        missing = range(version, self.version)
        if version > self.version or not all(step in self._migrations for step in missing):
            raise InputError(f'version {version}, not {self.version}')
        if read_only:
            self.version = version
            return
        statements = ' '.join(self._migrations[step] for step in missing)
        self._base.executescript(
            f'BEGIN; {statements} PRAGMA user_version = {self.version}; COMMIT;'
        )

    def read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query. Raises OutputError where the file is damaged or gone."""
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise OutputError(f'{self.path} cannot be read: {error}') from error

    # Writing. Raises OutputError: the disk is full, or the file is gone. All since the last commit
    # is taken back then, nothing is half written.

    def write(self, statement: str, *values: Any) -> None:
        """Part of what the next commit makes count."""
        with self._told():
            self._begin()
            self._base.execute(statement, values)

    def write_many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same for each of `rows`."""
        with self._told():
            self._begin()
            self._base.executemany(statement, rows)

    def commit(self) -> None:
        """From now on it is there whatever happens to this process."""
        with self._told():
            if self._base.in_transaction:
                self._base.execute('COMMIT')

    def shrink(self) -> None:
        """Give some of what was deleted back to the disk: so much that it takes no time."""
        self.commit()
        with self._told():
            # Python's `execute` would take one step, which frees one page.
            self._base.executescript(f'PRAGMA incremental_vacuum({PAGES_AT_ONCE});')

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

    def _begin(self) -> None:
        if not self._base.in_transaction:
            self._base.execute('BEGIN')

    @contextmanager
    def _told(self) -> Iterator[None]:
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
    """The lock of the one process that writes, until it ends; it lies beside the file."""
    try:
        lock = path.with_name(f'{path.name}-lock').open('w')
    except OSError as error:
        kind = DiskFullError if error.errno in FULL else OutputError
        raise kind(f'{path} cannot be made: {error.strerror}') from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise BusyError(f'{path} is written by another process') from error
    return lock


def _is_full(path: Path | None) -> bool:
    folder = path.parent if path else None
    return folder is not None and folder.is_dir() and shutil.disk_usage(folder).free < ROOM
