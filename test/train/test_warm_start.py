# SPDX-License-Identifier: Apache-2.0
"""Warm start from a model folder with as many layers or fewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import read_config
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.warm_start import start_from

PARTS = ('x_encoder', 'predictor', 'y_encoder')


def deeper(folder: Path, layers: int) -> VLJEPA:
    """Return a net with this number of layers per stack, initialized from `folder`."""
    config = read_config(folder)
    assert isinstance(config, ModelConfig)
    torch.manual_seed(1)
    net = VLJEPA(
        replace(
            config,
            x_encoder=replace(config.x_encoder, layers=layers),
            predictor=replace(config.predictor, layers=layers),
        ),
        PARTS,
    )
    start_from(net, folder, PARTS)
    return net


def answers_of(net: VLJEPA) -> Tensor:
    """Return the answers about noise images."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 255, (2, 3, 2, 32, 32, 3), dtype=torch.uint8, generator=generator)
    prompts = torch.randn(2, 1, 5, net.config.text_tower.width, generator=generator)
    answers: Tensor = net(frames, prompts, torch.ones(2, 1, 5, dtype=torch.bool))
    return answers


def test_a_deeper_net_initially_gives_the_answers_of_its_start_model(tiny_folder: Path) -> None:
    shallow, deep = answers_of(deeper(tiny_folder, 2)), answers_of(deeper(tiny_folder, 4))
    assert shallow.abs().max() > 0.05
    torch.testing.assert_close(deep, shallow)


def test_new_layers_learn(tiny_folder: Path) -> None:
    net = deeper(tiny_folder, 3)
    before = answers_of(net).detach()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        answers_of(net)[..., 0].sum().backward()
        optimizer.step()
    new = (net.x_encoder.blocks[2], net.predictor.blocks[2])
    for block in new:
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in block.parameters())
    assert (answers_of(net) - before).abs().max() > 1e-3


def test_a_net_of_another_shape_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match='fit'):
        deeper(tiny_folder, 1)
