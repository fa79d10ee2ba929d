# SPDX-License-Identifier: Apache-2.0
"""What a training run is made of: `models/<name>/train.yaml`, parsed into `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vljepa_ros.errors import InputError, ModelError
from vljepa_ros.model.config import ModelConfig, parse


@dataclass(frozen=True)
class EyesTraining:
    """Stage 1: eyes and Y-Encoder, together. A clip is `tubelets` long from a cold start."""

    steps: int = 2000
    clips: int = 8
    tubelets: int = 16
    long_from: float = 0.85  # from this share of the steps on, clips are `long_tubelets` long
    long_tubelets: int = 32
    questions: int = 2
    question_tubelets: int = 5
    negatives: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    ema: float = 0.998
    gap_weight: float = 0.5
    text_weight: float = 0.3
    rest_weight: float = 0.4


@dataclass(frozen=True)
class DecoderTraining:
    """Stage 2: the Y-Decoder on text embeddings with noise and on predictions of the eyes."""

    steps: int = 3000
    batch: int = 128
    clips: int = 600
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    noise: float = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: where the data is, the model, the stages, the seed."""

    data: str
    out: str
    model: ModelConfig
    seed: int = 0
    eyes: EyesTraining = field(default_factory=EyesTraining)
    decoder: DecoderTraining = field(default_factory=DecoderTraining)
    checkpoint_steps: int = 100


def read_config(path: Path) -> TrainConfig:
    """Read a train.yaml. Raises InputError with the file and the wrong key."""
    try:
        return parse(TrainConfig, yaml.safe_load(path.read_text()), path.name)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ModelError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error
