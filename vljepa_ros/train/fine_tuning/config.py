# SPDX-License-Identifier: Apache-2.0
"""What fine-tuning is told: recordings, the model to start from, and what of it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.model.config import parse
from vljepa_ros.train.adapters import ALL, HEADS, LORA, Lora, check_tune
from vljepa_ros.train.config import Clips

RATES = {HEADS: 1e-3, LORA: 1e-3, ALL: 2e-4}  # learning rates of the eyes


@dataclass(frozen=True)
class Recording:
    """A bag, a video or a folder of pictures, and the file that says what it shows.

    `annotations`: by default beside it (docs/reference/data_formats.md). `topics` ([NAME=]TOPIC)
    choose among a bag's; `fps` is that of a folder of pictures.
    """

    source: str
    annotations: str = ''
    topics: tuple[str, ...] = ()
    fps: float = 0.0


@dataclass(frozen=True)
class TuneConfig:
    """One fine-tuning.

    `start`: name or folder of the model. `tune`: what of its eyes is trained: the Predictor's
    `heads`, with adapters in all attention and MLP layers (`lora`), or `all`; its language always
    is. `validation`: recordings to fit confidences on, and to report. `steps` of the eyes,
    `text_steps` of the Y-Encoder, `decoder_steps`. `learning_rate` of the eyes; 0: as is usual
    for `tune`. `keep`: what it weighs that the model goes on answering as it did where nobody
    says otherwise. `name` of the result; that of `out` by default.

    Raises:
        InputError: a value is none that can be used.
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
        """Check what can be checked without the model and the recordings."""
        if not self.recordings:
            raise InputError('recordings is empty')
        check_tune(self.tune)
        for key in ('steps', 'text_steps', 'decoder_steps'):
            if getattr(self, key) < 1:
                raise InputError(f'{key} ({getattr(self, key)}) is not positive')
        if not 0 <= self.learning_rate <= 1:
            raise InputError(f'learning_rate ({self.learning_rate:g}) is not in 0..1')
        if not 0 <= self.keep <= 1e3:
            raise InputError(f'keep ({self.keep:g}) is not in 0..1000')
        if min(self.clips.clips, self.clips.tubelets, self.clips.question_tubelets) < 1:
            raise InputError('clips: clips, tubelets and question_tubelets must be positive')

    @property
    def peak_rate(self) -> float:
        """The greatest learning rate of the eyes."""
        return self.learning_rate or RATES[self.tune]

    @property
    def title(self) -> str:
        """What the result is called."""
        return self.name or Path(self.out).resolve().name


def is_tuning(values: Any) -> bool:
    """Whether a configuration is of fine-tuning: it names recordings, or what is to be tuned."""
    return isinstance(values, Mapping) and bool({'recordings', 'tune'} & values.keys())


def parse_tuning(values: Any, path: Path) -> TuneConfig:
    """The configuration that a file holds. Raises InputError with the file and the wrong key."""
    try:
        return parse(TuneConfig, values, path.name)
    except (InputError, ModelError) as error:
        raise InputError(f'{path}: {error}') from error
