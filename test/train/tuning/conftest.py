# SPDX-License-Identifier: Apache-2.0
"""A small model to start from, and bags of colours to tune it on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from described import film

from vljepa_ros.model import registry
from vljepa_ros.model.config import (
    ModelConfig,
    PredictorConfig,
    TimeConfig,
    XEncoderConfig,
    YDecoderConfig,
)
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.train.tuning.config import Recording


@pytest.fixture(scope='session')
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, stored in float16 as models are, that says other words."""
    torch.manual_seed(0)
    net = VLJEPA(
        ModelConfig(
            name='start',
            embedding_dim=64,
            time=TimeConfig(window_tubelets=4),
            x_encoder=XEncoderConfig(image_size=32, stem=(8, 16), width=32, layers=2, heads=2),
            predictor=PredictorConfig(width=32, layers=2, heads=2, answer_tokens=2),
            y_decoder=YDecoderConfig(width=32, layers=1, heads=2, max_tokens=12, vocabulary=50),
        )
    )
    net.y_decoder.token_ids.copy_(torch.tensor([0, *range(2001, 2050)]))
    folder = tmp_path_factory.mktemp('start') / 'start'
    registry.save(net, folder)
    return folder


@pytest.fixture(scope='session')
def shown(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What is trained on."""
    colours = ['red', 'blue', 'green', 'blue', 'red', 'green']
    return film(tmp_path_factory.mktemp('shown'), colours, 'shown')


@pytest.fixture(scope='session')
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The same things in another order."""
    return film(tmp_path_factory.mktemp('held'), ['green', 'red', 'blue', 'green'], 'held_out')
