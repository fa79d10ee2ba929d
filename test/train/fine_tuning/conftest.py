# SPDX-License-Identifier: Apache-2.0
"""A small model to start from, and bags of colours to tune it on."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import workers
from helpers.annotated_bags import film, save_start

from vljepa_ros.train.fine_tuning.config import Recording


@pytest.fixture(scope='session')
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, stored in float16 as models are, that says other words."""
    return workers.shared(tmp_path_factory, 'start', save_start)


@pytest.fixture(scope='session')
def shown(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What is trained on."""
    colours = ['red', 'blue', 'green', 'blue', 'red', 'green']
    return film(tmp_path_factory.mktemp('shown'), colours, 'shown')


@pytest.fixture(scope='session')
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The same things in another order."""
    return film(tmp_path_factory.mktemp('held'), ['green', 'red', 'blue', 'green'], 'held_out')
