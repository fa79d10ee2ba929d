# SPDX-License-Identifier: Apache-2.0
"""What a training run is made of: `models/<name>/train.yaml`, parsed into `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vljepa_ros.core.errors import InputError, ModelError
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
class TextTraining:
    """Stage 1: the Y-Encoder's head, text to text. A step takes two wordings of each meaning.

    `noise` on the tower's token states, in their standard deviations.
    """

    steps: int = 500
    meanings: int = 160
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    temperature: float = 0.1
    dropped_tokens: float = 0.1
    noise: float = 0.23


@dataclass(frozen=True)
class VisionTraining:
    """Stage 2: the eyes, towards the texts' embeddings of stage 1.

    Many clips of one tubelet first, as most of what is to be learned shows in one picture; then
    clips with movement, from the share `medium_from` of the steps on; then with transitions, from
    `long_from`. Until `questions_from` they only learn captions, then questions as well (the two
    stages of the paper, section 3.2). Numbers of clips are those of one process. The learning rate
    is constant until the share `decay_from` of the steps, then it decays. `dropped_tokens`
    and `prompt_noise` (in standard deviations) keep prompts from being learned by heart.
    """

    steps: int = 9000
    short: Clips = field(default_factory=lambda: Clips(64, 1, 2, 1))
    medium: Clips = field(default_factory=lambda: Clips(8, 8, 3, 2))
    long: Clips = field(default_factory=lambda: Clips(4, 20, 3, 4))
    questions_from: float = 0.1
    medium_from: float = 0.4
    long_from: float = 0.8
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_from: float = 0.0
    weight_decay: float = 0.05
    ema: float = 0.999
    gap_weight: float = 0.5
    probe_weight: float = 0.5
    rest_weight: float = 0.8
    dropped_tokens: float = 0.1
    prompt_noise: float = 0.0

    @property
    def longest_tubelets(self) -> int:
        """Of all clips."""
        return max(size.tubelets for size in (self.short, self.medium, self.long))

    def clips_at(self, step: int) -> Clips:
        """What the step with this number is made of."""
        if step < self.questions_from * self.steps:
            return replace(self.short, questions=0)
        if step < self.medium_from * self.steps:
            return self.short
        return self.medium if step < self.long_from * self.steps else self.long


@dataclass(frozen=True)
class DecoderTraining:
    """Stage 3: the Y-Decoder on text embeddings with noise and on predictions of the eyes."""

    steps: int = 3000
    batch: int = 128
    clips: int = 600
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    noise: float = 0.5


@dataclass(frozen=True)
class FamiliarityTraining:
    """Stage 5: the detectors of unfamiliar scenes and unreadable texts (`vljepa calibrate`).

    `unfamiliar`: kinds of scenes or recordings to fit on, beside the synthetic outliers; see
    `data.unfamiliar`. `enabled`: false leaves the detectors out.
    """

    enabled: bool = True
    unfamiliar: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """A whole run: where the data is, the model, the stages, the seed.

    `train`, `validation`: the folders of `data` whose streams each stage reads.
    `start`: a model folder whose Y-Encoder and eyes are trained further: stage 1 is left out.
    It may have fewer layers, and images of half the size (see `train.start`).
    `loaders`: processes that draw the eyes' clips ahead, for a GPU; 0 draws them in between.
    `device`: auto, cpu or cuda; `amp`: bfloat16 where it is safe and faster.
    """

    data: str
    out: str
    model: ModelConfig
    train: tuple[str, ...] = ('train',)
    validation: tuple[str, ...] = ('validation',)
    seed: int = 0
    start: str = ''
    loaders: int = 0
    device: str = 'auto'
    amp: bool = True
    text: TextTraining = field(default_factory=TextTraining)
    vision: VisionTraining = field(default_factory=VisionTraining)
    decoder: DecoderTraining = field(default_factory=DecoderTraining)
    familiarity: FamiliarityTraining = field(default_factory=FamiliarityTraining)
    checkpoint_steps: int = 200
    validation_steps: int = 1000


def read_values(path: Path) -> Any:
    """What a YAML file holds. Raises InputError with the file."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error


def parse_training(values: Any, path: Path) -> TrainConfig:
    """The configuration that a train.yaml holds. Raises InputError with the wrong key."""
    try:
        return parse(TrainConfig, values, path.name)
    except ModelError as error:
        raise InputError(f'{path}: {error}') from error
