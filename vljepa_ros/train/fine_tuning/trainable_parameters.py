# SPDX-License-Identifier: Apache-2.0
"""Selection of the trainable parameters of the vision side: heads, adapters, or all."""

from __future__ import annotations

from torch import nn

from vljepa_ros.model.streaming.network import VISION, VLJEPA
from vljepa_ros.train.adapters import ALL, LORA, add_adapters, require
from vljepa_ros.train.fine_tuning.config import FineTuningConfig

HEAD_LAYERS = ('norm', 'head')  # layers of the Predictor after its transformer blocks


def select_parameters(net: VLJEPA, config: FineTuningConfig) -> list[nn.Parameter]:
    """Freeze `net` except the parameters that `config.tune` selects, and return those.

    With `lora`, LoRA adapters are added to the network first.

    Raises:
        InputError: `lora` was selected, but peft is not installed.
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
