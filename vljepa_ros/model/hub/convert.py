# SPDX-License-Identifier: Apache-2.0
"""Conversion of downloaded checkpoint files (safetensors or pickle) to weights.safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.model.checkpoint_config import SourceConfig
from vljepa_ros.model.weights import WEIGHTS, check_weights

STATE = 'model_state_dict'  # key of the tensors in a training checkpoint


def convert(
    files: Iterable[tuple[SourceConfig, Path]],
    net: nn.Module,
    folder: Path,
    drawn: dict[str, Tensor] | None = None,
) -> Path:
    """Merge downloaded checkpoint files into weights.safetensors, in their published dtype.

    If this fails, an existing weights.safetensors is not changed.

    Args:
        files: Pairs of a source and the path of its downloaded file.
        net: Module of the model, on the meta device. Its tensor names and shapes must be equal to
            those of the merged files.
        folder: Model folder.
        drawn: Randomly initialized tensors by name, for weights that no file provides.

    Returns:
        The path of weights.safetensors.

    Raises:
        ModelError: A file is damaged or could run code, or the tensors do not match `net`.
        OutputError: The file cannot be written.
    """
    state: dict[str, Tensor] = dict(drawn or {})
    files = list(files)
    for file in dict.fromkeys(path for _, path in files):  # several sources may share one file
        tensors = read_tensors(file)
        for source in (source for source, path in files if path == file):
            state |= renamed(tensors, source)
    check_weights(net, state, 'the download')
    partial = folder / f'{WEIGHTS}.part'
    try:
        # Tensors of a pickled file may share memory, which safetensors cannot store.
        save_file({key: value.contiguous().clone() for key, value in state.items()}, partial)
        partial.replace(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f'cannot write {folder / WEIGHTS}: {error}') from error
    return folder / WEIGHTS


def renamed(state: dict[str, Tensor], source: SourceConfig) -> dict[str, Tensor]:
    """Return the tensors whose names start with a source's prefix, with its new prefix.

    Args:
        state: Tensors by name.
        source: The prefix is `rename_from`, the new prefix is `rename_to`.
    """
    prefix = source.rename_from
    return {
        source.rename_to + key[len(prefix) :]: value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file (safetensors or pickle) without executing its code.

    Args:
        path: The file; a pickle contains a state dict, or has it under the key `STATE`.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ModelError: The file is damaged or contains no state dict, or the pickle contains objects
            other than tensors and plain values.
    """
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f'{path.name} is damaged: {error}') from error
    try:
        found = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f'{path.name} is not loaded: it contains pickled objects other than tensors and plain '
            f'values, which could run code'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(f'{path.name} is damaged: {str(error).splitlines()[0]}') from error
    return _tensors(found, path)


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    state = found.get(STATE, found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f'{path.name} contains no state dict (tensors by name)')
    return {str(key): value for key, value in state.items()}
