# SPDX-License-Identifier: Apache-2.0
"""What of a model is trained: the Predictor's heads, adapters in its eyes, or all of its eyes.

Adapters are LoRA's (Hu et al., arXiv 2106.09685) by `peft`, an optional package. They live during
training only: `merged` puts them into the weights, and the result is an ordinary model.
"""

from __future__ import annotations

from torch import nn

from vljepa_ros.errors import InputError
from vljepa_ros.model.vljepa import EYES, VLJEPA
from vljepa_ros.train.tuning.config import ALL, LORA, TuneConfig

HEAD_LAYERS = ('norm', 'head')  # of the Predictor: behind all attention


def choose(net: VLJEPA, config: TuneConfig) -> list[nn.Parameter]:
    """Freeze all of `net` but what `config.tune` names; returns the eyes' parameters to train.

    Raises:
        InputError: LoRA is asked for without peft.
    """
    require(config.tune)
    net.requires_grad_(False)
    if config.tune == LORA:
        _add_adapters(net, config)
    if config.tune == ALL:
        for part in EYES:
            getattr(net, part).requires_grad_(True)
    for layer in HEAD_LAYERS:
        getattr(net.predictor, layer).requires_grad_(True)
    return [p for part in EYES for p in getattr(net, part).parameters() if p.requires_grad]


def require(tune: str) -> None:
    """Raise InputError where the package that `tune` needs is absent: how to get it."""
    if tune != LORA:
        return
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "tune: lora needs the Python package peft: pip install 'vljepa_ros[tune]' "
            "(requirements/tune.txt), or tune 'heads'"
        ) from error


def merged(net: VLJEPA) -> VLJEPA:
    """The same network without adapters: what they learned is in the weights. In place."""
    for module in list(net.modules()):
        for name, layer in list(module.named_children()):
            if hasattr(layer, 'lora_A'):
                layer.merge(safe_merge=True)  # type: ignore[operator]
                setattr(module, name, layer.get_base_layer())  # type: ignore[operator]
    return net


def _add_adapters(net: VLJEPA, config: TuneConfig) -> None:
    """Beside every linear layer of the blocks in both stacks of the eyes."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(tuple(f'{p}.blocks' for p in EYES))
    ]
    lora = LoraConfig(
        r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=targets, bias='none'
    )
    inject_adapter_in_model(lora, net)
