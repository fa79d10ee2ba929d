# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures of all tests: models, a full disk, and the plugins that organize a run."""

from __future__ import annotations

import sqlite3
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

# Nothing here may import torch: `workers` sets the number of threads before.
pytest_plugins = ['helpers.skip_policy', 'helpers.workers']

# The same examples in every run, so that failures can be reproduced.
hypothesis.settings.register_profile('steady', derandomize=True, deadline=None)
hypothesis.settings.load_profile('steady')


@pytest.fixture(scope='session')
def shipped() -> object:
    """Return the shipped model on the CPU."""
    from vljepa_ros.model import registry

    return registry.load('small', device='cpu')


@pytest.fixture(scope='session')
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small architecture and random weights."""
    from helpers import workers
    from helpers.tiny_streaming import save_tiny

    return workers.shared(tmp_path_factory, 'tiny', save_tiny)


@pytest.fixture(scope='session')
def tiny(tiny_folder: Path) -> object:
    """The tiny model, loaded."""
    from vljepa_ros.model import registry

    return registry.load(str(tiny_folder), device='cpu')


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all databases on disk fail to open; databases in RAM work."""
    from vljepa_ros.memory import sqlite_file as database

    connect = database._connect

    def refuse(path: Path | None, read_only: bool) -> Any:
        if path is None:
            return connect(path, read_only)
        raise sqlite3.OperationalError('database or disk is full')

    monkeypatch.setattr(database, '_connect', refuse)
    monkeypatch.setattr(database, 'ROOM', 1 << 60)  # more than any disk has


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk for all databases, which a test can fill and empty."""
    from vljepa_ros.memory import write_queue

    disk, execute = Disk(), write_queue._execute

    def write(base: sqlite3.Connection, batch: Any) -> None:
        disk.moves.wait(60.0)
        if disk.is_full:
            error = sqlite3.OperationalError('database or disk is full')
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        execute(base, batch)

    monkeypatch.setattr(write_queue, '_execute', write)
    return disk


@dataclass
class Disk:
    """Whether writes to the disk fail (`is_full`) or do not end (`hang`)."""

    is_full: bool = False
    moves: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.moves.set()

    def hang(self) -> None:
        """Let the next writes wait until `go_on`."""
        self.moves.clear()

    def go_on(self) -> None:
        """End all waits."""
        self.moves.set()
