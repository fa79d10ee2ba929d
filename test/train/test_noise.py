# SPDX-License-Identifier: Apache-2.0
"""Noise: as long as it was asked for, or shaped as what was measured."""

from __future__ import annotations

import numpy as np
import torch

from vljepa_ros.train.noise import EvenNoise, MeasuredNoise


def test_even_noise_is_at_most_so_long() -> None:
    torch.manual_seed(0)
    drawn = EvenNoise(0.4)(torch.zeros(2000, 8))
    length = drawn.norm(dim=-1)
    assert length.max() <= 0.4 + 1e-6 and abs(float(length.mean()) - 0.2) < 0.02
    assert drawn.mean(dim=0).abs().max() < 0.02
    assert not EvenNoise(0.0)(torch.zeros(3, 8)).any()


def test_measured_noise_has_the_covariance_of_the_residuals() -> None:
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(6, 6))
    residuals = torch.from_numpy(rng.normal(size=(1500, 6)) @ shape + 3.0)  # their mean is a gap
    torch.manual_seed(0)
    drawn = MeasuredNoise(residuals)(torch.zeros(20_000, 6, dtype=torch.float64))
    expected = np.cov(residuals.numpy().T)
    found = np.cov(drawn.numpy().T)
    assert np.abs(found - expected).max() < 0.07 * np.abs(expected).max()
    assert drawn.mean(dim=0).abs().max() < 0.1


def test_few_residuals_leave_no_direction_without_noise() -> None:
    rng = np.random.default_rng(0)
    residuals = torch.from_numpy(rng.normal(size=(20, 200)))
    torch.manual_seed(0)
    drawn = MeasuredNoise(residuals)(torch.zeros(4000, 200, dtype=torch.float64))
    spread = drawn.var(dim=0)
    assert spread.min() > 0.3  # the true variance is 1 everywhere
    assert abs(float(spread.sum()) / 200 - 1) < 0.25  # and it is as much as before in all
