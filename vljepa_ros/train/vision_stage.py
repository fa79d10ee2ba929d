# SPDX-License-Identifier: Apache-2.0
"""Stage 2: trains X-Encoder and Predictor to predict the text embeddings of stage 1.

The target of a caption prompt at a tubelet is the annotated concept of that tubelet. Questions are
trained at some of the tubelets at which their answers are true.

Shapes: B clips, T tubelets, N visual tokens per tubelet, Dx width of the X-Encoder, M predictions
(one per prompt and tubelet), D embedding_dim.
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
from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.losses import IGNORE_INDEX, joint_loss
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import OptimizerStep, WeightAverage, cosine_schedule
from vljepa_ros.train.text_bank import ConceptTexts, TextBank, noisy_token_states, restore_order

QUESTION_WEIGHT = 0.7  # weight of a question in the loss; captions have weight 1


@dataclass
class ClipPredictions:
    """Predictions for a batch of clips, with their targets and intermediate results.

    `vectors`: predicted embeddings (M, D). `concepts`: ids of their target concepts (M). `weight`:
    their weights in the loss (M,). `visual`: visual tokens of the X-Encoder (B, T, N, Dx).
    `annotations`: annotation of each tubelet (B*T). `state`: simulator state of each tubelet
    (B*T, len(STATE)). `prefix`: keys and values of the Predictor, to answer further prompts.
    """

    vectors: Tensor
    concepts: list[str]
    weight: Tensor
    visual: Tensor
    annotations: list[Annotation]
    state: Tensor
    prefix: list[KeyValue]


@dataclass(frozen=True)
class TrainingPrompt:
    """A prompt at one tubelet of one clip, with the concept id of its answer.

    `clip`, `tubelet`: indices in the batch. `weight`: weight in the loss.
    """

    clip: int
    tubelet: int
    prompt: str
    concept: str
    weight: float


class VisionRunner:
    """Predicts answer embeddings for the captions and questions of training clips."""

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
            net: Network with a vision side.
            bank: Token states of the prompts.
            rng: Random generator.
            rest_weight: Weight in the loss of captions of the concept `rest` (the robot is idle).
            dropped_tokens: Fraction of the prompt tokens that are dropped at random.
            prompt_noise: Noise on the token states of prompts, in their standard deviations.
        """
        self.net, self.bank, self.rng, self.rest_weight = net, bank, rng, rest_weight
        self.dropped_tokens, self.prompt_noise = dropped_tokens, prompt_noise

    def predict(self, batch: Batch, question_tubelets: int) -> ClipPredictions:
        """Predict embeddings of captions at annotated tubelets, and of answers to questions.

        Args:
            batch: Clips with labels.
            question_tubelets: Maximum number of tubelets at which each question is answered.
        """
        device, clips = self.bank.device, batch.labels
        visual = self.net.x_encoder(batch.frames.to(device))
        prefix = self.net.predictor.prefix(visual)
        annotations = [item for clip in clips for item in clip.annotations]
        prompts = self._captions(clips) + self._questions(clips, question_tubelets)
        vectors = self._predict(prefix, prompts)
        weight = torch.tensor([item.weight for item in prompts], device=device)
        state = torch.from_numpy(np.concatenate([clip.state for clip in clips])).to(device)
        concepts = [item.concept for item in prompts]
        return ClipPredictions(vectors, concepts, weight, visual, annotations, state, prefix)

    def _captions(self, clips: list[Labels]) -> list[TrainingPrompt]:
        rest = self.rest_weight
        return [
            TrainingPrompt(
                row, t, clip.prompt, item.meaning, rest if item.meaning == 'rest' else 1.0
            )
            for row, clip in enumerate(clips)
            for t, item in enumerate(clip.annotations)
            if item.meaning and not item.hidden
        ]

    def _questions(self, clips: list[Labels], count: int) -> list[TrainingPrompt]:
        """Return prompts for the questions of all clips.

        Each question is asked at up to `count` random tubelets at which its answer is true.
        """
        return [
            TrainingPrompt(row, int(t), question.prompt, question.meaning, QUESTION_WEIGHT)
            for row, clip in enumerate(clips)
            for question, holds in clip.questions
            if question.meaning  # empty if there is no annotation
            for t in self.rng.permutation(holds)[:count]
        ]

    def _predict(self, prefix: list[KeyValue], prompts: list[TrainingPrompt]) -> Tensor:
        """Predict the answer embeddings (M, D) to M prompts.

        `prefix` holds the keys and values of the Predictor for the clips.
        """
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
    """Training loop of the vision side (stage 2); `step` runs one optimizer step."""

    def __init__(
        self,
        net: VLJEPA,
        targets: Tensor,
        concept_texts: ConceptTexts,
        config: TrainConfig,
        bank: TextBank,
        workers: Workers,
    ) -> None:
        """Create the probes, the optimizer and the average of the weights.

        Args:
            net: Network whose X-Encoder and Predictor are trained.
            targets: Target embeddings (concepts, D) from `text_stage.concept_vectors`.
            concept_texts: Concepts, in the order of `targets`.
            config: Configuration of the run.
            bank: Token states of the prompts.
            workers: Processes of the run.
        """
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
        """Number of optimizer steps taken so far."""
        return self.optimizer.done

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step on a batch; return the loss and its terms by name."""
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
        """Return the loss of linear probes that predict labels and the simulator state.

        The input of the probes is the mean and maximum of the visual tokens of each tubelet. This
        auxiliary loss makes the X-Encoder learn faster at first. The probes are not part of the
        model.
        """
        visual, annotations = predictions.visual, predictions.annotations
        features = torch.cat([visual.mean(dim=2), visual.amax(dim=2)], dim=-1).flatten(0, 1)
        sizes = [*map(len, self.labels.values()), len(STATE)]
        logits = self.probe(features).float().split(sizes, -1)
        total = state_loss(logits[-1], predictions.state)
        for part, (kind, names) in zip(logits, self.labels.items(), strict=False):
            labels = [self.concept_texts.concepts.label(item).get(kind) for item in annotations]
            rows = [names.index(label) if label in names else IGNORE_INDEX for label in labels]
            if any(row != IGNORE_INDEX for row in rows):
                target = torch.tensor(rows, device=part.device)
                total = total + functional.cross_entropy(part, target, ignore_index=IGNORE_INDEX)
        return total

    def state(self) -> dict[str, Any]:
        """Return the weights and the states of optimizer and probes, for a checkpoint."""
        return {
            'net': self.net.state_dict(),
            **self.optimizer.state_dict(),
            'scale': self.log_scale.detach(),
            'probe': self.probe.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume training from the return value of the method `state`."""
        self.net.load_state_dict(state['net'])
        self.optimizer.load_state_dict(state)
        self.probe.load_state_dict(state['probe'])
        with torch.no_grad():
            self.log_scale.copy_(state['scale'])


def state_loss(predicted: Tensor, state: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of predicted simulator states.

    Args:
        predicted: Logits (tubelets, len(STATE)).
        state: Targets in 0..1 of the same shape; NaN is ignored.
    """
    known = ~state.isnan()
    each = functional.binary_cross_entropy_with_logits(
        predicted, state.nan_to_num().clamp(0.0, 1.0), reduction='none'
    )
    return (each * known).sum() / known.sum().clamp(min=1)
