# SPDX-License-Identifier: Apache-2.0
"""Disk that is full for the SQLite databases of a test."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest


class Disk:
    """Records the databases that are opened, in order, and limits their size on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.databases: list[sqlite3.Connection] = []
        connect = sqlite3.connect

        def recorded(*args: Any, **options: Any) -> sqlite3.Connection:
            self.databases.append(connect(*args, **options))
            return self.databases[-1]

        monkeypatch.setattr(sqlite3, 'connect', recorded)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of an SQL query to the newest database."""
        return self.databases[-1].execute(statement).fetchall()

    def fill(self, spare_pages: int = 0) -> None:
        """Leave space for this number of pages in the newest database."""
        [(pages,)] = self.query('PRAGMA page_count')
        self.query(f'PRAGMA max_page_count = {pages + spare_pages}')

    def clear(self) -> None:
        """Remove the limit."""
        self.query('PRAGMA max_page_count = 1000000')
