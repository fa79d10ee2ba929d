# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a streaming model (kind `streaming` of `vljepa train`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vljepa_ros.model.config import ModelConfig


@dataclass(frozen=True)
class Clips:
    """Size of the batch of one step: `clips` clips of `tubelets` tubelets each.

    Each clip has a caption prompt at every tubelet and `questions` questions. Each question is
    asked at up to `question_tubelets` tubelets.
    """

    clips: int
    tubelets: int
    questions: int = 2
    question_tubelets: int = 4


@dataclass(frozen=True)
class TextTraining:
    """Stage 1: training of the Y-Encoder's head on pairs of paraphrases.

    A batch has two paraphrases of each of about `meanings` concepts. `temperature`: temperature of
    the contrastive loss. `dropped_tokens`: fraction of the tokens that are dropped at random.
    `noise`: standard deviation of the Gaussian noise on the text tower's token states, relative to
    the standard deviation of these states.
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
class RegionTraining:
    """Training of the region finder on single frames, for models with a region finder.

    `every`: every n-th frame with a visible scene is used. `ema`: decay rate of the moving average
    of the weights.
    """

    steps: int = 4000
    batch: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    weight_decay: float = 0.05
    ema: float = 0.99
    every: int = 8


@dataclass(frozen=True)
class VisionTraining:
    """Stage 2: training of the vision side to predict the text embeddings of stage 1.

    Training starts with many clips of one tubelet (`short`), because most concepts are visible in
    a single image. After the fraction `medium_from` of the steps, clips are long enough to show
    movement (`medium`), and after `long_from` to show transitions (`long`). Only captions are
    trained until `questions_from`, then captions and questions (the two stages of the paper,
    section 3.2). The number of clips is per process.

    The learning rate decays after the fraction `decay_from` of the steps. `ema`: decay rate of the
    moving average of the weights. `gap_weight` and `probe_weight`: weights of two terms of the
    loss, see `losses.joint_loss` and `VisionStage`. `rest_weight`: weight of captions of the
    concept `rest` (the robot is idle). `dropped_tokens` (fraction) and `prompt_noise` (in standard
    deviations of the token states) reduce overfitting to the training prompts.
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
        """Number of tubelets of the longest clips."""
        return max(size.tubelets for size in (self.short, self.medium, self.long))

    def clips_at(self, step: int) -> Clips:
        """Return the batch size of a step; the first step is 0."""
        if step < self.questions_from * self.steps:
            return replace(self.short, questions=0)
        if step < self.medium_from * self.steps:
            return self.short
        return self.medium if step < self.long_from * self.steps else self.long


@dataclass(frozen=True)
class DecoderTraining:
    """Stage 3: training of the Y-Decoder on text embeddings and predictions, both with noise.

    `clips`: number of clips whose predictions are used. `noise`: maximum norm of the noise.
    """

    steps: int = 3000
    batch: int = 128
    clips: int = 600
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    noise: float = 0.5


@dataclass(frozen=True)
class FamiliarityTraining:
    """Stage 5: fitting of the detectors of unfamiliar scenes and unreadable texts.

    `enabled`: whether to fit the detectors. `unfamiliar`: names of unfamiliar scenes, or paths of
    recordings, to fit on in addition to the synthetic outliers; see `data.unfamiliar`.
    """

    enabled: bool = True
    unfamiliar: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a complete training run: data, model and stages.

    `data`: folder with one subfolder per split. `train`, `validation`: names of the splits to use.
    `out`: folder of the resulting model.
    `start`: folder of a model to continue from ('': none). Its vision side is trained further, its
    Y-Encoder is used unchanged and stage 1 is skipped. It may have fewer layers than `model` (see
    `train.warm_start`).
    `loaders`: number of processes that prepare the clips of stage 2 in advance, useful with a GPU;
    0: the training process prepares them.
    `device`: auto, cpu or cuda. `amp`: use bfloat16 where it is safe and faster.
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
    regions: RegionTraining = field(default_factory=RegionTraining)
    vision: VisionTraining = field(default_factory=VisionTraining)
    decoder: DecoderTraining = field(default_factory=DecoderTraining)
    familiarity: FamiliarityTraining = field(default_factory=FamiliarityTraining)
    checkpoint_steps: int = 200
    validation_steps: int = 1000
