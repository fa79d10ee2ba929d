# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the fakes are importable, and torch keeps to one thread pool's worth."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from vljepa_ros.model import registry

# The same examples every time: a test that fails, fails for everybody.
hypothesis.settings.register_profile('steady', derandomize=True, deadline=None)
hypothesis.settings.load_profile('steady')


@pytest.fixture(scope='session')
def shipped() -> object:
    """The model that this package ships, on the CPU."""
    return registry.load('small', device='cpu')


@pytest.fixture(scope='session')
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small architecture and random weights."""
    from tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp('models') / 'tiny')


@pytest.fixture(scope='session')
def tiny(tiny_folder: Path) -> object:
    """The tiny model, loaded."""
    return registry.load(str(tiny_folder), device='cpu')
