# SPDX-License-Identifier: Apache-2.0
"""Choices of trainable parameters (heads, LoRA adapters, all), and LoRA adapters.

Adapters (LoRA, Hu et al., arXiv 2106.09685) come from `peft`, an optional package. They exist only
during training: `merged` adds them to the weights, and the result is an ordinary model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from vljepa_ros.core.errors import InputError

HEADS, LORA, ALL = 'heads', 'lora', 'all'
HOW_MUCH = (HEADS, LORA, ALL)
Net = TypeVar('Net', bound=nn.Module)


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation: W + alpha / rank * B A.

    Raises:
        InputError: A number is out of range.
    """

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Validate both fields."""
        if not 1 <= self.rank <= 1024:
            raise InputError(f'lora.rank ({self.rank}) is not in 1..1024')
        if not 0 < self.alpha <= 1e4:
            raise InputError(f'lora.alpha ({self.alpha:g}) must be above 0 and at most 10000')


def check_tune(tune: str) -> None:
    """Raise InputError if `tune` is not in HOW_MUCH."""
    if tune not in HOW_MUCH:
        raise InputError(f"tune '{tune:.40}' is unknown (known: {', '.join(HOW_MUCH)})")


def require(tune: str) -> None:
    """Raise InputError, with instructions, if the package that `tune` needs is not installed."""
    if tune != LORA:
        return
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "tune: lora needs the Python package peft: pip install 'vljepa_ros[tune]' "
            "(requirements/tune.txt), or tune 'heads'"
        ) from error


def add_adapters(net: nn.Module, below: tuple[str, ...], lora: Lora) -> None:
    """Add adapters in place to all linear layers of some modules.

    Args:
        net: The network.
        below: Name prefixes of the modules.
        lora: Rank and scale of the adapters.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(below)
    ]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, bias='none')
    inject_adapter_in_model(config, net)


def merged(net: Net) -> Net:
    """Merge all adapters into the weights, in place, and return the network."""
    for module in list(net.modules()):
        for name, layer in list(module.named_children()):
            if hasattr(layer, 'lora_A'):
                layer.merge(safe_merge=True)  # type: ignore[operator]
                setattr(module, name, layer.get_base_layer())  # type: ignore[operator]
    if hasattr(net, 'peft_config'):  # otherwise, adapters could not be added again
        del net.peft_config
    return net
