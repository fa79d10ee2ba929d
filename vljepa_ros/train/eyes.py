# SPDX-License-Identifier: Apache-2.0
"""Stage 2: X-Encoder and Predictor learn to predict the texts' embeddings of stage 1.

Every tubelet's answer to a caption prompt is pulled towards the label of that tubelet; questions
are answered at a few tubelets where their answers hold.

Shapes: B clips, T tubelets, P prompts, Q tubelets asked, M predictions, N texts.
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
from vljepa_ros.data.mwstream.tasks import COLOUR_NAMES, PHASES, TRAIN_TASKS
from vljepa_ros.model.block import KeyValue
from vljepa_ros.model.vljepa import EYES, VLJEPA
from vljepa_ros.train.clips import STATE, Clip, ClipSampler
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.optimizer import autocast, groups, rate
from vljepa_ros.train.parallel import Workers
from vljepa_ros.train.texts import Meanings, TextBank, thinned

# What linear heads read from the X-Encoder in training: names of kinds, and the state's numbers.
PROBED = {
    'task': TRAIN_TASKS,
    'colour': COLOUR_NAMES,
    'phase': (*PHASES, 'dark', 'covered', 'appear', 'gone'),
}
SCENE = ('task', 'colour')  # seen only where there is light, and no cover
UNTOLD = -100  # what functional.cross_entropy leaves out


@dataclass
class Answers:
    """Predictions (M, D) with their meanings and weights (M,).

    Beside them what the tubelets are seen as, (B, T, N, Dx), what they show, B*T, and their state,
    (B*T, 4).
    """

    vectors: Tensor
    meanings: list[str]
    weight: Tensor
    visual: Tensor
    shown: list[Annotation]
    state: Tensor


class Asker:
    """Asks the eyes about clips."""

    def __init__(
        self,
        net: VLJEPA,
        bank: TextBank,
        rng: np.random.Generator,
        rest_weight: float,
        dropped_tokens: float = 0.0,
    ) -> None:
        """`dropped_tokens`: share of the prompts' tokens that the eyes are not shown."""
        self.net, self.bank, self.rng, self.rest_weight = net, bank, rng, rest_weight
        self.dropped_tokens = dropped_tokens

    def answer(self, clips: list[Clip], question_tubelets: int) -> Answers:
        """The eyes' answers of clips (B): captions of every tubelet, questions of some."""
        device = self.bank.device
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).to(device)
        tubelets = frames.shape[1]
        visual = self.net.x_encoder(frames)
        prefix = self.net.predictor.prefix(visual)
        states, mask = self._prompts([clip.prompt for clip in clips])
        at = torch.arange(tubelets, device=device)
        vectors = self.net.predictor.answers(prefix, states[:, None], mask[:, None], at)
        shown = [item for clip in clips for item in clip.shown]
        told = [row for row, item in enumerate(shown) if item.meaning]
        parts = [vectors.flatten(0, 2)[told]]
        meanings = [shown[row].meaning for row in told]
        weight = [self.rest_weight if m == 'rest' else 1.0 for m in meanings]
        if clips[0].asked:
            asked, said = self._questions(prefix, clips, min(question_tubelets, tubelets))
            parts.append(asked)
            meanings += said
            weight += [0.7] * len(said)
        state = torch.from_numpy(np.concatenate([clip.state for clip in clips])).to(device)
        return Answers(
            torch.cat(parts), meanings, torch.tensor(weight, device=device), visual, shown, state
        )

    def _prompts(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        states, mask = self.bank.states(texts)
        return states, thinned(mask, self.dropped_tokens)

    def _questions(
        self, prefix: list[KeyValue], clips: list[Clip], count: int
    ) -> tuple[Tensor, list[str]]:
        tubelets = len(clips[0].shown)
        at = torch.from_numpy(self.rng.permutation(tubelets)[:count].copy())
        asked = [item for clip in clips for item in clip.asked]
        states, mask = self._prompts([question.prompt for question, _ in asked])
        shape = (len(clips), len(clips[0].asked))
        vectors = self.net.predictor.answers(
            prefix, states.unflatten(0, shape), mask.unflatten(0, shape), at.to(states.device)
        ).flatten(0, 1)  # (B*P, Q, D)
        kept = [
            (row, column, question.meaning)
            for row, (question, holds) in enumerate(asked)
            for column, t in enumerate(at.tolist())
            if t in holds
        ]
        rows, columns = [k[0] for k in kept], [k[1] for k in kept]
        return vectors[rows, columns], [k[2] for k in kept]


class EyesStage:
    """One run of stage 2; `step` is one optimiser step."""

    def __init__(
        self,
        net: VLJEPA,
        targets: Tensor,
        meanings: Meanings,
        config: TrainConfig,
        sampler: ClipSampler,
        bank: TextBank,
        workers: Workers,
    ) -> None:
        """`targets` (meanings, D): see `text_space.meaning_vectors`."""
        self.net, self.config, self.stage, self.workers = net, config, config.eyes, workers
        self.sampler, self.meanings = sampler, meanings
        self.also = meanings.also_holds(meanings.names).to(workers.device)
        self.asker = Asker(
            net, bank, sampler.rng, config.eyes.rest_weight, config.eyes.dropped_tokens
        )
        self.targets, device = targets, workers.device
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07), device=device))
        self.probe = nn.Linear(
            2 * config.model.x_encoder.width, sum(map(len, PROBED.values())) + len(STATE)
        ).to(device)
        self.parameters = [p for part in EYES for p in getattr(net, part).parameters()]
        self.trained = [*self.parameters, *self.probe.parameters(), self.log_scale]
        workers.same(self.trained)
        self.optimizer = torch.optim.AdamW(
            groups(self.trained, self.stage.weight_decay), betas=(0.9, 0.98)
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.done = 0

    def step(self) -> dict[str, float]:
        """Draw clips, take one step; returns the parts of the loss."""
        stage, size = self.stage, self.stage.clips_at(self.done)
        device = self.workers.device
        clips = [self.sampler.draw(size.tubelets, size.questions) for _ in range(size.clips)]
        with autocast(device, self.config.amp):
            answers = self.asker.answer(clips, size.question_tubelets)
            probe = self._probe(answers)
        loss, parts = joint_loss(
            answers.vectors.float(),
            torch.tensor([self.meanings.number[m] for m in answers.meanings], device=device),
            answers.weight,
            self.targets,
            self.log_scale.exp().clamp(max=100.0),
            stage.gap_weight,
            self.also,
        )
        loss = loss + stage.probe_weight * probe
        for group in self.optimizer.param_groups:
            group['lr'] = rate(stage.learning_rate, self.done, stage.warmup_steps, stage.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.workers.average(self.trained)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.done += 1
        decay = min(stage.ema, self.done / (self.done + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        found = {'loss': loss, **parts, 'probe': probe, 'scale': self.log_scale.exp()}
        return {key: value.item() for key, value in found.items()}

    def _probe(self, answers: Answers) -> Tensor:
        """What task, colour and phase it is, and the state's numbers: linear in the tokens' mean
        and maximum. They get the X-Encoder off the ground; nothing of the probe is kept.
        """
        visual, shown = answers.visual, answers.shown
        features = torch.cat([visual.mean(dim=2), visual.amax(dim=2)], dim=-1).flatten(0, 1)
        logits = self.probe(features).float().split([*map(len, PROBED.values()), len(STATE)], -1)
        total = state_loss(logits[-1], answers.state)
        for part, (field, names) in zip(logits, PROBED.items(), strict=False):
            target = torch.tensor(
                [self._label(item, field, names) for item in shown], device=part.device
            )
            if (target != UNTOLD).any():
                total = total + functional.cross_entropy(part, target, ignore_index=UNTOLD)
        return total

    def _label(self, item: Annotation, field: str, names: tuple[str, ...]) -> int:
        value = getattr(item, field)
        hidden = field in SCENE and not item.light
        return UNTOLD if hidden or value not in names else names.index(value)

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


def state_loss(predicted: Tensor, state: Tensor) -> Tensor:
    """Binary cross-entropy of (M, 4) logits and what `STATE` names, 0..1; nan is left out."""
    known = ~state.isnan()
    if not known.any():
        return predicted.sum() * 0.0
    return functional.binary_cross_entropy_with_logits(
        predicted[known], state[known].clamp(0.0, 1.0)
    )
