# SPDX-License-Identifier: Apache-2.0
"""A recipe for a bidirectional model, stage by stage: `models/vljepa_paper/train.yaml`.

As in arXiv 2512.10942, section 3.2: captions without a question, first of pictures, then of clips;
then questions as well. The X-Encoder is frozen, the Y-Encoder learns at a share of the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.model.config import check, parse
from vljepa_ros.train.adapters import ALL, Lora, check_tune

SCHEDULES = ('constant', 'cosine')


@dataclass(frozen=True)
class StageConfig:
    """`frames` a clip (1: pictures); `batch` pairs a step, which are each other's negatives.

    `questions`: the share of the pairs that are questions with their answers; the others are
    captions, asked for by an empty prompt. `schedule`: of the rate after its warm-up.
    """

    name: str
    steps: int
    batch: int
    frames: int
    questions: float = 0.0
    learning_rate: float = 5e-5
    warmup_steps: int = 2000
    schedule: str = 'constant'

    def __post_init__(self) -> None:
        """Check every value."""
        where = f'stages {self.name}: '
        check(where, self, steps=(1, 1e9), batch=(2, 1 << 20), frames=(1, 256))
        check(where, self, questions=(0, 1), learning_rate=(0, 1), warmup_steps=(0, 1e9))
        if not self.name.isidentifier():
            raise ModelError(f"stages: '{self.name:.40}' is no name of letters, digits and _")
        if self.schedule not in SCHEDULES:
            raise ModelError(f"{where}schedule '{self.schedule}' (known: {', '.join(SCHEDULES)})")


@dataclass(frozen=True)
class RecipeConfig:
    """A whole run. `model`: a folder with model.yaml and the weights to begin with.

    `tune`: what is trained: `all` of Predictor and Y-Encoder; their last layers (`heads`); these
    and adapters in the Predictor's layers (`lora`). `prompt`: what captions are an answer to.
    """

    model: str
    data: str
    out: str
    stages: tuple[StageConfig, ...]
    tune: str = ALL
    lora: Lora = field(default_factory=Lora)
    prompt: str = ''
    seed: int = 0
    device: str = 'auto'
    amp: bool = True
    y_encoder_rate: float = 0.05
    temperature: float = 0.07
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Check every value."""
        check('', self, y_encoder_rate=(0, 1), temperature=(1e-3, 10), weight_decay=(0, 10))
        check_tune(self.tune)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ModelError('stages: at least one, and every name once')


def is_recipe(values: Any) -> bool:
    """Whether a configuration is a recipe: it has stages."""
    return isinstance(values, Mapping) and 'stages' in values


def read_recipe(path: Path) -> RecipeConfig:
    """Read a recipe. Raises InputError with the file and the wrong key."""
    try:
        return parse(RecipeConfig, yaml.safe_load(path.read_text()), path.name)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ModelError, InputError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error
