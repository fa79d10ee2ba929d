# SPDX-License-Identifier: Apache-2.0
"""A model folder with a small architecture and random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_tiny(folder: Path) -> Path:
    """Save the folder, with the same weights every time."""
    import torch

    from vljepa_ros.model import registry
    from vljepa_ros.model.config import (
        ModelConfig,
        PredictorConfig,
        TimeConfig,
        XEncoderConfig,
        YDecoderConfig,
    )
    from vljepa_ros.model.streaming.network import VLJEPA

    torch.manual_seed(0)
    config = ModelConfig(
        name='tiny',
        embedding_dim=32,
        time=TimeConfig(rate_hz=10.0, tubelet_frames=2, window_tubelets=4),
        x_encoder=XEncoderConfig(image_size=32, stem=(8, 16), width=32, layers=2, heads=2),
        predictor=PredictorConfig(width=32, layers=2, heads=2, answer_tokens=2),
        y_decoder=YDecoderConfig(width=32, layers=1, heads=2, max_tokens=6, vocabulary=50),
    )
    net = VLJEPA(config)
    net.y_decoder.token_ids.copy_(torch.arange(2000, 2050))
    registry.save(net, folder, torch.float32)
    return folder


def network(part: Any) -> Any:
    """Return the torch module of a side of a streaming model."""
    return part._net


def tower(part: Any) -> Any:
    """Return the frozen text tower of a side of a streaming model."""
    return part._tower


def fresh_language(model: Any) -> Any:
    """Return a model's text side with an empty cache."""
    from vljepa_ros.model.streaming.text import TextLanguage

    return TextLanguage(network(model.language), tower(model.language), model.facts)
