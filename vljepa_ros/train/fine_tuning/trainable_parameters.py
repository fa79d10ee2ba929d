# SPDX-License-Identifier: Apache-2.0
"""What of a streaming model's eyes is trained: the Predictor's heads, adapters, or all of them."""

from __future__ import annotations

from torch import nn

from vljepa_ros.model.streaming.network import VISION, VLJEPA
from vljepa_ros.train.adapters import ALL, LORA, add_adapters, require
from vljepa_ros.train.fine_tuning.config import TuneConfig

HEAD_LAYERS = ('norm', 'head')  # of the Predictor: behind all attention


def choose(net: VLJEPA, config: TuneConfig) -> list[nn.Parameter]:
    """Freeze all of `net` but what `config.tune` names; returns the eyes' parameters to train.

    Raises:
        InputError: LoRA is asked for without peft.
    """
    require(config.tune)
    net.requires_grad_(False)
    if config.tune == LORA:
        add_adapters(net, tuple(f'{part}.blocks' for part in VISION), config.lora)
    if config.tune == ALL:
        for part in VISION:
            getattr(net, part).requires_grad_(True)
    for layer in HEAD_LAYERS:
        getattr(net.predictor, layer).requires_grad_(True)
    return [p for part in VISION for p in getattr(net, part).parameters() if p.requires_grad]
