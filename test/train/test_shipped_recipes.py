# SPDX-License-Identifier: Apache-2.0
"""The recipes beside the shipped model make a model of its shape."""

from __future__ import annotations

from pathlib import Path

import pytest

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.train.config import parse_training, read_values

SMALL = Path(__file__).parents[2] / 'models' / 'small'


@pytest.mark.parametrize('name', ['train.yaml', 'train_gpu.yaml'])
def test_a_recipe_makes_what_is_shipped(name: str) -> None:
    path = SMALL / name
    made, shipped = parse_training(read_values(path), path).model, read_config(SMALL)
    assert isinstance(shipped, ModelConfig)
    for part in ('name', 'embedding_dim', 'time', 'x_encoder', 'predictor', 'y_encoder'):
        assert getattr(made, part) == getattr(shipped, part), part
    assert made.y_decoder.beams == shipped.y_decoder.beams
