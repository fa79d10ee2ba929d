# SPDX-License-Identifier: Apache-2.0
"""The recipes in the folder of the shipped model give a model of the same shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.config_file import read_config as read_training

SMALL = Path(__file__).parents[2] / 'models' / 'small'


@pytest.mark.parametrize('name', ['train.yaml', 'train_gpu.yaml'])
def test_recipes_have_the_architecture_of_the_shipped_model(name: str) -> None:
    config, shipped = read_training(SMALL / name), read_config(SMALL)
    assert isinstance(config, TrainConfig) and isinstance(shipped, ModelConfig)
    trained = config.model
    for part in ('name', 'embedding_dim', 'time', 'x_encoder', 'predictor', 'y_encoder'):
        assert getattr(trained, part) == getattr(shipped, part), part
    assert trained.y_decoder.beams == shipped.y_decoder.beams


@pytest.mark.parametrize('name', ['train_wide.yaml', 'train_wide_gpu.yaml'])
def test_wide_recipes_read_all_views_and_crop_larger_frames(name: str) -> None:
    config, shipped = read_training(SMALL / name), read_config(SMALL)
    assert isinstance(config, TrainConfig) and isinstance(shipped, ModelConfig)
    assert {'train', 'train-wide', 'train-wide-cuts'} <= set(config.train)
    assert {'validation', 'validation-wide'} <= set(config.validation)
    assert config.model.image_size == 2 * shipped.x_encoder.image_size
    assert config.model.x_encoder == shipped.x_encoder
