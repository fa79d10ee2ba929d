# SPDX-License-Identifier: Apache-2.0
"""A small start model, and bags of colors for fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import workers
from helpers.annotated_bags import film, save_start

from vljepa_ros.train.fine_tuning.config import Recording


@pytest.fixture(scope='session')
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model with random weights in float16, with another vocabulary."""
    return workers.shared(tmp_path_factory, 'start', save_start)


@pytest.fixture(scope='session')
def training_recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return the training recording."""
    colors = ['red', 'blue', 'green', 'blue', 'red', 'green']
    return film(tmp_path_factory.mktemp('training'), colors, 'training')


@pytest.fixture(scope='session')
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Return a recording with the same scenes in another order."""
    return film(tmp_path_factory.mktemp('held'), ['green', 'red', 'blue', 'green'], 'held_out')
