# SPDX-License-Identifier: Apache-2.0
"""What a training run is made of: `models/<name>/train.yaml`, parsed into `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vljepa_ros.errors import InputError, ModelError
from vljepa_ros.model.config import ModelConfig, parse


@dataclass(frozen=True)
class Clips:
    """What a step is made of. A clip is `tubelets` long, from a cold start.

    Each clip is asked one caption prompt at every tubelet, and `questions` at
    `question_tubelets` of them.
    """

    clips: int
    tubelets: int
    questions: int = 2
    question_tubelets: int = 4


@dataclass(frozen=True)
class EyesTraining:
    """Stage 1: eyes and Y-Encoder, together.

    Many clips of one tubelet first, as most of what is to be learned shows in one picture; then
    clips with movement, from the share `medium_from` of the steps on; then with transitions, from
    `long_from`.
    """

    steps: int = 2300
    short: Clips = field(default_factory=lambda: Clips(110, 1, 1, 1))
    medium: Clips = field(default_factory=lambda: Clips(15, 8, 1, 3))
    long: Clips = field(default_factory=lambda: Clips(6, 20, 2, 4))
    medium_from: float = 0.4
    long_from: float = 0.82
    negatives: int = 64
    learning_rate: float = 1.5e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    ema: float = 0.998
    gap_weight: float = 0.5
    text_weight: float = 0.3
    probe_weight: float = 0.5
    rest_weight: float = 0.4

    def clips_at(self, step: int) -> Clips:
        """What the step with this number is made of."""
        if step < self.medium_from * self.steps:
            return self.short
        return self.medium if step < self.long_from * self.steps else self.long


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
    """A whole run: where the data is, the model, the stages, the seed.

    `start`: a model folder whose eyes and Y-Encoder stage 1 goes on from.
    """

    data: str
    out: str
    model: ModelConfig
    seed: int = 0
    start: str = ''
    eyes: EyesTraining = field(default_factory=EyesTraining)
    decoder: DecoderTraining = field(default_factory=DecoderTraining)
    checkpoint_steps: int = 100


def read_config(path: Path) -> TrainConfig:
    """Read a train.yaml. Raises InputError with the file and the wrong key."""
    try:
        return parse(TrainConfig, yaml.safe_load(path.read_text()), path.name)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ModelError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error
