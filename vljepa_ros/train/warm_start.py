# SPDX-License-Identifier: Apache-2.0
"""Training on from an existing model, which may be less deep or have images of half the size.

New layers are put behind the old ones and begin by adding nothing, so that the deeper network
answers at first exactly as the old one (Chen et al., "Net2Net", arXiv 1511.05641). A further first
stage of the stem begins as the filter that halves an image: its channels come in pairs of opposite
sign, whose GELUs differ by their input, gelu(x) - gelu(-x) = x.
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
    """Fill the named parts of `net` with a model folder's weights.

    Raises:
        InputError: no streaming model, or one of another shape, but for depth and image size.
        ModelError: the folder is missing or damaged.
    """
    config = read_config(folder)
    if not isinstance(config, ModelConfig):
        raise InputError(f'start: {folder} is a model of kind {config.kind}, not streaming')
    before = VLJEPA(config, parts)
    load_weights(before, folder / WEIGHTS, parts)
    state = before.state_dict()
    if 'x_encoder' in parts and has_finer_stem(net.config.x_encoder, config.x_encoder):
        state = with_finer_stem(state, net)
    try:
        net.load_state_dict({**net.state_dict(), **state})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f'start: {folder} does not fit the model: {reason}') from error
    for part in VISION:
        old, new = (getattr(of, part).blocks for of in (before, net))
        for block in new[len(old) :]:
            add_nothing(block)


def has_finer_stem(new: XEncoderConfig, old: XEncoderConfig) -> bool:
    """Whether `new` is `old` for images of twice the size, with a first stage more."""
    return (
        new.stem[1:] == old.stem
        and new.image_size == 2 * old.image_size
        and not new.normalize_first
        and old.normalize_first
    )


def with_finer_stem(state: dict[str, Tensor], net: VLJEPA) -> dict[str, Tensor]:
    """The old model's tensors for `net`, whose stem begins by halving images as a filter does."""
    prefix = 'x_encoder.stem.layers.'
    first, second = net.x_encoder.stem.layers[0], net.x_encoder.stem.layers[2]
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    old = state[f'{prefix}0.weight']  # (C, channels, 3, 3)
    channels = old.shape[1]
    if 2 * channels > first.out_channels:
        raise InputError(
            f'start: a finer stem needs {2 * channels} channels in its first stage, '
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
    """Let a block pass on what it gets."""
    with torch.no_grad():
        for last in (block.project, block.mlp[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
