# SPDX-License-Identifier: Apache-2.0
"""Token states of texts are computed once for all processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vljepa_ros.model.config import TextTowerConfig
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.text_bank import TextBank

TEXTS = ['it is dark', 'the robot opens the red drawer', '', 'the arm rests', 'it is dark']
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def tower() -> TextTower:
    """Return the real text tower."""
    return TextTower(TextTowerConfig(), CPU)


def expected(tower: TextTower, text: str) -> np.ndarray:
    """Return the token states of one text alone."""
    states, _ = tower.states([text], 64)
    found: np.ndarray = states[0].numpy()
    return found


@pytest.mark.parametrize('first_rows', [1, 7, 1000])
def test_states_equal_the_text_towers_at_any_initial_size(
    tower: TextTower, first_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('vljepa_ros.train.text_bank.FIRST_ROWS', first_rows)
    bank = TextBank(tower)
    for texts in (TEXTS[:1], TEXTS[1:3], TEXTS):
        states, mask = bank.states(texts)
        for text, row, used in zip(texts, states, mask, strict=True):
            np.testing.assert_allclose(row[used].numpy(), expected(tower, text), atol=2e-3)


def test_states_cached_in_inference_mode_can_be_used_in_training(tower: TextTower) -> None:
    with torch.inference_mode():
        bank = TextBank(tower)
        bank.states(TEXTS[:1])
    weight = torch.ones((), requires_grad=True)
    states, _ = bank.states(TEXTS)
    (states * weight).sum().backward()
    assert weight.grad is not None and weight.grad.isfinite()


def test_stored_states_are_not_computed_again(
    tower: TextTower, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, workers = tmp_path / 'tokens.pt', Workers(CPU)
    TextBank(tower).prepare(TEXTS, path, workers)
    before = [expected(tower, text) for text in TEXTS]
    again = TextBank(tower)
    monkeypatch.setattr(tower, 'states', None)
    again.prepare(TEXTS, path, workers)
    for row, used, known in zip(*again.states(TEXTS), before, strict=True):
        np.testing.assert_allclose(row[used].numpy(), known, atol=2e-3)
