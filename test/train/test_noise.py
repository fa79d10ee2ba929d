# SPDX-License-Identifier: Apache-2.0
"""Noise with the requested length, or with the measured covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from vljepa_ros.train.noise import IsotropicNoise, MeasuredNoise, shrinkage


def test_isotropic_noise_has_at_most_the_requested_length() -> None:
    torch.manual_seed(0)
    drawn = IsotropicNoise(0.4)(torch.zeros(2000, 8))
    length = drawn.norm(dim=-1)
    assert length.max() <= 0.4 + 1e-6 and abs(float(length.mean()) - 0.2) < 0.02
    assert drawn.mean(dim=0).abs().max() < 0.02
    assert not IsotropicNoise(0.0)(torch.zeros(3, 8)).any()


def pairs(count: int, dim: int, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and texts (count, dim); the difference has the covariance of `spread`."""
    texts = functional.normalize(torch.randn(count, dim, dtype=torch.float64), dim=-1)
    added = torch.randn(count, len(spread), dtype=torch.float64) @ spread
    return functional.normalize(texts + added, dim=-1), texts


def test_texts_with_measured_noise_have_the_cosines_of_predictions() -> None:
    torch.manual_seed(0)
    spread = 0.25 * functional.normalize(torch.randn(12, 64, dtype=torch.float64), dim=-1)
    predictions, texts = pairs(600, 64, spread)
    noise = MeasuredNoise(predictions, texts)
    noisy = functional.normalize(texts + noise(texts), dim=-1)
    cosines = [(v * texts).sum(dim=-1) for v in (predictions, noisy)]
    assert 0.6 < cosines[0].mean() < 0.85  # they are far off
    assert abs(cosines[0].mean() - cosines[1].mean()) < 0.03
    assert abs(cosines[0].std() - cosines[1].std()) < 0.03


def test_measured_noise_lies_in_the_directions_of_the_residuals() -> None:
    torch.manual_seed(0)
    spread = torch.zeros(1, 16, dtype=torch.float64)
    spread[0, 3] = 0.4
    drawn = MeasuredNoise(*pairs(1000, 16, spread))(torch.zeros(4000, 16, dtype=torch.float64))
    variance = drawn.var(dim=0)
    assert variance.argmax() == 3 and variance[3] > 20 * variance.sort().values[-2]


def test_few_residuals_leave_no_direction_without_noise() -> None:
    torch.manual_seed(0)
    spread = 0.07 * torch.eye(200, dtype=torch.float64)
    noise = MeasuredNoise(*pairs(20, 200, spread))
    variance = noise(torch.zeros(4000, 200, dtype=torch.float64)).var(dim=0)
    assert variance.min() > 0.3 * 0.07**2  # twenty pairs span a tenth of the directions


@pytest.mark.parametrize('count', [10, 100, 1000])
def test_shrinkage_equals_scikit_learn(count: int) -> None:
    covariance = pytest.importorskip('sklearn.covariance')
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(count, 30)) * np.linspace(0.1, 2, 30)
    expected = covariance.ledoit_wolf_shrinkage(drawn, assume_centered=True)
    assert shrinkage(torch.from_numpy(drawn)) == pytest.approx(expected)
