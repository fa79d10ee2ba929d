# SPDX-License-Identifier: Apache-2.0
"""Optimizer step of all training loops: AdamW, learning-rate schedule and gradient clipping.

Gradients can be averaged over several processes, and an exponential moving average (EMA) of the
weights can be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.optimizer import rate

Schedule = Callable[[int], float]  # number of finished steps -> factor of the learning rate

BETAS = (0.9, 0.98)
MAX_NORM = 1.0  # maximum norm of the gradient


def cosine_schedule(steps: int, warmup: int, decay_from: float = 0.0) -> Schedule:
    """Return a schedule with linear warm-up, constant phase and cosine decay.

    Args:
        steps: Total number of steps.
        warmup: Number of warm-up steps.
        decay_from: Fraction of the steps after which the decay starts, if the warm-up is over.
    """
    return lambda done: rate(1.0, done, warmup, steps, decay_from)


def constant_schedule(warmup: int) -> Schedule:
    """Return a schedule that is constant after a linear warm-up of `warmup` steps."""
    return lambda done: min((done + 1) / max(warmup, 1), 1.0)


class WeightAverage:
    """Exponential moving average (EMA) of a module's weights.

    Its decay rate rises from 1/11 in the first step to `decay`, so that the random initial weights
    soon lose their influence.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay, self._done = module, decay, 0
        self._average = AveragedModel(module, multi_avg_fn=self._move)
        self._average.update_parameters(module)  # the first update only copies the weights

    def update(self, done: int) -> None:
        """Update the average with the module's weights after `done` optimizer steps."""
        self._done = done
        self._average.update_parameters(self._module)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Return a context manager inside which the module has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def copy_to_module(self) -> None:
        """Overwrite the module's weights with the averaged weights, at the end of training."""
        with torch.no_grad():
            for weight, average in self._pairs():
                weight.copy_(average)

    def tensors(self) -> list[Tensor]:
        """Return the averaged weights, in the order of the module's parameters."""
        return [average.detach() for _, average in self._pairs()]

    def load(self, tensors: Iterable[Tensor]) -> None:
        """Restore the averaged weights from the return value of the method `tensors`."""
        with torch.no_grad():
            for average, stored in zip(self.tensors(), tensors, strict=True):
                average.copy_(stored)

    def _move(self, average: Any, current: Any, _: Any) -> None:
        # The number of updates comes from `update`: AveragedModel stores it in a tensor on the
        # GPU, and every step would have to wait for the GPU to read it.
        decay = min(self._decay, self._done / (self._done + 10))
        get_ema_multi_avg_fn(decay)(average, current, _)

    def _exchange(self) -> None:
        with torch.no_grad():
            for weight, average in self._pairs():
                own = weight.clone()
                weight.copy_(average)
                average.copy_(own)

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return zip(self._module.parameters(), self._average.module.parameters(), strict=True)


class OptimizerStep:
    """AdamW with learning-rate schedule, gradient clipping, and EMA of the weights."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
        learning_rate: float,
        schedule: Schedule,
        *,
        betas: tuple[float, float] = BETAS,
        clip_groups: bool = False,
        workers: Workers | None = None,
        average: WeightAverage | None = None,
    ) -> None:
        """Create the optimizer.

        Args:
            parameters: Parameters or parameter groups. The default weight decay of a group is 0.
            learning_rate: Peak learning rate of groups without one of their own.
            schedule: Factor of all learning rates by number of finished steps.
            betas: Decay rates of AdamW's moments.
            clip_groups: Whether to clip the gradient norm of each parameter group separately.
            workers: Processes to average gradients over; None: a single process.
            average: EMA of the weights to update in every step, if any.
        """
        self.optimizer = torch.optim.AdamW(
            parameters, lr=learning_rate, betas=betas, weight_decay=0.0
        )
        groups = [group['params'] for group in self.optimizer.param_groups]
        self._parameters = [parameter for group in groups for parameter in group]
        self._clipped = groups if clip_groups else [self._parameters]
        self._workers, self._average, self._schedule = workers, average, schedule
        self.scheduler = LambdaLR(self.optimizer, schedule)

    @property
    def done(self) -> int:
        """Number of optimizer steps taken so far."""
        return int(self.scheduler.last_epoch)

    def apply(self, loss: Tensor) -> None:
        """Backpropagate `loss` and update the parameters, the schedule and the average."""
        self.optimizer.zero_grad()
        loss.backward()
        if self._workers is not None:
            self._workers.average_gradients(self._parameters)
        for parameters in self._clipped:
            nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        self.optimizer.step()
        self.scheduler.step()
        if self._average is not None:
            self._average.update(self.done)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: finished steps, optimizer state, averaged weights."""
        state = {'done': self.done, 'optimizer': self.optimizer.state_dict()}
        return state if self._average is None else state | {'average': self._average.tensors()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from the return value of `state_dict`; the learning rates are not restored."""
        peaks = self.scheduler.base_lrs
        self.optimizer.load_state_dict(state['optimizer'])
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group['initial_lr'] = peak
        self.scheduler = LambdaLR(self.optimizer, self._schedule, last_epoch=state['done'] - 1)
        if self._average is not None:
            self._average.load(state['average'])
