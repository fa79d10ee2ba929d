# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the fakes are importable, and torch keeps to one thread pool's worth."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from vljepa_ros.model import registry  # noqa: E402


@pytest.fixture(scope='session')
def shipped() -> object:
    """The model that this package ships, on the CPU."""
    return registry.load('small', device='cpu')


@pytest.fixture(scope='session')
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small architecture and random weights."""
    import torch

    from vljepa_ros.model.config import (
        ModelConfig,
        PredictorConfig,
        TimeConfig,
        XEncoderConfig,
        YDecoderConfig,
    )
    from vljepa_ros.model.vljepa import VLJEPA

    torch.manual_seed(0)
    config = ModelConfig(
        name='tiny', embedding_dim=32,
        time=TimeConfig(rate_hz=10.0, tubelet_frames=2, window_tubelets=4),
        x_encoder=XEncoderConfig(image_size=32, stem=(8, 16), width=32, layers=2, heads=2),
        predictor=PredictorConfig(width=32, layers=2, heads=2, answer_tokens=2),
        y_decoder=YDecoderConfig(width=32, layers=1, heads=2, max_tokens=6, vocabulary=50),
    )
    net = VLJEPA(config)
    net.y_decoder.token_ids.copy_(torch.arange(2000, 2050))
    folder = tmp_path_factory.mktemp('models') / 'tiny'
    registry.save(net, folder, torch.float32)
    return folder


@pytest.fixture(scope='session')
def tiny(tiny_folder: Path) -> object:
    """The tiny model, loaded."""
    return registry.load(str(tiny_folder), device='cpu')
