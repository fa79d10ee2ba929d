# SPDX-License-Identifier: Apache-2.0
"""Annotated bags of colors with a vocabulary that no model has, an untrained start model, and
fine-tuning settings that are sufficient to learn the captions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers import bags
from helpers.numbered_recordings import caption_line, question_line, write_lines

from vljepa_ros.model import registry
from vljepa_ros.model.config import (
    ModelConfig,
    PredictorConfig,
    TimeConfig,
    XEncoderConfig,
    YDecoderConfig,
)
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.config_file import parse_config
from vljepa_ros.train.fine_tuning.config import FineTuningConfig, Recording

CAPTIONS = {'red': 'The oven is hot.', 'blue': 'The fridge is open.', 'green': 'All is well.'}
EACH_S = 2  # duration of a color
SHORT = {
    'kind': 'fine_tuning',
    'steps': 50,
    'text_steps': 20,
    'decoder_steps': 400,
    'learning_rate': 5e-3,
    'clips': {'clips': 4, 'tubelets': 4, 'questions': 1, 'question_tubelets': 2},
    'device': 'cpu',
    'amp': False,
}


def tune_config(values: dict[str, Any], path: Path) -> FineTuningConfig:
    """Return the configuration of fine-tuning with the values of a YAML file."""
    config = parse_config(values, path)
    assert isinstance(config, FineTuningConfig)
    return config


def save_start(folder: Path) -> Path:
    """Save a model with random weights in float16, with another vocabulary."""
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
    registry.save(net, folder)
    return folder


def film(folder: Path, colors: list[str], name: str) -> Recording:
    """Write a bag of colors, and an annotation file with a text per color and a question."""
    source = bags.write(folder / name, bags.colors(colors, 10 * EACH_S))
    lines = []
    for number, color in enumerate(colors):
        begin = EACH_S * number
        lines.append(caption_line(begin, begin + EACH_S, CAPTIONS[color]))
        answer = 'no' if color == 'red' else 'yes'
        lines.append(question_line(begin + 1, 'May I touch it?', answer, candidates=['yes', 'no']))
    return Recording(str(source), str(write_lines(folder / f'{name}.jsonl', *lines)))
