# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures of all tests: models, a full disk, and the plugins that organize a run."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

# Nothing here may import torch: `workers` sets the number of threads before.
pytest_plugins = ['helpers.skip_policy', 'helpers.workers', 'pytester']

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
def disk(monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a disk for the databases that the test opens; it can be full or hang."""
    from helpers.full_disk import Disk

    return Disk(monkeypatch)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all databases on disk fail to open; databases in RAM work."""
    from vljepa_ros.memory import sqlite_file

    connect = sqlite3.connect

    def refuse(database: str, **options: Any) -> sqlite3.Connection:
        if database == ':memory:':
            return connect(database, **options)
        raise sqlite3.OperationalError('database or disk is full')

    monkeypatch.setattr(sqlite3, 'connect', refuse)
    monkeypatch.setattr(sqlite_file, 'ROOM', 1 << 60)  # more than any disk has
