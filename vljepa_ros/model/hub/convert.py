# SPDX-License-Identifier: Apache-2.0
"""Downloaded weights, pickled or not -> one weights.safetensors under the net's own names."""

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

STATE = 'model_state_dict'  # where a checkpoint of a training run keeps its tensors


def convert(
    files: Iterable[tuple[SourceConfig, Path]],
    net: nn.Module,
    folder: Path,
    drawn: dict[str, Tensor] | None = None,
) -> Path:
    """Write the tensors of all files, if they are exactly those of `net` (on the meta device).

    They keep the dtype that they were published in. What is `drawn` is in no file. Raises
    ModelError or OutputError, and then leaves nothing.
    """
    state: dict[str, Tensor] = dict(drawn or {})
    files = list(files)
    for file in dict.fromkeys(path for _, path in files):  # several sources may be of one
        tensors = read_tensors(file)
        for source in (source for source, path in files if path == file):
            state |= renamed(tensors, source)
    check_weights(net, state, 'the download')
    partial = folder / f'{WEIGHTS}.part'
    try:
        # Tensors that share memory cannot be stored: those of a pickled file may.
        save_file({key: value.contiguous().clone() for key, value in state.items()}, partial)
        partial.replace(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f'{folder / WEIGHTS} cannot be written: {error}') from error
    return folder / WEIGHTS


def renamed(state: dict[str, Tensor], source: SourceConfig) -> dict[str, Tensor]:
    """Those whose names begin with `rename_from`, with `rename_to` in its place."""
    begin = source.rename_from
    return {
        source.rename_to + key[len(begin) :]: value
        for key, value in state.items()
        if key.startswith(begin)
    }


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle that holds nothing that could run."""
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f'{path.name} is damaged: {error}') from error
    try:
        found = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f'{path.name} is refused: it holds more than tensors and plain values'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(f'{path.name} is damaged: {str(error).splitlines()[0]}') from error
    return _tensors(found, path)


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    state = found.get(STATE, found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f'{path.name} holds no state dict')
    return {str(key): value for key, value in state.items()}
