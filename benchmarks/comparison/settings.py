# SPDX-License-Identifier: Apache-2.0
"""Settings of a run: `Plan` differs between runs, `Settings` are common to all runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import ROOT
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.train.config import TextTraining

ARMS = ('A', 'B', 'C')  # D is A with other texts
WORDINGS = ('one', 'all')
COUNTS = (
    2048,
    4096,
    8192,
    16384,
    32768,
    65536,
)  # numbers of examples after which a run is evaluated
# Candidate learning rates, and the number of examples of the runs that select one: until 16,384
# examples, B has the same output for every video.
RATES = (1e-4, 3e-4, 1e-3)
SEARCH = 32768
# Number of streams per split; of validation, the streams of one minute, first in its folder.
STREAMS = {'validation': 20}


@dataclass(frozen=True)
class Plan:
    """One run. `text`: A's head is trained 'first' or 'joint', or is absent ('plain')."""

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
        """Return the key of its result, built from all values."""
        values = dataclasses.asdict(self) | {'counts': '-'.join(map(str, self.counts))}
        return ' '.join(f'{key}={value}' for key, value in values.items())


def architecture() -> ModelConfig:
    """Return models/small with a smaller Predictor and Y-Decoder, to train 18 on two cores."""
    config = read_config(ROOT / 'models' / 'small')
    assert isinstance(config, ModelConfig)
    predictor = dataclasses.replace(config.predictor, width=192, layers=2)
    y_decoder = dataclasses.replace(config.y_decoder, width=192, layers=2)
    return dataclasses.replace(config, predictor=predictor, y_decoder=y_decoder)


@dataclass(frozen=True)
class Settings:
    """Common settings: a step has `windows` of `tubelets`, with a caption and `questions`."""

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
    captions: int = 400  # maximum number for evaluation
    acts: int = 4  # per task
    yes_no: int = 400

    @property
    def batch(self) -> int:
        """Return the number of examples per step."""
        return self.windows * (1 + self.questions)
