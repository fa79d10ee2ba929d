# SPDX-License-Identifier: Apache-2.0
"""Choices of trainable parameters (heads, LoRA adapters, all), and insertion of LoRA adapters.

LoRA adapters (Hu et al., arXiv 2106.09685) come from `peft`, an optional package. They exist only
during training: `merged` adds them to the weights, so the result is an ordinary model.
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
    """Settings of low-rank adaptation, which replaces weights W by W + alpha / rank * B A.

    Raises:
        InputError: `rank` or `alpha` is out of range.
    """

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Raise InputError if `rank` or `alpha` is out of range."""
        if not 1 <= self.rank <= 1024:
            raise InputError(f'lora.rank ({self.rank}) is not in 1..1024')
        if not 0 < self.alpha <= 1e4:
            raise InputError(f'lora.alpha ({self.alpha:g}) must be above 0 and at most 10000')


def check_tune(tune: str) -> None:
    """Raise InputError if `tune` is not one of `HOW_MUCH`: heads, lora or all."""
    if tune not in HOW_MUCH:
        raise InputError(f"tune '{tune:.40}' is unknown (known: {', '.join(HOW_MUCH)})")


def require(tune: str) -> None:
    """Raise InputError if `tune` is lora, but the package peft is not installed."""
    if tune != LORA:
        return
    try:
        import peft  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "tune: lora needs the Python package peft: run pip install 'vljepa_ros[tune]' "
            '(requirements/tune.txt), or set tune: heads'
        ) from error


def add_adapters(net: nn.Module, below: tuple[str, ...], lora: Lora) -> None:
    """Add LoRA adapters, in place, to all linear layers whose names have certain prefixes.

    Args:
        net: The network.
        below: Prefixes of the layers' names.
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
    """Merge all LoRA adapters of a network into its weights, in place, and return the network."""
    for module in list(net.modules()):
        for name, layer in list(module.named_children()):
            if hasattr(layer, 'lora_A'):
                layer.merge(safe_merge=True)  # type: ignore[operator]
                setattr(module, name, layer.get_base_layer())  # type: ignore[operator]
    if hasattr(net, 'peft_config'):  # otherwise, adapters could not be added again
        del net.peft_config
    return net
