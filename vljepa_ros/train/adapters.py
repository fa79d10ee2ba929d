# SPDX-License-Identifier: Apache-2.0
"""How much of a model is trained: its heads, adapters beside its layers as well, or all.

Adapters are LoRA's (Hu et al., arXiv 2106.09685) by `peft`, an optional package. They live during
training only: `merged` puts them into the weights, and the result is an ordinary model.
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
        InputError: a number is out of range.
    """

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        """Check both."""
        if not 1 <= self.rank <= 1024:
            raise InputError(f'lora.rank ({self.rank}) is not in 1..1024')
        if not 0 < self.alpha <= 1e4:
            raise InputError(f'lora.alpha ({self.alpha:g}) is not in 0..10000')


def check_tune(tune: str) -> None:
    """Raise InputError for what is none of HOW_MUCH."""
    if tune not in HOW_MUCH:
        raise InputError(f"tune '{tune:.40}' is unknown (known: {', '.join(HOW_MUCH)})")


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


def add_adapters(net: nn.Module, below: tuple[str, ...], lora: Lora) -> None:
    """Beside every linear layer of the modules whose names begin so; in place."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(below)
    ]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, bias='none')
    inject_adapter_in_model(config, net)


def merged(net: Net) -> Net:
    """The same network without adapters: what they learned is in the weights. In place."""
    for module in list(net.modules()):
        for name, layer in list(module.named_children()):
            if hasattr(layer, 'lora_A'):
                layer.merge(safe_merge=True)  # type: ignore[operator]
                setattr(module, name, layer.get_base_layer())  # type: ignore[operator]
    if hasattr(net, 'peft_config'):  # or others could not be added later
        del net.peft_config
    return net
