# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: written atomically, and readable only with an unchanged configuration.

Only the sections of the configuration that decide the result of a checkpoint's stage must be
unchanged.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from vljepa_ros.core.errors import InputError
from vljepa_ros.train.config import TrainConfig

# Sections that decide the result of a stage, by the name of its checkpoint without suffix. The
# vision side learns to predict the embeddings of the texts.
DECIDING = {'texts': ('text',), 'region_finder': ('regions',), 'vision': ('text', 'vision')}
DECIDING_ALL = ('seed', 'start', 'model')  # keys that decide the results of all stages


def write(path: Path, config: TrainConfig, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically: under a temporary name, which is then renamed.

    If the process is killed while it writes, the previous checkpoint remains valid.

    Args:
        path: Path of the checkpoint; its name is that of a stage in `DECIDING`.
        config: Configuration of the run, of which the deciding part is stored as well.
        state: Tensors and numbers to store.
    """
    part = path.with_suffix('.part')
    torch.save({'config': _deciding(path, config), 'state': state}, part)
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
    now = _deciding(path, config)
    # Earlier versions stored other sections: without `regions`, but with those of other stages.
    common = {_section(key) for key in now} & {_section(key) for key in before}
    for key in [*now, *before]:
        if _section(key) in common and now.get(key) != before.get(key):
            raise InputError(
                f'{path} was written with {key} {before.get(key)}, but the configuration has '
                f'{now.get(key)}: set another `out`, or remove the checkpoint'
            )
    return dict(state)


def _deciding(path: Path, config: TrainConfig) -> dict[str, Any]:
    """Return the values of the configuration that a checkpoint depends on, by dotted key."""
    plain = dataclasses.asdict(config)
    del plain['model']['calibration'], plain['model']['familiarity']  # results of later stages
    return _flat({key: plain[key] for key in (*DECIDING_ALL, *DECIDING[path.stem])})


def _section(key: str) -> str:
    return key.partition('.')[0]


def _flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found.update(_flat(value, f'{prefix}{key}.'))
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found
