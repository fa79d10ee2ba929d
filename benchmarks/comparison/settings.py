# SPDX-License-Identifier: Apache-2.0
"""What a run of the comparison is made of: `Plan`, what differs; `Settings`, what does not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.train.config import TextTraining

ARMS = ('A', 'B', 'C')  # D is A, put into words otherwise
WORDINGS = ('one', 'all')
COUNTS = (2048, 4096, 8192, 16384, 32768, 65536)  # examples after which a run is judged
# Learning rates, and the examples of the runs that choose: B says the same of every video until it
# has seen more than 16,384.
RATES = (1e-4, 3e-4, 1e-3)
SEARCH = 32768
# How many streams of a split are read: of validation those of a minute, first in its folder.
STREAMS = {'validation': 20}


@dataclass(frozen=True)
class Plan:
    """One run. `text`, of A: the head is trained `first`, or `joint`ly, or is none (`plain`)."""

    arm: str
    wordings: str = 'all'
    seed: int = 0
    learning_rate: float = 1e-3
    counts: tuple[int, ...] = COUNTS
    split: str = 'validation'
    text: str = 'first'
    causal: bool = True
    window: int = 8
    gap_weight: float = 0.5

    @property
    def name(self) -> str:
        """All of its values: what a result is found by."""
        values = dataclasses.asdict(self) | {'counts': '-'.join(map(str, self.counts))}
        return ' '.join(f'{key}={value}' for key, value in values.items())


def architecture() -> ModelConfig:
    """That of models/small, with a smaller Predictor and Y-Decoder: two cores train 18 of them."""
    config = read_config(ROOT / 'models' / 'small')
    assert isinstance(config, ModelConfig)
    predictor = dataclasses.replace(config.predictor, width=192, layers=2)
    y_decoder = dataclasses.replace(config.y_decoder, width=192, layers=2)
    return dataclasses.replace(config, predictor=predictor, y_decoder=y_decoder)


@dataclass(frozen=True)
class Settings:
    """A step shows `windows`, of `tubelets` each, with a caption and `questions` prompts."""

    model: ModelConfig = field(default_factory=architecture)
    data: Path = Path('data/mwstream')
    out: Path = Path('data/comparison')
    windows: int = 16
    tubelets: int = 8
    questions: int = 7
    warmup_steps: int = 40
    weight_decay: float = 0.05
    average: float = 0.99
    noise: float = 0.5
    text: TextTraining = field(
        default_factory=lambda: TextTraining(steps=150, meanings=128, warmup_steps=20)
    )
    captions: int = 400  # how many are judged, at most
    acts: int = 4  # of each task
    yes_no: int = 400

    @property
    def batch(self) -> int:
        """Examples a step."""
        return self.windows * (1 + self.questions)
