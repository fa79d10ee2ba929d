# SPDX-License-Identifier: Apache-2.0
"""Stage 2: trains X-Encoder and Predictor to predict the text embeddings of stage 1.

The target of a caption prompt at a tubelet is the label of that tubelet. Questions are trained at
a few of the tubelets for which their answers are true.

Shapes: B clips, T tubelets, P prompts, M predictions, N texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.data.format import Annotation
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.network import VISION, VLJEPA
from vljepa_ros.train.clips import STATE, Batch, Labels
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.losses import IGNORE_INDEX, joint_loss
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import OptimizerStep, WeightAverage, cosine_schedule
from vljepa_ros.train.parallel import Workers
from vljepa_ros.train.text_bank import ConceptTexts, TextBank, noisy_token_states, restore_order

QUESTION_WEIGHT = 0.7  # weight of a question in the loss; captions have weight 1


@dataclass
class ClipPredictions:
    """Predictions (M, D) with their concepts and weights (M,).

    `visual`: tokens of the X-Encoder (B, T, N, Dx). `shown`: annotations of all B*T tubelets.
    `state`: their states (B*T, 4). `prefix`: keys and values of the Predictor, for more questions.
    """

    vectors: Tensor
    concepts: list[str]
    weight: Tensor
    visual: Tensor
    shown: list[Annotation]
    state: Tensor
    prefix: list[KeyValue]


@dataclass(frozen=True)
class TrainingPrompt:
    """A prompt at one tubelet of one clip, with the concept of its answer."""

    clip: int
    tubelet: int
    prompt: str
    concept: str
    weight: float


class VisionRunner:
    """Runs the vision side on clips and their prompts."""

    def __init__(
        self,
        net: VLJEPA,
        bank: TextBank,
        rng: np.random.Generator,
        rest_weight: float,
        dropped_tokens: float = 0.0,
        prompt_noise: float = 0.0,
    ) -> None:
        """Create the runner.

        Args:
            net: The model.
            bank: Token states of the texts.
            rng: Random generator.
            rest_weight: Weight of captions of the concept `rest` in the loss.
            dropped_tokens: Fraction of the prompt tokens that are masked.
            prompt_noise: Noise on the other token states, in their standard deviations.
        """
        self.net, self.bank, self.rng, self.rest_weight = net, bank, rng, rest_weight
        self.dropped_tokens, self.prompt_noise = dropped_tokens, prompt_noise

    def predict(self, batch: Batch, question_tubelets: int) -> ClipPredictions:
        """Predict captions at every tubelet, and each question at `question_tubelets` of them."""
        device, clips = self.bank.device, batch.labels
        visual = self.net.x_encoder(batch.frames.to(device))
        prefix = self.net.predictor.prefix(visual)
        shown = [item for clip in clips for item in clip.shown]
        prompts = self._captions(clips) + self._questions(clips, question_tubelets)
        vectors = self._predict(prefix, prompts)
        weight = torch.tensor([item.weight for item in prompts], device=device)
        state = torch.from_numpy(np.concatenate([clip.state for clip in clips])).to(device)
        concepts = [item.concept for item in prompts]
        return ClipPredictions(vectors, concepts, weight, visual, shown, state, prefix)

    def _captions(self, clips: list[Labels]) -> list[TrainingPrompt]:
        rest = self.rest_weight
        return [
            TrainingPrompt(
                row, t, clip.prompt, item.meaning, rest if item.meaning == 'rest' else 1.0
            )
            for row, clip in enumerate(clips)
            for t, item in enumerate(clip.shown)
            if item.meaning and not item.hidden
        ]

    def _questions(self, clips: list[Labels], count: int) -> list[TrainingPrompt]:
        """Return each question at `count` of the tubelets for which its answer is true."""
        return [
            TrainingPrompt(row, int(t), question.prompt, question.meaning, QUESTION_WEIGHT)
            for row, clip in enumerate(clips)
            for question, holds in clip.asked
            if question.meaning  # empty if there is no annotation
            for t in self.rng.permutation(holds)[:count]
        ]

    def _predict(self, prefix: list[KeyValue], prompts: list[TrainingPrompt]) -> Tensor:
        """Predict the answers (M, D)."""
        parts, groups = [], self.bank.group_by_length([item.prompt for item in prompts])
        for rows in groups:
            some = [prompts[row] for row in rows]
            states, mask = self.bank.states([item.prompt for item in some])
            clip, at = (
                torch.tensor(index, device=states.device)
                for index in ([item.clip for item in some], [item.tubelet for item in some])
            )
            states, mask = noisy_token_states(states, mask, self.prompt_noise, self.dropped_tokens)
            parts.append(self.net.predictor.answers(prefix, states, mask, clip, at))
        return restore_order(parts, groups)


class VisionStage:
    """One run of stage 2; `step` is one optimizer step."""

    def __init__(
        self,
        net: VLJEPA,
        targets: Tensor,
        concept_texts: ConceptTexts,
        config: TrainConfig,
        bank: TextBank,
        workers: Workers,
    ) -> None:
        """Create the stage; `targets` (concepts, D) come from `text_stage.concept_vectors`."""
        self.net, self.config, self.stage, self.workers = net, config, config.vision, workers
        self.concept_texts, self.labels = concept_texts, concept_texts.concepts.labels
        self.also = concept_texts.also_holds(concept_texts.names).to(workers.device)
        self.runner = VisionRunner(
            net,
            bank,
            np.random.default_rng([config.seed, workers.rank]),
            config.vision.rest_weight,
            config.vision.dropped_tokens,
            config.vision.prompt_noise,
        )
        self.targets, device = targets, workers.device
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07), device=device))
        self.probe = nn.Linear(
            2 * config.model.x_encoder.width, sum(map(len, self.labels.values())) + len(STATE)
        ).to(device)
        vision = nn.ModuleList(getattr(net, part) for part in VISION)
        trained = [*vision.parameters(), *self.probe.parameters(), self.log_scale]
        workers.broadcast(trained)
        stage = self.stage
        self.average = WeightAverage(vision, stage.ema)
        self.optimizer = OptimizerStep(
            groups(trained, stage.weight_decay),
            stage.learning_rate,
            cosine_schedule(stage.steps, stage.warmup_steps, stage.decay_from),
            workers=workers,
            average=self.average,
        )

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return self.optimizer.done

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; returns the terms of the loss."""
        stage, device = self.stage, self.workers.device
        with autocast(device, self.config.amp):
            predictions = self.runner.predict(batch, stage.clips_at(self.done).question_tubelets)
            probe = self._probe(predictions)
        loss, parts = joint_loss(
            predictions.vectors.float(),
            torch.tensor(
                [self.concept_texts.number[m] for m in predictions.concepts], device=device
            ),
            predictions.weight,
            self.targets,
            self.log_scale.exp().clamp(max=100.0),
            stage.gap_weight,
            self.also,
        )
        loss = loss + stage.probe_weight * probe
        self.optimizer.apply(loss)
        found = {'loss': loss, **parts, 'probe': probe, 'scale': self.log_scale.exp()}
        return {key: value.detach() for key, value in found.items()}

    def _probe(self, predictions: ClipPredictions) -> Tensor:
        """Compute the loss of linear probes for `labels` and the state.

        The probes read the mean and maximum of the visual tokens. They speed up the start of the
        X-Encoder's training and are not part of the model.
        """
        visual, shown = predictions.visual, predictions.shown
        features = torch.cat([visual.mean(dim=2), visual.amax(dim=2)], dim=-1).flatten(0, 1)
        sizes = [*map(len, self.labels.values()), len(STATE)]
        logits = self.probe(features).float().split(sizes, -1)
        total = state_loss(logits[-1], predictions.state)
        for part, (kind, names) in zip(logits, self.labels.items(), strict=False):
            labels = [self.concept_texts.concepts.label(item).get(kind) for item in shown]
            rows = [names.index(label) if label in names else IGNORE_INDEX for label in labels]
            if any(row != IGNORE_INDEX for row in rows):
                target = torch.tensor(rows, device=part.device)
                total = total + functional.cross_entropy(part, target, ignore_index=IGNORE_INDEX)
        return total

    def state(self) -> dict[str, Any]:
        """Return the state that a later run needs to resume."""
        return {
            'net': self.net.state_dict(),
            **self.optimizer.state_dict(),
            'scale': self.log_scale.detach(),
            'probe': self.probe.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from `state`."""
        self.net.load_state_dict(state['net'])
        self.optimizer.load_state_dict(state)
        self.probe.load_state_dict(state['probe'])
        with torch.no_grad():
            self.log_scale.copy_(state['scale'])


def state_loss(predicted: Tensor, state: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits and states (M, 4) in 0..1; nan is ignored."""
    known = ~state.isnan()
    each = functional.binary_cross_entropy_with_logits(
        predicted, state.nan_to_num().clamp(0.0, 1.0), reduction='none'
    )
    return (each * known).sum() / known.sum().clamp(min=1)
