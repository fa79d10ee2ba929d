# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of the vision side on annotated recordings, with rehearsal of known answers.

The loss on annotations is that of stage 2 (`train.losses`). Known sentences (see `rehearsal`) are
additional negatives, except those whose meaning may equal that of the annotated text: a prediction
must be nearer to the annotated text than to the other known sentences. The rehearsal term
preserves the starting model's answers to other questions, and its captions at tubelets without
annotation (learning without forgetting, Li and Hoiem, arXiv 1606.09282).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.clips import Batch, ClipSampler, Labels
from vljepa_ros.train.fine_tuning.config import FineTuningConfig
from vljepa_ros.train.fine_tuning.text_stage import TextFineTuning
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.optimizer import autocast
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.vision_stage import ClipPredictions, VisionRunner

SCALE = 1 / 0.07  # factor of cosines in the softmax: the initial value of stage 2
GAP = 1.0  # weight of the modality-gap term
OTHERS = 2  # number of rehearsed questions, and maximum number of rehearsed captions, per clip
WARMUP = 0.1  # fraction of the steps


@dataclass(frozen=True)
class Nets:
    """The networks of fine-tuning and the parameters to train.

    `net`: network in training. `before`: frozen start network. `trained`: trainable parameters of
    `net`.
    """

    net: VLJEPA
    before: VLJEPA
    trained: list[nn.Parameter]


class VisionFineTuning:
    """Training loop that fine-tunes the vision side; `step` runs one optimizer step."""

    def __init__(
        self,
        nets: Nets,
        config: FineTuningConfig,
        sampler: ClipSampler,
        texts: TextFineTuning,
        others: list[str],
    ) -> None:
        """Create the optimizer and embed the targets.

        Args:
            nets: Networks and trainable parameters.
            config: Configuration of the run.
            sampler: Draws clips from the recordings.
            texts: Annotated texts and known sentences, with the trained Y-Encoder.
            others: Questions for rehearsal that do not occur in the annotations.
        """
        self.net, self.before = nets.net, nets.before
        self.config, self.sampler, self.others = config, sampler, others
        self.bank, self.concept_texts, self.also = texts.bank, texts.concept_texts, texts.also
        self.targets = texts.targets()
        self.runner = VisionRunner(self.net, self.bank, sampler.rng, 1.0, dropped_tokens=0.1)
        self.optimizer = OptimizerStep(
            nets.trained,
            config.peak_rate,
            cosine_schedule(config.steps, max(round(WARMUP * config.steps), 1)),
        )

    @property
    def done(self) -> int:
        """Number of optimizer steps taken so far."""
        return self.optimizer.done

    def step(self) -> dict[str, float]:
        """Draw clips, run one optimizer step, and return the terms of the loss by name."""
        size, device = self.config.clips, self.bank.device
        batch = self.sampler.batch(size)
        with autocast(device, self.config.amp):
            predictions = self.runner.predict(batch, size.question_tubelets)
            rehearsal = self._rehearsal(batch, predictions)
        numbers = torch.tensor(
            [self.concept_texts.number[m] for m in predictions.concepts], device=device
        )
        loss, parts = joint_loss(
            predictions.vectors.float(),
            numbers,
            predictions.weight,
            self.targets,
            torch.tensor(SCALE, device=device),
            GAP,
            self.also,
        )
        self.optimizer.apply(loss + self.config.keep * rehearsal)
        return {key: value.item() for key, value in {**parts, 'rehearsal': rehearsal}.items()}

    def _rehearsal(self, batch: Batch, predictions: ClipPredictions) -> Tensor:
        """Return the rehearsal loss: the mean of 1 - cosine to the start network's answers.

        Both networks answer the same prompts, which have no annotated answer, for the same clips.
        """
        device = self.bank.device
        prompts = [
            item for row, clip in enumerate(batch.labels) for item in self._others(row, clip)
        ]
        states, mask = self.bank.states([prompt for _, _, prompt in prompts])
        clip, at = (torch.tensor([item[i] for item in prompts], device=device) for i in (0, 1))
        found = self.net.predictor.answers(predictions.prefix, states, mask, clip, at)
        with torch.no_grad():
            prefix = self.before.predictor.prefix(self.before.x_encoder(batch.frames.to(device)))
            target = self.before.predictor.answers(prefix, states, mask, clip, at)
        return (1 - (found.float() * target.float()).sum(dim=-1)).mean()

    def _others(self, row: int, clip: Labels) -> list[tuple[int, int, str]]:
        """Draw the rehearsal prompts of one clip as triples (clip, tubelet, prompt).

        They are random questions at random tubelets, and the caption prompt at tubelets without
        annotation. `row`: index of the clip in the batch.
        """
        rng, bare = self.sampler.rng, [t for t, a in enumerate(clip.annotations) if not a.meaning]
        at = rng.integers(0, len(clip.annotations), OTHERS)
        found = [(row, int(t), self.others[int(rng.integers(len(self.others)))]) for t in at]
        return found + [(row, int(t), clip.prompt) for t in rng.permutation(bare)[:OTHERS]]
