# SPDX-License-Identifier: Apache-2.0
"""Disk for the SQLite databases of a test, which can be full or hang."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

HANG_S = 60.0  # maximum wait, so that a failing test ends


class Disk:
    """Records the databases that are opened, in order; writes to files fail or wait on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.databases: list[sqlite3.Connection] = []
        self._is_full = False
        self._responds = threading.Event()
        self._responds.set()
        connect, disk = sqlite3.connect, self

        class FileConnection(sqlite3.Connection):
            def executemany(self, *args: Any) -> sqlite3.Cursor:
                disk._write()
                return super().executemany(*args)

            def executescript(self, script: str) -> sqlite3.Cursor:
                disk._write()
                return super().executescript(script)

        def recorded(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
            if database != ':memory:':
                options['factory'] = FileConnection
            self.databases.append(connect(database, *args, **options))
            return self.databases[-1]

        monkeypatch.setattr(sqlite3, 'connect', recorded)

    def query(self, statement: str, which: int = -1) -> list[tuple[Any, ...]]:
        """Return the rows of an SQL query to a database, by default the newest."""
        return self.databases[which].execute(statement).fetchall()

    def fill(self) -> None:
        """Let all writes to files fail."""
        self._is_full = True

    def clear(self) -> None:
        """Let writes succeed again."""
        self._is_full = False

    def hang(self) -> None:
        """Let writes to files wait until `resume`."""
        self._responds.clear()

    def resume(self) -> None:
        """End all waits."""
        self._responds.set()

    def _write(self) -> None:
        self._responds.wait(HANG_S)
        if self._is_full:
            error = sqlite3.OperationalError('database or disk is full')
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error


def locked(path: Path) -> sqlite3.Connection:
    """Lock a database for writing, as another process would; ROLLBACK ends it."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    return other
