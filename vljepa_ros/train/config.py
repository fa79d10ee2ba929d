# SPDX-License-Identifier: Apache-2.0
"""Configuration of a training run: `models/<name>/train.yaml`, parsed into `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vljepa_ros.model.config import ModelConfig


@dataclass(frozen=True)
class Clips:
    """Batch of one step: `clips` clips of `tubelets` tubelets each, without earlier context.

    Each clip has one caption prompt at every tubelet, and `questions` questions at
    `question_tubelets` tubelets each.
    """

    clips: int
    tubelets: int
    questions: int = 2
    question_tubelets: int = 4


@dataclass(frozen=True)
class TextTraining:
    """Stage 1: the head of the Y-Encoder, trained on pairs of paraphrases.

    A step uses two paraphrases of each of `meanings` concepts. `noise` is added to the token
    states of the tower, in units of their standard deviation.
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
    """Stage 2: the vision side, trained to predict the text embeddings of stage 1.

    Training starts with many clips of one tubelet (`short`), because most concepts are visible in
    one image. From the fraction `medium_from` of the steps on, clips show movement (`medium`), and
    from `long_from` on transitions (`long`). Before `questions_from` only captions are trained,
    then questions as well (the two stages of the paper, section 3.2). Numbers of clips are per
    process. The learning rate is constant until the fraction `decay_from` of the steps, then it
    decays. `dropped_tokens` and `prompt_noise` (in standard deviations) prevent overfitting to the
    training prompts.
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
        """Largest number of tubelets of any clip."""
        return max(size.tubelets for size in (self.short, self.medium, self.long))

    def clips_at(self, step: int) -> Clips:
        """Return the batch configuration of a step."""
        if step < self.questions_from * self.steps:
            return replace(self.short, questions=0)
        if step < self.medium_from * self.steps:
            return self.short
        return self.medium if step < self.long_from * self.steps else self.long


@dataclass(frozen=True)
class DecoderTraining:
    """Stage 3: the Y-Decoder, trained on noisy text embeddings and on predicted embeddings."""

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

    `unfamiliar`: kinds of scenes or recordings to fit on, in addition to the synthetic outliers;
    see `data.unfamiliar`. `enabled`: whether to fit the detectors.
    """

    enabled: bool = True
    unfamiliar: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a whole run: data, model, stages, seed.

    `train`, `validation`: subfolders of `data` with the streams of each split.
    `start`: model folder whose Y-Encoder and vision side are trained further; stage 1 is skipped.
    It may have fewer layers, and images of half the size (see `train.warm_start`).
    `loaders`: processes that prepare clips of stage 2 in advance, for a GPU; 0: the training
    process prepares them.
    `device`: auto, cpu or cuda; `amp`: use bfloat16 where it is safe and faster.
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
