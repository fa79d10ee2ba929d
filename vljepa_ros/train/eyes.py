# SPDX-License-Identifier: Apache-2.0
"""Stage 1: X-Encoder, Predictor and the Y-Encoder's head, trained together.

Every tubelet's answer to a caption prompt is pulled towards the label of that tubelet; questions
are answered at a few tubelets where their answers hold.

Shapes: B clips, T tubelets, P prompts, Q tubelets asked, M predictions, N texts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream.tasks import COLOUR_NAMES, TRAIN_TASKS
from vljepa_ros.model.block import KeyValue
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.train.clips import Clip, ClipSampler
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.texts import Meanings, TextBank

PARTS = ('x_encoder', 'predictor', 'y_encoder')
PROBED = (TRAIN_TASKS, COLOUR_NAMES, ('rest', 'reach', 'act', 'done', 'dark'))


@dataclass
class Answers:
    """Predictions (M, D) with their meanings and weights (M,); the probe's loss beside them."""

    vectors: Tensor
    meanings: list[str]
    weight: Tensor
    probe: Tensor


class EyesStage:
    """One run of stage 1; `step` is one optimiser step."""

    def __init__(
        self, net: VLJEPA, config: TrainConfig, sampler: ClipSampler, bank: TextBank
    ) -> None:
        self.net, self.config, self.stage = net, config, config.eyes
        self.sampler, self.bank, self.meanings = sampler, bank, Meanings()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.probe = nn.Linear(
            2 * config.model.x_encoder.width, sum(len(names) for names in PROBED)
        )
        self.parameters = [p for part in PARTS for p in getattr(net, part).parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                *groups([*self.parameters, *self.probe.parameters()], self.stage.weight_decay),
                {'params': [self.log_scale], 'weight_decay': 0.0},
            ],
            lr=self.stage.learning_rate,
            betas=(0.9, 0.98),
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.done = 0

    def step(self) -> dict[str, float]:
        """Draw clips, take one step; returns the parts of the loss."""
        stage, rng = self.stage, self.sampler.rng
        size = stage.clips_at(self.done)
        clips = [self.sampler.draw(size.tubelets, size.questions) for _ in range(size.clips)]
        answers = self.answer(clips, size.question_tubelets)
        present = sorted(set(answers.meanings))
        others = self.meanings.negatives(present, stage.negatives, rng)
        names = [*present, *present, *others]
        texts = self.net.y_encoder(
            *self.bank.states([self.meanings.wording(m, rng) for m in names])
        )
        number = {name: i for i, name in enumerate([*present, *others])}
        loss, parts = joint_loss(
            answers.vectors,
            torch.tensor([number[m] for m in answers.meanings]),
            answers.weight,
            texts,
            torch.tensor([number[m] for m in names]),
            self.log_scale.exp().clamp(max=100.0),
            stage.gap_weight,
            stage.text_weight,
        )
        loss = loss + stage.probe_weight * answers.probe
        parts['probe'] = answers.probe
        for group in self.optimizer.param_groups:
            group['lr'] = rate(stage.learning_rate, self.done, stage.warmup_steps, stage.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.done += 1
        decay = min(stage.ema, self.done / (self.done + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return {
            'loss': loss.item(),
            **{k: v.item() for k, v in parts.items()},
            'scale': math.exp(self.log_scale.item()),
        }

    def answer(self, clips: list[Clip], question_tubelets: int) -> Answers:
        """The eyes' answers of clips (B): captions of every tubelet, questions of some."""
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        tubelets = frames.shape[1]
        visual = self.net.x_encoder(frames)
        prefix = self.net.predictor.prefix(visual)
        states, mask = self.bank.states([clip.prompt for clip in clips])
        vectors = self.net.predictor.answers(
            prefix, states[:, None], mask[:, None], torch.arange(tubelets)
        )
        parts = [vectors.flatten(0, 2)]
        shown = [item for clip in clips for item in clip.shown]
        meanings = [item.meaning for item in shown]
        weight = [self.stage.rest_weight if m == 'rest' else 1.0 for m in meanings]
        if clips[0].asked:
            asked, said = self._questions(prefix, clips, min(question_tubelets, tubelets))
            parts.append(asked)
            meanings += said
            weight += [0.7] * len(said)
        features = torch.cat([visual.mean(dim=2), visual.amax(dim=2)], dim=-1)
        probe = self._probe(features.flatten(0, 1), shown)
        return Answers(torch.cat(parts), meanings, torch.tensor(weight), probe)

    def _probe(self, features: Tensor, shown: list[Annotation]) -> Tensor:
        """Cross-entropies of task, colour and phase, linear in the tokens' mean and maximum.

        They get the X-Encoder off the ground; nothing of the probe is kept.
        """
        logits = self.probe(features).split([len(names) for names in PROBED], dim=-1)
        lit = torch.tensor([item.light for item in shown])
        total = torch.zeros(())
        for part, names, field in zip(logits, PROBED, ('task', 'colour', 'phase'), strict=True):
            target = torch.tensor([names.index(getattr(item, field)) for item in shown])
            kept = lit if field != 'phase' else torch.ones_like(lit)
            if kept.any():
                total = total + functional.cross_entropy(part[kept], target[kept])
        return total

    def _questions(
        self, prefix: list[KeyValue], clips: list[Clip], count: int
    ) -> tuple[Tensor, list[str]]:
        tubelets = len(clips[0].shown)
        at = torch.from_numpy(self.sampler.rng.permutation(tubelets)[:count].copy())
        asked = [item for clip in clips for item in clip.asked]
        states, mask = self.bank.states([question.prompt for question, _ in asked])
        shape = (len(clips), len(clips[0].asked))
        vectors = self.net.predictor.answers(
            prefix, states.unflatten(0, shape), mask.unflatten(0, shape), at
        ).flatten(0, 1)  # (B*P, Q, D)
        kept = [
            (row, column, question.meaning)
            for row, (question, holds) in enumerate(asked)
            for column, t in enumerate(at.tolist())
            if t in holds
        ]
        rows, columns = [k[0] for k in kept], [k[1] for k in kept]
        return vectors[rows, columns], [k[2] for k in kept]

    def use_average(self) -> None:
        """Put the averaged weights into the net (for validation and at the end)."""
        with torch.no_grad():
            for p, a in zip(self.parameters, self.average, strict=True):
                held = p.detach().clone()
                p.copy_(a)
                a.copy_(held)

    def state(self) -> dict[str, Any]:
        """Everything that a later run needs to go on."""
        return {
            'net': self.net.state_dict(),
            'average': self.average,
            'done': self.done,
            'optimizer': self.optimizer.state_dict(),
            'scale': self.log_scale.detach(),
            'probe': self.probe.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.net.load_state_dict(state['net'])
        self.average, self.done = state['average'], state['done']
        self.optimizer.load_state_dict(state['optimizer'])
        self.probe.load_state_dict(state['probe'])
        with torch.no_grad():
            self.log_scale.copy_(state['scale'])


def groups(parameters: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    return [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]


def rate(peak: float, done: int, warmup: int, steps: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to 2% of the peak."""
    if done < warmup:
        return peak * (done + 1) / warmup
    share = min((done - warmup) / max(steps - warmup, 1), 1.0)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside and rename: a run that is killed leaves the older one whole."""
    part = path.with_suffix('.part')
    torch.save(state, part)
    part.replace(path)
