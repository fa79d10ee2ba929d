# SPDX-License-Identifier: Apache-2.0
"""Warm start of training from the weights of an existing model, which may have fewer layers.

Additional layers are appended and initialized as the identity, so the outputs of the deeper
network initially equal those of the existing model (Chen et al., "Net2Net", arXiv 1511.05641).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import WEIGHTS, load_weights, read_config
from vljepa_ros.model.streaming.block import Block
from vljepa_ros.model.streaming.network import VISION, VLJEPA


def start_from(net: VLJEPA, folder: Path, parts: tuple[str, ...]) -> None:
    """Load the weights of a model folder into `net`; additional layers become the identity.

    Args:
        net: The network to train.
        folder: Folder of the model to start from.
        parts: Parts of the network to load, such as 'x_encoder'.

    Raises:
        InputError: The model is not of kind streaming, or does not fit `net`: it has more layers,
            or tensors of other shapes.
        ModelError: The folder is missing or damaged.
    """
    config = read_config(folder)
    if not isinstance(config, ModelConfig):
        raise InputError(
            f'start: {folder} is a model of kind {config.kind}, but must be of kind streaming'
        )
    before = VLJEPA(config, parts)
    load_weights(before, folder / WEIGHTS, parts)
    state = before.state_dict()
    try:
        net.load_state_dict({**net.state_dict(), **state})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f'start: {folder} does not fit the configured model: {reason}') from error
    for part in VISION:
        old, new = (getattr(of, part).blocks for of in (before, net))
        for block in new[len(old) :]:
            add_nothing(block)


def add_nothing(block: Block) -> None:
    """Initialize a transformer block as the identity: its residual branches output zero."""
    with torch.no_grad():
        for last in (block.project, block.mlp[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
