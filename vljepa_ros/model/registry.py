# SPDX-License-Identifier: Apache-2.0
"""Registry of installed models: finds a model folder by name and loads the model.

A model folder contains `model.yaml` and weights. It is searched for in the folders that the
environment variable VLJEPA_MODELS lists (separated by os.pathsep), in `models/` beside the
package, and in `share/vljepa_ros/models` of the installation prefix.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch import nn

from vljepa_ros.core.cpu_cores import cores
from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.settings import check_integer, check_text, texts_of
from vljepa_ros.core.text import quoted
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.classifier.config import ClassifierConfig
from vljepa_ros.model.config import CONFIG, ModelConfig, parse
from vljepa_ros.model.devices import pick_device
from vljepa_ros.model.dual_encoder.config import DualConfig
from vljepa_ros.model.streaming.loading import assemble, save
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.model.weights import DTYPES, WEIGHTS, load_weights

__all__ = [
    'CONFIG', 'DTYPES', 'VLJEPA', 'WEIGHTS', 'assemble', 'available', 'find', 'folders', 'free',
    'load', 'load_weights', 'make', 'pick_device', 'prepare', 'read_config', 'save',
]  # fmt: skip

SMALL_WEIGHTS = 50_000_000
MOST_THREADS = 1024
SIDES = ('vision', 'language', 'bank')  # what `load` can load of a model

AnyConfig = ModelConfig | BidirectionalConfig | DualConfig | ClassifierConfig

# Configuration class and loading module of each kind. The module is imported on demand, because
# the larger kinds require `transformers`.
KINDS: dict[str, tuple[type[AnyConfig], str]] = {
    'streaming': (ModelConfig, 'vljepa_ros.model.streaming.loading'),
    'bidirectional': (BidirectionalConfig, 'vljepa_ros.model.bidirectional.loading'),
    'dual_encoder': (DualConfig, 'vljepa_ros.model.dual_encoder.loading'),
    'classifier': (ClassifierConfig, 'vljepa_ros.model.classifier.loading'),
}


def folders() -> list[Path]:
    """Return the existing folders that are searched for model folders, in search order."""
    own = Path(__file__).resolve().parents[2]
    found = [Path(item) for item in os.environ.get('VLJEPA_MODELS', '').split(os.pathsep) if item]
    found.append(own / 'models')
    prefixes = [Path(sys.prefix), *(parent for parent in Path(__file__).resolve().parents)]
    found += [prefix / 'share' / 'vljepa_ros' / 'models' for prefix in prefixes]
    return [folder for folder in dict.fromkeys(found) if os.path.isdir(folder)]


def available() -> dict[str, Path]:
    """Return a dict from the name of each installed model to its folder."""
    names: dict[str, Path] = {}
    for folder in folders():
        for config in sorted(folder.glob(f'*/{CONFIG}')):
            names.setdefault(config.parent.name, config.parent)
    return names


def find(name_or_dir: str | os.PathLike[str]) -> Path:
    """Return the folder of a model that is specified by its name or by a path.

    Raises:
        ModelError: The model is unknown; the message lists the installed models.
    """
    name = os.fspath(name_or_dir)
    if name and _is_file(Path(name) / CONFIG):
        return Path(name)
    names = available()
    if name not in names:
        known = ', '.join(names) or 'none installed'
        raise ModelError(
            f"unknown model '{quoted(name)}' (known: {known}; or use a folder with {CONFIG})"
        )
    return names[name]


def _is_file(path: Path) -> bool:
    try:
        return os.path.isfile(path)  # Path.is_file raises if a name is too long
    except ValueError:  # a NUL character
        return False


def read_config(folder: Path) -> AnyConfig:
    """Read and validate the model.yaml of a model folder.

    Raises:
        ModelError: The file is unreadable or invalid; the message names the file and the reason.
    """
    path = folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text())
        return parse(_config_class(values), values, CONFIG)
    except ModelError as error:
        raise ModelError(f'{folder}: {error}') from error
    except yaml.MarkedYAMLError as error:
        line = f'line {error.problem_mark.line + 1}: ' if error.problem_mark else ''
        raise ModelError(f'{path}: {line}{error.problem}') from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error


def _config_class(values: object) -> type[AnyConfig]:
    kind = str(values.get('kind', 'streaming')) if isinstance(values, dict) else 'streaming'
    if kind not in KINDS:
        raise ModelError(f"unknown model kind '{kind:.40}' (known: {', '.join(KINDS)})")
    return KINDS[kind][0]


def load(
    name_or_dir: str | os.PathLike[str] = 'small',
    device: str = 'auto',
    dtype: str = 'float32',
    threads: int = 0,
    parts: Sequence[str] = ('vision', 'language'),
) -> Model:
    """Load an installed model for inference.

    Args:
        name_or_dir: Name of the model, or a folder with model.yaml.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: Compute dtype: `float32`, `bfloat16` or `float16`; a CPU supports the first two.
        threads: Number of CPU threads of torch for the whole process. If it is 0, a model on the
            CPU uses `default_threads`.
        parts: Sides to load: `vision`, `language` (text side), or `bank` (text side with the
            sentence bank instead of a trained text decoder).

    Raises:
        InputError: An argument has a wrong type or is out of range, or `parts` contains `bank`,
            but the model is of kind `streaming`, which has no sentence bank.
        ModelError: The model is unknown or damaged, or the device is unavailable.
    """
    _check_arguments(name_or_dir, device, dtype, threads)
    _check_sides(parts)
    chosen = prepare(device, dtype, threads)
    folder = find(name_or_dir)
    config = read_config(folder)
    if isinstance(config, ModelConfig) and 'bank' in parts:
        raise InputError(
            f"parts: '{config.name}' has no sentence bank: request 'language' instead"
        )
    if threads == 0 and chosen.type == 'cpu':
        torch.set_num_threads(default_threads(config))
    _, module = KINDS[config.kind]
    sides = tuple(parts)
    loaded: Model = importlib.import_module(module).load(folder, config, chosen, dtype, sides)
    return loaded


def _check_arguments(name_or_dir: object, device: object, dtype: object, threads: object) -> None:
    """Raise InputError if an argument of `load` has a wrong type or is out of range."""
    if not isinstance(name_or_dir, (str, os.PathLike)):
        raise InputError(
            f'the model is of type {type(name_or_dir).__name__}: '
            'pass the name of an installed model, or a folder'
        )
    for name, value in (('device', device), ('dtype', dtype)):
        check_text(value, name, may_be_empty=False)
    if not 0 <= check_integer(threads, 'threads') <= MOST_THREADS:
        raise InputError(f'threads ({threads}) is not in 0..{MOST_THREADS}')


def _check_sides(parts: object) -> None:
    sides = texts_of(parts, 'parts')
    if not sides or not set(sides) <= set(SIDES):
        raise InputError(f'parts {sides} must be one or several of {", ".join(SIDES)}')


def default_threads(config: AnyConfig) -> int:
    """Return the default number of CPU threads for a model: 1 if it is small.

    The layers of a small model are too small to parallelize: on two idle cores, a second thread
    reduces the time per hop only from 32 to 29 ms, and on a busy machine, threads wait for each
    other at every layer. Other models use torch's current number of threads, but not more than the
    cores of this process.
    """
    is_small = isinstance(config, ClassifierConfig) or (
        isinstance(config, ModelConfig) and config.weight_count < SMALL_WEIGHTS
    )
    return 1 if is_small else min(torch.get_num_threads(), cores())


def prepare(device: str, dtype: str, threads: int = 0) -> torch.device:
    """Validate device and dtype, set torch's number of CPU threads, and return the device.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: Name of the compute dtype, a key of `DTYPES`.
        threads: Number of CPU threads; 0 leaves it unchanged.

    Raises:
        ModelError: The device is unknown or unavailable, or the dtype is unknown.
    """
    chosen = pick_device(device)
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype '{dtype}' (known: {', '.join(DTYPES)})")
    if threads > 0:
        torch.set_num_threads(threads)
    return chosen


def make(config: AnyConfig) -> nn.Module:
    """Build the torch module of a model with random weights, on torch's default device.

    If the default device is `meta`, the module takes no memory.
    """
    _, module = KINDS[config.kind]
    net: nn.Module = importlib.import_module(module).make(config)
    return net


def free() -> None:
    """Release the GPU memory that torch caches after tensors are freed."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
