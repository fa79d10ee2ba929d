# SPDX-License-Identifier: Apache-2.0
"""Thread that writes to an SQLite file, so that no other thread waits for the disk.

Statements are queued, and executed in order, one transaction for all that wait. If the file cannot
be written for a while (locked by another process, disk full), the statements wait and are tried
again. The queue is bounded; a statement that finds it full is refused.

In WAL mode, a reader that keeps a transaction open stops checkpoints, and the log `-wal` grows
with every write. Beyond `log_bytes`, statements wait until a checkpoint has emptied the log.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vljepa_ros.core.errors import OutputError

MOST_PENDING = 100_000  # statements
MOST_PENDING_BYTES = 64_000_000
MOST_AT_ONCE = 64  # statements per transaction, so that the log stays small
BUSY_S = 0.05  # SQLite's own wait for a lock
RETRY_S = 0.5  # time between two attempts if nothing new is queued
SLOW_S = 0.1  # statements that wait longer are no longer waited for
LATE_S = 2.0  # a disk that does not respond for so long is reported
LOG_BYTES = 64_000_000
# Primary result codes of SQLite after which the same statement can succeed later.
TEMPORARY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}


class Statement(NamedTuple):
    """An SQL statement with its rows of values; it is executed once per row.

    `is_script`: it is executed alone and outside of a transaction.
    """

    text: str
    rows: tuple[tuple[Any, ...], ...] = ((),)
    is_script: bool = False

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        values = itertools.chain.from_iterable(self.rows)
        return 100 + sum(len(value) for value in values if isinstance(value, bytes | str))


class LogFullError(sqlite3.OperationalError):
    """The write-ahead log has reached its limit, because another process keeps reading."""


class WriteQueue:
    """Queue of statements and the thread that executes them. Thread-safe."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start the thread.

        Args:
            path: The file, for messages.
            connect: Opens the connection of the thread.
        """
        self.log_bytes = LOG_BYTES
        self._path, self._connect = path, connect
        self._changed = threading.Condition()
        self._queue = deque[Statement]()
        self._pending_bytes = 0
        self._since_s = 0.0  # when the oldest pending statement was queued or last made progress
        self._error = ''
        self._dropped = 0  # statements that were refused since the last success
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f'write {path.name}', daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """Reason why statements wait or were dropped, in one line; '' if there are none."""
        with self._changed:
            error, count = self._error, len(self._queue)
            late_s = time.monotonic() - self._since_s if count else 0.0
            if not error and late_s < LATE_S:
                return ''
            error = error or f'the disk has not responded for {late_s:.0f} s'
            waiting = f'; {count:,} changes wait in RAM' if count else ''
            dropped = f', {self._dropped:,} were dropped' if self._dropped else ''
            return f'{self._path} cannot be written: {error}{waiting}{dropped}'

    @property
    def is_behind(self) -> bool:
        """Whether statements wait because the file cannot be written, or the disk is slow."""
        with self._changed:
            return self._is_behind()

    def put(self, statement: Statement) -> None:
        """Queue a statement; raise OutputError if the queue is full."""
        with self._changed:
            full = len(self._queue) >= MOST_PENDING or self._pending_bytes >= MOST_PENDING_BYTES
            if full or self._is_stopping:
                self._dropped += 1
                raise OutputError(
                    f'{self._path}: {len(self._queue):,} changes wait to be written, which is the '
                    'limit: dropping a change'
                )
            if not self._queue:
                self._since_s = time.monotonic()
            self._queue.append(statement)
            self._pending_bytes += statement.size
            self._changed.notify_all()

    def settle(self) -> bool:
        """Wait up to `SLOW_S` until all statements are executed, unless the disk is slow.

        Returns:
            Whether all statements were executed.
        """
        with self._changed:
            return (
                self._changed.wait_for(lambda: not self._queue or self._is_behind(), SLOW_S)
                and not self._queue
            )

    def stop(self, timeout_s: float = 0.0) -> bool:
        """Execute the queued statements and end the thread.

        Args:
            timeout_s: Maximum wait. The thread ends later if it is stuck in a disk access.

        Returns:
            Whether all statements were executed in time.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._queue, timeout_s)
        if done and timeout_s:
            self._thread.join(timeout_s)
        return done

    def _is_behind(self) -> bool:
        late = bool(self._queue) and time.monotonic() - self._since_s >= SLOW_S
        return bool(self._error) or late

    def _run(self) -> None:
        base: sqlite3.Connection | None = None
        while batch := self._next():
            try:
                base = base or self._open()
                self._empty_log(base)
                _execute(base, batch)
            except sqlite3.Error as error:
                if base is not None and base.in_transaction:
                    base.execute('ROLLBACK')
                if self._is_final(error, len(batch)):
                    break
            else:
                self._finish(len(batch), '')
        if base is not None:
            base.close()

    def _next(self) -> list[Statement]:
        """Wait for statements, and return those of the next transaction; [] to end the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_stopping)
            batch = list(
                itertools.takewhile(
                    lambda s: not s.is_script, itertools.islice(self._queue, MOST_AT_ONCE)
                )
            )
            return batch or list(itertools.islice(self._queue, 1))

    def _finish(self, count: int, error: str) -> None:
        with self._changed:
            for _ in range(count):
                self._pending_bytes -= self._queue.popleft().size
            self._error, self._since_s, self._dropped = error, time.monotonic(), 0
            self._changed.notify_all()

    def _is_final(self, error: sqlite3.Error, count: int) -> bool:
        """Wait before the next attempt after an error; return whether there is none."""
        code = getattr(error, 'sqlite_errorcode', sqlite3.SQLITE_BUSY) & 0xFF
        if code not in TEMPORARY:  # for example a damaged file: the statements can never succeed
            self._finish(count, str(error))
            return False
        with self._changed:
            self._error = str(error)
            self._changed.notify_all()
            if self._is_stopping:  # the last attempt has failed
                return True
            known = len(self._queue)
            self._changed.wait_for(lambda: self._is_stopping or len(self._queue) > known, RETRY_S)
            return False

    def _open(self) -> sqlite3.Connection:
        base = self._connect()
        base.execute(f'PRAGMA busy_timeout = {round(BUSY_S * 1e3)}')
        base.execute('PRAGMA synchronous = NORMAL')  # committed data survives a kill
        base.execute(f'PRAGMA journal_size_limit = {self.log_bytes // 2}')
        return base

    def _empty_log(self, base: sqlite3.Connection) -> None:
        """Run a checkpoint if the log has reached its limit; raise an error if it is stopped."""
        log = self._path.with_name(f'{self._path.name}-wal')
        size = log.stat().st_size if log.exists() else 0
        if size < self.log_bytes:
            return
        [(is_stopped, _, _)] = base.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
        if is_stopped:
            raise LogFullError(
                f'its log {log.name} has {size / 1e6:.0f} MB, because another process keeps '
                'reading the file; end that process'
            )


def _execute(base: sqlite3.Connection, batch: list[Statement]) -> None:
    """Execute statements in one transaction."""
    if batch[0].is_script:
        # Python's `execute` would run only one step of a vacuum, which frees one page.
        base.executescript(batch[0].text)
        return
    base.execute('BEGIN')
    for statement in batch:
        base.executemany(statement.text, statement.rows)
    base.execute('COMMIT')
