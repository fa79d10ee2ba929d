# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules, and the choice of the compute dtype."""

from __future__ import annotations

import pytest
import torch

from vljepa_ros.train import optimizer

CPU = torch.device('cpu')


@pytest.mark.parametrize('requested', [False, True])
@pytest.mark.parametrize('faster', [False, True])
def test_bfloat16_is_used_if_requested_and_faster(
    monkeypatch: pytest.MonkeyPatch, requested: bool, faster: bool
) -> None:
    monkeypatch.setattr(optimizer, 'bfloat16_is_faster', lambda device: faster)
    with optimizer.autocast(CPU, requested):
        found = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert found == (torch.bfloat16 if requested and faster else torch.float32)


def test_the_faster_dtype_on_a_cpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    took_s = {torch.float32: 2.0, torch.bfloat16: 1.0}
    clock = [0.0]

    def linear(a: torch.Tensor, _: torch.Tensor) -> None:
        clock[0] += took_s[a.dtype]

    monkeypatch.setattr(optimizer.functional, 'linear', linear)
    monkeypatch.setattr(optimizer.time, 'process_time', lambda: clock[0])
    measure = optimizer.bfloat16_is_faster.__wrapped__  # without its cache
    assert measure('cpu') and measure('cuda')
    took_s[torch.bfloat16] = 3.0
    assert not measure('cpu') and measure('cuda')


def test_the_learning_rate_is_constant_before_it_decays() -> None:
    rates = [optimizer.rate(1.0, step, 10, 100, 0.6) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert rates[10:61] == pytest.approx([1.0] * 51)
    assert rates[80] == pytest.approx((1.0 + 0.02) / 2)
    assert rates[100] == pytest.approx(0.02)


def test_without_a_constant_part_the_learning_rate_decays_after_the_warm_up() -> None:
    rates = [optimizer.rate(1.0, step, 10, 110) for step in range(111)]
    assert rates[10] == pytest.approx(1.0) and rates[60] == pytest.approx(0.51)
    assert rates[110] == pytest.approx(0.02)
