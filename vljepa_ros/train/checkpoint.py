# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: written atomically, and readable only with an unchanged configuration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from vljepa_ros.core.errors import InputError
from vljepa_ros.train.config import TrainConfig

DECIDING = ('seed', 'start', 'model', 'text', 'vision')  # keys that must not change


def write(path: Path, config: TrainConfig, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: under a temporary name, which is then renamed.

    If the process is killed while it writes, the previous checkpoint remains valid.

    Args:
        path: Path of the checkpoint.
        config: Configuration of the run, which is stored as well.
        state: Tensors and numbers to store.
    """
    part = path.with_suffix('.part')
    torch.save({'config': _deciding(config), 'state': state}, part)
    part.replace(path)


def read(path: Path, config: TrainConfig) -> dict[str, Any] | None:
    """Return the `state` that `write` stored in a checkpoint; None if the file does not exist.

    Args:
        path: Path of the checkpoint.
        config: Configuration of the run, which must match that of the checkpoint.

    Raises:
        InputError: The checkpoint is damaged, or was written with another configuration; the
            message names the first key that differs.
    """
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True, map_location='cpu')
        before, state = found['config'], found['state']
    except Exception as error:  # torch raises various exceptions for damaged files
        raise InputError(
            f'{path} is not a valid checkpoint, remove it: {str(error).splitlines()[0]}'
        ) from error
    now = _deciding(config)
    for key in [*now, *before]:
        if now.get(key) != before.get(key):
            raise InputError(
                f'{path} was written with {key} {before.get(key)}, but the configuration has '
                f'{now.get(key)}: set another `out`, or remove the checkpoint'
            )
    return dict(state)


def _deciding(config: TrainConfig) -> dict[str, Any]:
    """Return the values of the configuration that a checkpoint depends on, by dotted key."""
    plain = dataclasses.asdict(config)
    del plain['model']['calibration'], plain['model']['familiarity']  # results of later stages
    return _flat({key: plain[key] for key in DECIDING})


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found.update(_flat(value, f'{prefix}{key}.'))
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found
