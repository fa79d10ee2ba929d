# SPDX-License-Identifier: Apache-2.0
"""Loading and validation of a model folder's weights, which are stored as safetensors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError

WEIGHTS = 'weights.safetensors'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def load_weights(net: nn.Module, path: Path, parts: tuple[str, ...]) -> None:
    """Load weights from a safetensors file into a module, keeping its device and dtype.

    Args:
        net: Module to load.
        path: The safetensors file.
        parts: Names of the submodules of `net`; other tensors in the file are ignored.

    Raises:
        ModelError: The file is missing or damaged, or its tensors do not match `net`.
    """
    net.load_state_dict(read_weights(net, path, parts))


def place_weights(
    net: nn.Module, path: Path, parts: tuple[str, ...], device: torch.device, dtype: torch.dtype
) -> None:
    """Replace a module's weights by those of a safetensors file, moved to a device and a dtype.

    Unlike `load_weights`, this does not copy into the existing weights of `net`, so it needs
    less memory. Buffers that are not stored move to the device but keep their dtype, because
    rotary frequencies are too imprecise in bfloat16.

    Args:
        net: Module to load.
        path: The safetensors file.
        parts: Names of the submodules of `net`; other tensors in the file are ignored.
        device: Device of the loaded weights.
        dtype: Dtype of the loaded weights.

    Raises:
        ModelError: The file is missing or damaged, or its tensors do not match `net`.
    """
    state = read_weights(net, path, parts)
    for key in list(state):
        state[key] = state[key].to(device=device, dtype=dtype)
    net.load_state_dict(state, assign=True)
    for buffer in net.buffers():
        buffer.data = buffer.data.to(device)


def read_weights(net: nn.Module, path: Path, parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Read a module's tensors from a safetensors file and check that they match the module.

    Args:
        net: Module whose tensor names and shapes the file must match.
        path: The safetensors file.
        parts: Names of the submodules of `net`; other tensors in the file are ignored.

    Returns:
        Tensors by name, on the CPU, in their stored dtype.

    Raises:
        ModelError: The file is missing or damaged, or its tensors do not match `net`.
    """
    try:
        with safe_open(path, framework='pt') as stored:
            keys = [key for key in stored.keys() if key.split('.')[0] in parts]  # noqa: SIM118
            state = {key: stored.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    check_weights(net, state, str(path))
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f'{path}: {key} contains values that are not finite')
    return state


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype of the first floating-point tensor in a model folder's weights.

    Raises:
        ModelError: The file is missing or damaged, or contains no weights.
    """
    path = folder / WEIGHTS
    try:
        with safe_open(path, framework='pt') as stored:
            for key in stored.keys():  # noqa: SIM118
                tensor = stored.get_tensor(key)
                if tensor.is_floating_point():
                    return tensor.dtype
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    raise ModelError(f'{path} contains no weights')


def check_weights(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Check that a state dict has the same tensor names and shapes as a module.

    Args:
        net: Module that the tensors are for.
        state: Tensors by name.
        where: Origin of the tensors for error messages, such as a path.

    Raises:
        ModelError: A tensor is missing, is unexpected, or has another shape.
    """
    expected = net.state_dict()
    for key in sorted(set(expected) ^ set(state)):
        what = 'lacks' if key in expected else 'has an unexpected'
        raise ModelError(f'{where} {what} tensor {key}')
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise ModelError(
                f'{where}: {key} of shape {tuple(value.shape)} does not match the model '
                f'{tuple(expected[key].shape)}'
            )
