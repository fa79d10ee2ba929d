# SPDX-License-Identifier: Apache-2.0
"""The optimizer step gives the weights of a plain torch loop that is written out here."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vljepa_ros.train.optimizer import groups
from vljepa_ros.train.optimizer_step import (
    OptimizerStep,
    WeightAverage,
    constant_schedule,
    cosine_schedule,
)

STEPS, WARMUP, PEAK, DECAY, EMA = 12, 3, 0.05, 0.1, 0.8
INPUTS = torch.randn(STEPS, 16, 5, generator=torch.Generator().manual_seed(1))
TARGETS = 20.0 * INPUTS[..., :2].sin()  # large errors, so that gradients are clipped

ROOT = Path(__file__).resolve().parents[2]
# Each of two processes trains on its half of every batch, from weights of its own.
PROCESS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_optimizer_step import INPUTS, PEAK, STEPS, TARGETS, WARMUP, network
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.data_parallelism import Workers

torch.set_num_threads(1)
workers = Workers(torch.device('cpu'))
net = network()
if workers.rank:
    torch.nn.init.ones_(net[0].weight)
workers.broadcast(net.parameters())
step = OptimizerStep(net.parameters(), PEAK, cosine_schedule(STEPS, WARMUP), workers=workers)
half = slice(8 * workers.rank, 8 * workers.rank + 8)
for number in range(STEPS):
    step.apply((net(INPUTS[number, half]) - TARGETS[number, half]).square().mean())
torch.save(net.state_dict(), f'{sys.argv[2]}/{workers.rank}.pt')
"""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 2))


def loss_at(net: nn.Module, step: int) -> Tensor:
    return (net(INPUTS[step]) - TARGETS[step]).square().mean()


def two_groups_of(net: nn.Sequential) -> list[dict[str, Any]]:
    """Return two parameter groups with learning rates of their own."""
    return [
        {'params': list(net[0].parameters()), 'lr': PEAK, 'weight_decay': DECAY},
        {'params': list(net[3].parameters()), 'lr': PEAK / 20},
    ]


def cosine(step: int) -> float:
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def plain_loop(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    clipped: list[list[nn.Parameter]],
) -> list[Tensor]:
    """Train for `STEPS` steps and return the averaged weights."""
    peaks = [group['lr'] for group in optimizer.param_groups]
    average = [parameter.detach().clone() for parameter in net.parameters()]
    for step in range(STEPS):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group['lr'] = peak * schedule(step)
        optimizer.zero_grad()
        loss_at(net, step).backward()
        for some in clipped:
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in some if p.grad is not None))
            assert norm > 1.0  # otherwise, this test would say nothing about clipping
            for p in some:
                if p.grad is not None:
                    p.grad /= norm
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 11))
        for mean, parameter in zip(average, net.parameters(), strict=True):
            mean.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
    return average


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_cosine_schedule_with_weight_decay_and_average() -> None:
    """The settings of the text, vision and decoder stages."""
    expected, net = network(), network()
    matrices = [expected[0].weight, expected[3].weight]
    others = [p for p in expected.parameters() if p.ndim == 1]
    decayed = [{'params': matrices, 'weight_decay': DECAY}, {'params': others, 'weight_decay': 0}]
    plain = torch.optim.AdamW(decayed, lr=PEAK, betas=(0.9, 0.98))
    mean = plain_loop(expected, plain, cosine, [list(expected.parameters())])

    average = WeightAverage(net, EMA)
    step = OptimizerStep(
        groups(list(net.parameters()), DECAY),
        PEAK,
        cosine_schedule(STEPS, WARMUP),
        average=average,
    )
    for number in range(STEPS):
        assert step.done == number
        step.apply(loss_at(net, number))
    assert_same(net.parameters(), expected.parameters())
    assert_same(average.tensors(), mean)


@pytest.mark.parametrize('warmup', [0, WARMUP])
def test_constant_schedule_with_two_groups_that_are_clipped_separately(warmup: int) -> None:
    """The settings of a recipe for bidirectional models."""
    expected, net = network(), network()
    clipped = [list(expected[0].parameters()), list(expected[3].parameters())]
    plain = torch.optim.AdamW(two_groups_of(expected), betas=(0.9, 0.999), weight_decay=0.0)
    plain_loop(expected, plain, lambda step: min(1.0, (step + 1) / max(warmup, 1)), clipped)

    schedule = constant_schedule(warmup)
    step = OptimizerStep(two_groups_of(net), PEAK, schedule, betas=(0.9, 0.999), clip_groups=True)
    for number in range(STEPS):
        step.apply(loss_at(net, number))
    assert_same(net.parameters(), expected.parameters())


def test_a_list_of_parameters_without_weight_decay() -> None:
    """The settings of fine-tuning."""
    expected, net = network(), network()
    plain = torch.optim.AdamW(expected.parameters(), PEAK, (0.9, 0.98), weight_decay=0.0)
    plain_loop(expected, plain, cosine, [list(expected.parameters())])
    step = OptimizerStep(net.parameters(), PEAK, cosine_schedule(STEPS, WARMUP))
    for number in range(STEPS):
        step.apply(loss_at(net, number))
    assert_same(net.parameters(), expected.parameters())


def averaged_step(net: nn.Module) -> tuple[OptimizerStep, WeightAverage]:
    average = WeightAverage(net, EMA)
    schedule = cosine_schedule(STEPS, WARMUP)
    return OptimizerStep(net.parameters(), PEAK, schedule, average=average), average


def test_resumed_training_gives_the_same_weights() -> None:
    whole = network()
    step, mean = averaged_step(whole)
    for number in range(5):
        step.apply(loss_at(whole, number))
    weights, state = copy.deepcopy((whole.state_dict(), step.state_dict()))
    # Checkpoints of earlier versions lack the peak learning rate; `lr` is that of the last step.
    for group in state['optimizer']['param_groups']:
        del group['initial_lr']
        group['lr'] = 0.123
    for number in range(5, STEPS):
        step.apply(loss_at(whole, number))

    resumed = network()
    again, resumed_mean = averaged_step(resumed)
    resumed.load_state_dict(weights)
    again.load_state_dict(state)
    assert again.done == 5
    for number in range(5, STEPS):
        again.apply(loss_at(resumed, number))
    assert_same(resumed.parameters(), whole.parameters())
    assert_same(resumed_mean.tensors(), mean.tensors())


def test_averaged_weights_are_in_use_only_inside_the_block() -> None:
    net = network()
    step, average = averaged_step(net)
    for number in range(3):
        step.apply(loss_at(net, number))
    own = [parameter.detach().clone() for parameter in net.parameters()]
    mean = [tensor.clone() for tensor in average.tensors()]
    with pytest.raises(RuntimeError), average.in_use():
        assert_same(net.parameters(), mean)
        raise RuntimeError
    assert_same(net.parameters(), own)
    assert_same(average.tensors(), mean)
    average.copy_to_module()
    assert_same(net.parameters(), mean)
    assert not torch.allclose(own[0], mean[0])


def test_two_processes_give_the_weights_of_one_process_with_the_whole_batch(
    tmp_path: Path,
) -> None:
    (tmp_path / 'process.py').write_text(PROCESS)
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    done = subprocess.run(
        [sys.executable, *torchrun, tmp_path / 'process.py', str(Path(__file__).parent), tmp_path],
        cwd=ROOT,
        env=os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    net = network()
    step = OptimizerStep(net.parameters(), PEAK, cosine_schedule(STEPS, WARMUP))
    for number in range(STEPS):
        step.apply(loss_at(net, number))
    for rank in (0, 1):
        found = torch.load(tmp_path / f'{rank}.pt', weights_only=True)
        assert_same(found.values(), net.state_dict().values())
