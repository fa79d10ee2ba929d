# SPDX-License-Identifier: Apache-2.0
"""Configuration of fine-tuning: recordings, start model, trainable parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vljepa_ros.core.errors import InputError
from vljepa_ros.train.adapters import ALL, HEADS, LORA, Lora, check_tune
from vljepa_ros.train.config import Clips

RATES = {HEADS: 1e-3, LORA: 1e-3, ALL: 2e-4}  # default learning rates of the vision side


@dataclass(frozen=True)
class Recording:
    """A bag, a video or a folder of images, with its annotation file.

    `annotations`: path of the annotation file; by default it lies beside the recording
    (docs/reference/data_formats.md). `topics` ([NAME=]TOPIC): topics to read from a bag. `fps`:
    frame rate of a folder of images.
    """

    source: str
    annotations: str = ''
    topics: tuple[str, ...] = ()
    fps: float = 0.0


@dataclass(frozen=True)
class FineTuningConfig:
    """Configuration of one fine-tuning run.

    `start`: name or folder of the model. `tune`: trainable parameters of the vision side: `heads`
    of the Predictor, `lora` (heads, and adapters in all attention and MLP layers) or `all`. The
    text side is always trained. `validation`: recordings to fit confidences on and to report.
    `steps`: steps of the vision side; `text_steps`: of the Y-Encoder; `decoder_steps`: of the
    Y-Decoder. `learning_rate`: of the vision side; 0: default for `tune`. `keep`: weight of
    rehearsal, which keeps the model's answers where there are no annotations. `name`: name of the
    result; by default the name of the folder `out`.

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
        """Validate all fields, as far as possible without the model and the recordings."""
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
