# SPDX-License-Identifier: Apache-2.0
"""Training on from a model that is there, which may be less deep.

New layers are put behind the old ones and begin by adding nothing, so that the deeper net answers
at first exactly as the old one (Chen et al., "Net2Net", arXiv 1511.05641).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vljepa_ros.errors import InputError
from vljepa_ros.model.block import Block
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.registry import WEIGHTS, load_weights, read_config
from vljepa_ros.model.vljepa import EYES, VLJEPA


def start_from(net: VLJEPA, folder: Path, parts: tuple[str, ...]) -> None:
    """Fill the named parts of `net` with a model folder's weights.

    Raises:
        InputError: no streaming model, or of another shape but for its eyes' depth.
        ModelError: the folder is missing or damaged.
    """
    config = read_config(folder)
    if not isinstance(config, ModelConfig):
        raise InputError(f'start: {folder} is a model of kind {config.kind}, not streaming')
    before = VLJEPA(config, parts)
    load_weights(before, folder / WEIGHTS, parts)
    try:
        net.load_state_dict({**net.state_dict(), **before.state_dict()})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:200]
        raise InputError(f'start: {folder} does not fit the model: {reason}') from error
    for part in EYES:
        old, new = (getattr(of, part).blocks for of in (before, net))
        for block in new[len(old) :]:
            add_nothing(block)


def add_nothing(block: Block) -> None:
    """Let a block pass on what it gets."""
    with torch.no_grad():
        for last in (block.project, block.mlp[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.zero_()
            last.bias.zero_()
