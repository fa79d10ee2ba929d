# SPDX-License-Identifier: Apache-2.0
"""One run: train an arm on the examples of its seed and evaluate it at given counts."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import commit
from benchmarks.comparison.arms import (
    CPU,
    Arm,
    EmbeddingArm,
    Language,
    TextHead,
    language,
    make_arm,
    parameters,
)
from benchmarks.comparison.examples import Examples, Recording, recordings, wordings
from benchmarks.comparison.marks import Judge, Marks, candidate_texts
from benchmarks.comparison.settings import STREAMS, Plan, Settings
from vljepa_ros.data.simulators.mwstream.questions import answer_meanings
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.optimizer import groups
from vljepa_ros.train.text_bank import ConceptTexts
from vljepa_ros.train.text_stage import TextStage

BETAS = (0.9, 0.98)


@functools.cache
def texts(settings: Settings) -> Language:
    """Return the frozen text side of this process; token states are cached in a file."""
    said = [*candidate_texts(), *(t for own in wordings('all').values() for t in own)]
    known = language(settings.model, said)
    settings.out.mkdir(parents=True, exist_ok=True)
    known.bank.prepare(said, settings.out / 'token_states.pt', Workers(CPU))
    return known


@functools.cache
def read(settings: Settings, split: str) -> list[Recording]:
    """Open a split with its features."""
    return recordings(settings.data / split, settings.out / 'features' / split, STREAMS.get(split))


class Average:
    """Running average of an arm's weights, used for evaluation."""

    def __init__(self, weights: list[nn.Parameter], decay: float) -> None:
        self._weights, self._decay, self._count = weights, decay, 0
        self._kept = [w.detach().clone() for w in weights]

    def update(self) -> None:
        """Update the average; call after each step."""
        self._count += 1
        decay = min(self._decay, self._count / (self._count + 10))
        torch._foreach_lerp_(self._kept, [w.detach() for w in self._weights], 1 - decay)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use the averaged weights within the context."""
        own = [w.detach().clone() for w in self._weights]
        self._set(self._kept)
        yield
        self._set(own)

    def _set(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights, values, strict=True):
                weight.copy_(value)


def train(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Run one plan and return its result, which is one line of JSON."""
    start, known = time.monotonic(), texts(settings)
    torch.manual_seed(plan.seed)
    arm = make_arm(plan, settings, known)
    if isinstance(arm, EmbeddingArm) and isinstance(arm.texts, TextHead) and plan.text == 'first':
        train_texts(arm.texts, plan, settings, known)
    judge = Judge(read(settings, plan.split), settings, captions(plan.wordings))
    examples = Examples(
        read(settings, 'train'),
        wordings(plan.wordings),
        settings.tubelets,
        settings.questions,
        plan.seed,
    )
    found = fit(arm, plan, settings, examples, judge)
    return {
        'name': plan.name,
        'plan': asdict(plan),
        'marks': found,
        'parameters': parameters(arm),
        'seconds': round(time.monotonic() - start),
        'commit': commit(),
    }


def fit(
    arm: Arm, plan: Plan, settings: Settings, examples: Examples, judge: Judge
) -> dict[str, list[Marks]]:
    """Train an arm; return its metrics, and those of arm D, after each of the plan's counts."""
    weights = [p for p in arm.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(groups(weights, settings.weight_decay), betas=BETAS)
    average, found = Average(weights, settings.average), dict[str, list[Marks]]()
    for step in range(1, plan.counts[-1] // settings.batch + 1):
        loss = arm.loss(examples.draw(settings.windows))
        for group in optimizer.param_groups:
            group['lr'] = plan.learning_rate * min(1.0, step / settings.warmup_steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update()
        if step * settings.batch in plan.counts:
            with average.used():
                for name, marks in _judged(arm, plan, judge).items():
                    found.setdefault(name, []).append({'examples': step * settings.batch, **marks})
    return found


def _judged(arm: Arm, plan: Plan, judge: Judge) -> dict[str, Marks]:
    marks = {plan.arm: judge.judge(arm)}
    if isinstance(arm, EmbeddingArm) and plan.arm == 'A' and plan.text != 'joint':
        marks['D'] = judge.recall(arm, marks['A'])
    return marks


def captions(which: str) -> list[str]:
    """Return all sentences that can be captions in training."""
    others = answer_meanings(False)
    return [t for m, said in wordings(which).items() if m not in others for t in said]


def train_texts(head: TextHead, plan: Plan, settings: Settings, known: Language) -> None:
    """Train A's text head as the package does, on these texts only, and freeze it.

    Runs with the same seed share it.
    """
    path = settings.out / f'texts-{plan.wordings}-{plan.seed}.pt'
    if path.is_file():
        head.load_state_dict(torch.load(path, weights_only=True))
    else:
        config = TrainConfig('', '', settings.model, plan.seed, text=settings.text)
        told = ConceptTexts(wordings(plan.wordings))
        stage = TextStage(head.head, config, known.bank, told, Workers(CPU))
        while stage.done < settings.text.steps:
            stage.step()
        part = path.with_suffix(f'.{os.getpid()}')
        torch.save(head.state_dict(), part)
        part.replace(path)
    head.requires_grad_(False)
