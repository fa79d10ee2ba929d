# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a bidirectional model in stages (kind `bidirectional`).

An example is `models/vljepa_paper/train.yaml`. It follows arXiv 2512.10942, section 3.2: captions
of images with an empty prompt, then captions of clips, then captions and questions. The X-Encoder
is frozen. The learning rate of the Y-Encoder is a fraction of the Predictor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.config import check
from vljepa_ros.train.adapters import ALL, Lora, check_tune

SCHEDULES = ('constant', 'cosine')


@dataclass(frozen=True)
class StageConfig:
    """Configuration of one training stage of a bidirectional model.

    `frames`: frames per clip (1: images). `batch`: number of clip-text pairs per step, which are
    negatives of each other. `questions`: fraction of the pairs that are questions with answers;
    the others are captions. `schedule`: learning-rate schedule after the warm-up: 'constant' or
    'cosine'.
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
        """Raise ModelError if the value of a field is invalid."""
        where = f'stages {self.name}: '
        check(where, self, steps=(1, 1e9), batch=(2, 1 << 20), frames=(1, 256))
        check(where, self, questions=(0, 1), learning_rate=(0, 1), warmup_steps=(0, 1e9))
        if not self.name.isidentifier():
            raise ModelError(
                f"stages: name '{self.name:.40}' is invalid: use letters, digits and _, not "
                'starting with a digit'
            )
        if self.schedule not in SCHEDULES:
            raise ModelError(
                f"{where}unknown schedule '{self.schedule}' (known: {', '.join(SCHEDULES)})"
            )


@dataclass(frozen=True)
class RecipeConfig:
    """Configuration of the training of a bidirectional model in several stages.

    `model`: name or folder of the model that provides the architecture and the initial weights.
    `data`: folder with the split `train`. `out`: folder of the resulting model. `tune`: trainable
    parameters: `all` (of Predictor and Y-Encoder), `heads` (their last layers), or `lora` (heads,
    and LoRA adapters in the Predictor's layers). `prompt`: prompt for captions. `y_encoder_rate`:
    learning rate of the Y-Encoder as a fraction of the Predictor's. `temperature`: temperature of
    the contrastive loss.
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
        """Raise ModelError or InputError if the value of a field is invalid."""
        check('', self, y_encoder_rate=(0, 1), temperature=(1e-3, 10), weight_decay=(0, 10))
        check_tune(self.tune)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ModelError(
                f'stages: there must be at least one stage, and names must be unique: {names}'
            )
