# SPDX-License-Identifier: Apache-2.0
"""Configuration of fine-tuning (kind `fine_tuning` of `vljepa train`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.train.adapters import ALL, HEADS, LORA, Lora, check_tune
from vljepa_ros.train.config import Clips

RATES = {HEADS: 1e-3, LORA: 1e-3, ALL: 2e-4}  # default learning rates of the vision side


@dataclass(frozen=True)
class Recording:
    """A recording with its annotation file.

    `source`: path of a bag, a video or a folder of images. `annotations`: path of the annotation
    file ('': the file beside the recording, see docs/reference/data_formats.md). `topics`: image
    topics to read from a bag, as [NAME=]TOPIC. `fps`: frame rate of a folder of images.
    """

    source: str
    annotations: str = ''
    topics: tuple[str, ...] = ()
    fps: float = 0.0


@dataclass(frozen=True)
class FineTuningConfig:
    """Configuration of one fine-tuning run.

    `out`: folder of the resulting model. `name`: its name ('': the name of the folder). `start`:
    name or folder of the model to fine-tune. `recordings`: training recordings. `validation`:
    recordings to calibrate and evaluate the result with.

    `tune`: trainable parameters of the vision side: `heads` (the last layers of the Predictor),
    `lora` (heads, and LoRA adapters in all attention and MLP layers) or `all`. The text side is
    always trained. `steps`, `text_steps`, `decoder_steps`: optimizer steps of the vision side, the
    Y-Encoder and the Y-Decoder. `learning_rate`: peak learning rate of the vision side; 0: the
    default for `tune`. `keep`: weight of rehearsal, which preserves the starting model's answers
    where there are no annotations.

    Raises:
        InputError: A value is invalid.
    """

    out: str
    recordings: tuple[Recording, ...]
    validation: tuple[Recording, ...] = ()
    start: str = 'small'
    name: str = ''
    tune: str = HEADS
    lora: Lora = field(default_factory=Lora)
    steps: int = 200
    text_steps: int = 60
    decoder_steps: int = 200
    learning_rate: float = 0.0
    keep: float = 1.0
    clips: Clips = field(default_factory=lambda: Clips(4, 10, 2, 2))
    seed: int = 0
    device: str = 'auto'
    amp: bool = True

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid; the model and the recordings are not read."""
        if not self.recordings:
            raise InputError('recordings is empty: add at least one recording')
        check_tune(self.tune)
        for key in ('steps', 'text_steps', 'decoder_steps'):
            if getattr(self, key) < 1:
                raise InputError(f'{key} ({getattr(self, key)}) is not positive')
        if not 0 <= self.learning_rate <= 1:
            raise InputError(f'learning_rate ({self.learning_rate:g}) is not in 0..1')
        if not 0 <= self.keep <= 1e3:
            raise InputError(f'keep ({self.keep:g}) is not in 0..1000')
        if min(self.clips.clips, self.clips.tubelets, self.clips.question_tubelets) < 1:
            raise InputError(
                f'clips: clips ({self.clips.clips}), tubelets ({self.clips.tubelets}) and '
                f'question_tubelets ({self.clips.question_tubelets}) must be positive'
            )

    @property
    def peak_rate(self) -> float:
        """Peak learning rate of the vision side."""
        return self.learning_rate or RATES[self.tune]

    @property
    def title(self) -> str:
        """Name of the resulting model."""
        return self.name or Path(self.out).resolve().name
