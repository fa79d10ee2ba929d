# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from vljepa_ros.train import optimizer

CPU = torch.device('cpu')


@pytest.mark.parametrize('wanted', [False, True])
@pytest.mark.parametrize('faster', [False, True])
def test_bfloat16_is_used_where_it_is_wanted_and_faster(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, faster: bool
) -> None:
    monkeypatch.setattr(optimizer, 'bfloat16_is_faster', lambda device: faster)
    with optimizer.autocast(CPU, wanted):
        found = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert found == (torch.bfloat16 if wanted and faster else torch.float32)


def test_what_is_faster_on_a_cpu_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    took_s = {torch.float32: 2.0, torch.bfloat16: 1.0}
    clock = [0.0]

    def linear(a: torch.Tensor, _: torch.Tensor) -> None:
        clock[0] += took_s[a.dtype]

    monkeypatch.setattr(optimizer.functional, 'linear', linear)
    monkeypatch.setattr(optimizer.time, 'process_time', lambda: clock[0])
    measure = optimizer.bfloat16_is_faster.__wrapped__  # what is kept is not asked
    assert measure('cpu') and measure('cuda')
    took_s[torch.bfloat16] = 3.0
    assert not measure('cpu') and measure('cuda')


def test_the_learning_rate_is_constant_before_it_decays() -> None:
    course = [optimizer.rate(1.0, step, 10, 100, 0.6) for step in range(101)]
    assert course[0] == pytest.approx(0.1) and course[9] == pytest.approx(1.0)
    assert course[10:61] == pytest.approx([1.0] * 51)
    assert course[80] == pytest.approx((1.0 + 0.02) / 2)
    assert course[100] == pytest.approx(0.02)


def test_without_a_constant_part_it_decays_after_the_warm_up() -> None:
    course = [optimizer.rate(1.0, step, 10, 110) for step in range(111)]
    assert course[10] == pytest.approx(1.0) and course[60] == pytest.approx(0.51)
    assert course[110] == pytest.approx(0.02)
