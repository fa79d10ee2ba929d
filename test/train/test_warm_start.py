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


def seen(net: VLJEPA) -> Tensor:
    """Return the answers about noise images."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.randint(0, 255, (2, 3, 2, 32, 32, 3), dtype=torch.uint8, generator=generator)
    prompts = torch.randn(2, 1, 5, net.config.text_tower.width, generator=generator)
    answers: Tensor = net(frames, prompts, torch.ones(2, 1, 5, dtype=torch.bool))
    return answers


def test_a_deeper_net_answers_at_first_as_the_old_one(tiny_folder: Path) -> None:
    same, more = seen(deeper(tiny_folder, 2)), seen(deeper(tiny_folder, 4))
    assert same.abs().max() > 0.05
    torch.testing.assert_close(more, same)


def test_new_layers_learn(tiny_folder: Path) -> None:
    net = deeper(tiny_folder, 3)
    before = seen(net).detach()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        seen(net)[..., 0].sum().backward()
        optimizer.step()
    new = (net.x_encoder.blocks[2], net.predictor.blocks[2])
    for block in new:
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in block.parameters())
    assert (seen(net) - before).abs().max() > 1e-3


def test_a_net_of_another_shape_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match='fit'):
        deeper(tiny_folder, 1)


def finer(folder: Path, channels: int = 16) -> VLJEPA:
    """Return a net for images of twice the size with an additional first stage, from `folder`."""
    config = read_config(folder)
    assert isinstance(config, ModelConfig)
    torch.manual_seed(1)
    encoder = replace(
        config.x_encoder,
        image_size=2 * config.x_encoder.image_size,
        stem=(channels, *config.x_encoder.stem),
        normalize_first=False,
    )
    net = VLJEPA(replace(config, x_encoder=encoder), PARTS)
    start_from(net, folder, PARTS)
    return net


def test_a_net_with_a_finer_stem_sees_doubled_images_as_the_old_one_does(
    tiny_folder: Path,
) -> None:
    old = deeper(tiny_folder, 2)
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(0, 255, (2, 3, 4, 4), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, (64, 64), mode='bicubic').clamp(0, 255)
    images = smooth.round().to(torch.uint8).movedim(1, -1)
    halved = images[:, ::2, ::2]  # nothing is lost: they are smooth
    with torch.inference_mode():
        expected = old.x_encoder(halved[:, None, None].repeat(1, 3, 2, 1, 1, 1))
        found = finer(tiny_folder).x_encoder(images[:, None, None].repeat(1, 3, 2, 1, 1, 1))
    assert expected.shape == found.shape
    alike = torch.nn.functional.cosine_similarity(found, expected, dim=-1)
    assert alike.min() > 0.97 and alike.mean() > 0.99
    assert expected[0].sub(expected[1]).abs().max() > 0.1  # the outputs differ between images


def test_a_finer_stem_needs_a_pair_of_channels_for_each_of_the_image(tiny_folder: Path) -> None:
    with pytest.raises(InputError, match='12'):
        finer(tiny_folder, channels=8)
