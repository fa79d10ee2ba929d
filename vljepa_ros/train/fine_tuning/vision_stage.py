# SPDX-License-Identifier: Apache-2.0
"""The eyes learn what people say of their recordings; elsewhere they answer as they did.

The loss is stage 2's (`train.losses`), with the known sentences among the targets, so that a
prediction must be nearer to what was said than to anything that the model said before. Beside it
the answers to other questions, and to what is going on where nobody said anything, are held to
those of the model that was started from (learning without forgetting, Li and Hoiem, arXiv
1606.09282).

Shapes: N meanings and known sentences, D embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.clips import Batch, ClipSampler, Labels
from vljepa_ros.train.fine_tuning.config import TuneConfig
from vljepa_ros.train.fine_tuning.text_stage import Texts
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.optimizer import autocast, rate
from vljepa_ros.train.vision_stage import Answers, Asker

SCALE = 1 / 0.07  # of cosines in the softmax, where stage 2 begins
GAP = 1.0  # weight of the distance to the own text
OTHERS = 2  # other questions, and silent tubelets, a clip
WARMUP = 0.1  # share of the steps


@dataclass(frozen=True)
class Nets:
    """The network in training, the one that it started as, and the parameters that are trained."""

    net: VLJEPA
    before: VLJEPA
    trained: list[nn.Parameter]


class VisionTuning:
    """One run; `step` is one optimiser step."""

    def __init__(
        self, nets: Nets, config: TuneConfig, sampler: ClipSampler, texts: Texts, others: list[str]
    ) -> None:
        """`others`: questions that people did not ask."""
        self.net, self.before, self.trained = nets.net, nets.before, nets.trained
        self.config, self.sampler, self.others = config, sampler, others
        self.bank, self.meanings, self.also = texts.bank, texts.told, texts.also
        self.targets, self.done = texts.targets(), 0
        self.asker = Asker(self.net, self.bank, sampler.rng, 1.0, dropped_tokens=0.1)
        self.optimizer = torch.optim.AdamW(self.trained, weight_decay=0.0, betas=(0.9, 0.98))

    def step(self) -> dict[str, float]:
        """Draw clips, take one step; returns the parts of the loss."""
        size, device = self.config.clips, self.bank.device
        batch = self.sampler.batch(size)
        with autocast(device, self.config.amp):
            answers = self.asker.answer(batch, size.question_tubelets)
            kept = self._kept(batch, answers)
        numbers = torch.tensor([self.meanings.number[m] for m in answers.meanings], device=device)
        loss, parts = joint_loss(
            answers.vectors.float(),
            numbers,
            answers.weight,
            self.targets,
            torch.tensor(SCALE, device=device),
            GAP,
            self.also,
        )
        self._descend(loss + self.config.keep * kept)
        return {key: value.item() for key, value in {**parts, 'kept': kept}.items()}

    def _descend(self, loss: Tensor) -> None:
        steps = self.config.steps
        for group in self.optimizer.param_groups:
            group['lr'] = rate(
                self.config.peak_rate, self.done, max(round(WARMUP * steps), 1), steps
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.done += 1

    def _kept(self, batch: Batch, answers: Answers) -> Tensor:
        """1 - cosine to what `before` answers to the same, in the mean."""
        device = self.bank.device
        asked = [item for row, clip in enumerate(batch.labels) for item in self._others(row, clip)]
        states, mask = self.bank.states([prompt for _, _, prompt in asked])
        clip, at = (torch.tensor([item[i] for item in asked], device=device) for i in (0, 1))
        given = self.net.predictor.answers(answers.prefix, states, mask, clip, at)
        with torch.no_grad():
            prefix = self.before.predictor.prefix(self.before.x_encoder(batch.frames.to(device)))
            wanted = self.before.predictor.answers(prefix, states, mask, clip, at)
        return (1 - (given.float() * wanted.float()).sum(dim=-1)).mean()

    def _others(self, row: int, clip: Labels) -> list[tuple[int, int, str]]:
        """(clip, tubelet, prompt): other questions, and what happens where nobody says it."""
        rng, silent = self.sampler.rng, [t for t, a in enumerate(clip.shown) if not a.meaning]
        at = rng.integers(0, len(clip.shown), OTHERS)
        found = [(row, int(t), self.others[int(rng.integers(len(self.others)))]) for t in at]
        return found + [(row, int(t), clip.prompt) for t in rng.permutation(silent)[:OTHERS]]
