# SPDX-License-Identifier: Apache-2.0
"""Weights of a model folder: read from safetensors, checked key by key, put into a module."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError

WEIGHTS = 'weights.safetensors'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def load_weights(net: nn.Module, path: Path, parts: tuple[str, ...]) -> None:
    """Fill the named parts of `net`. Raises ModelError: damaged, or of another shape."""
    net.load_state_dict(read_weights(net, path, parts))


def place_weights(
    net: nn.Module, path: Path, parts: tuple[str, ...], device: torch.device, dtype: torch.dtype
) -> None:
    """As `load_weights`, but the stored tensors become the net's own, on `device` as `dtype`.

    So a net whose weights were never filled takes no memory for them twice. Buffers go to the
    device as they are: tables of rotary frequencies lose their meaning in bfloat16.
    """
    state = read_weights(net, path, parts)
    for key in list(state):
        state[key] = state[key].to(device=device, dtype=dtype)
    net.load_state_dict(state, assign=True)
    for buffer in net.buffers():
        buffer.data = buffer.data.to(device)


def read_weights(net: nn.Module, path: Path, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """The stored tensors of the named parts, which are those that `net` wants."""
    try:
        with safe_open(path, framework='pt') as stored:
            keys = [key for key in stored.keys() if key.split('.')[0] in parts]  # noqa: SIM118
            state = {key: stored.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    check_weights(net, state, str(path))
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f'{path}: {key} holds values that are not finite')
    return state


def stored_dtype(folder: Path) -> torch.dtype:
    """The type that a folder's weights are stored in. Raises ModelError: missing or damaged."""
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework='pt') as stored:
            for key in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(key)
                if tensor.is_floating_point():
                    return tensor.dtype
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    raise ModelError(f'{path} holds no weights')


def check_weights(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Raise ModelError at the first tensor that is missing, unexpected or of another shape."""
    wanted = net.state_dict()
    for key in sorted(set(wanted) ^ set(state)):
        what = 'lacks' if key in wanted else 'has an unexpected'
        raise ModelError(f'{where} {what} tensor {key}')
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise ModelError(
                f'{where}: {key} of shape {tuple(value.shape)} does not match the model '
                f'{tuple(wanted[key].shape)}'
            )
