# SPDX-License-Identifier: Apache-2.0
"""Warm start from an existing model, which may have fewer layers or images of half the size.

New layers are appended and initialized to add zero, so the initial outputs of the deeper network
equal those of the old one (Chen et al., "Net2Net", arXiv 1511.05641). An additional first stage of
the stem is initialized as a filter that halves the image: its channels are pairs of opposite sign,
which restore the linear value after GELU because gelu(x) - gelu(-x) = x.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.config import ModelConfig, XEncoderConfig
from vljepa_ros.model.registry import WEIGHTS, load_weights, read_config
from vljepa_ros.model.streaming.block import Block
from vljepa_ros.model.streaming.network import VISION, VLJEPA


def start_from(net: VLJEPA, folder: Path, parts: tuple[str, ...]) -> None:
    """Fill the parts of `net` with a model folder's weights.

    Args:
        net: The network to train.
        folder: Folder of the start model.
        parts: Names of the parts.

    Raises:
        InputError: The model is not of kind streaming, or differs in more than depth and image
            size.
        ModelError: The folder is missing or damaged.
    """
    config = read_config(folder)
    if not isinstance(config, ModelConfig):
        raise InputError(
            f'start: {folder} is a model of kind {config.kind}, but it must be of kind streaming'
        )
    before = VLJEPA(config, parts)
    load_weights(before, folder / WEIGHTS, parts)
    state = before.state_dict()
    if 'x_encoder' in parts and has_finer_stem(net.config.x_encoder, config.x_encoder):
        state = with_finer_stem(state, net)
    try:
        net.load_state_dict({**net.state_dict(), **state})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f'start: {folder} does not fit the configured model: {reason}') from error
    for part in VISION:
        old, new = (getattr(of, part).blocks for of in (before, net))
        for block in new[len(old) :]:
            add_nothing(block)


def has_finer_stem(new: XEncoderConfig, old: XEncoderConfig) -> bool:
    """Return whether `new` is `old` with twice the image size and an additional first stage."""
    return (
        new.stem[1:] == old.stem
        and new.image_size == 2 * old.image_size
        and not new.normalize_first
        and old.normalize_first
    )


def with_finer_stem(state: dict[str, Tensor], net: VLJEPA) -> dict[str, Tensor]:
    """Convert the old model's tensors for `net`, whose stem starts with a downsampling filter."""
    prefix = 'x_encoder.stem.layers.'
    first, second = net.x_encoder.stem.layers[0], net.x_encoder.stem.layers[2]
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    old = state[f'{prefix}0.weight']  # (C, channels, 3, 3)
    channels = old.shape[1]
    if 2 * channels > first.out_channels:
        raise InputError(
            f'start: the additional first stage of the stem must have {2 * channels} channels, '
            f'not {first.out_channels}'
        )
    halving = torch.tensor([1.0, 2.0, 1.0]) / 4.0
    weight, bias = 0.1 * first.weight.detach().clone(), torch.zeros(first.out_channels)
    weight[: 2 * channels] = 0.0
    spread = torch.zeros_like(second.weight)
    for channel in range(channels):
        for at, sign in ((2 * channel, 1.0), (2 * channel + 1, -1.0)):
            weight[at, channel] = sign * torch.outer(halving, halving)
            spread[:, at] = sign * old[:, channel]
    moved = {
        f'{prefix}0.weight': weight,
        f'{prefix}0.bias': bias,
        f'{prefix}2.weight': spread,
        f'{prefix}2.bias': state[f'{prefix}0.bias'],
    }
    for key, value in state.items():
        if key.startswith(prefix) and not key.startswith(f'{prefix}0.'):
            number, name = key.removeprefix(prefix).split('.')
            moved[f'{prefix}{int(number) + 2}.{name}'] = value
        elif not key.startswith(prefix):
            moved[key] = value
    return moved


def add_nothing(block: Block) -> None:
    """Initialize a block as the identity."""
    with torch.no_grad():
        for last in (block.project, block.mlp[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
