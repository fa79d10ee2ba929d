# SPDX-License-Identifier: Apache-2.0
"""Warm start from an existing model, which may have fewer layers.

New layers are appended and initialized to add zero, so the initial outputs of the deeper network
equal those of the old one (Chen et al., "Net2Net", arXiv 1511.05641).
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
    """Fill the parts of `net` with a model folder's weights.

    Args:
        net: The network to train.
        folder: Folder of the start model.
        parts: Names of the parts.

    Raises:
        InputError: The model is not of kind streaming, or differs in more than depth.
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
    """Initialize a block as the identity."""
    with torch.no_grad():
        for last in (block.project, block.mlp[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
