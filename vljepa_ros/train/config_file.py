# SPDX-License-Identifier: Apache-2.0
"""Reading of the configuration files of `vljepa train`; the key `kind` selects the training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.model.config import parse
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.fine_tuning.config import FineTuningConfig
from vljepa_ros.train.recipe.config import RecipeConfig
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig

AnyConfig = TrainConfig | RecipeConfig | FineTuningConfig | TextDecoderTrainingConfig

# `streaming` and `bidirectional` train a model of that kind (see model.yaml); `fine_tuning` adapts
# a streaming model to annotated recordings; `text_decoder` trains a decoder for an existing model.
KINDS: dict[str, type[AnyConfig]] = {
    'streaming': TrainConfig,
    'bidirectional': RecipeConfig,
    'fine_tuning': FineTuningConfig,
    'text_decoder': TextDecoderTrainingConfig,
}


def read_config(path: Path) -> AnyConfig:
    """Read and validate a configuration file of `vljepa train`.

    Raises:
        InputError: The file is unreadable or not YAML, or a key is unknown, missing or invalid;
            the message names the file and the key.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error
    except yaml.MarkedYAMLError as error:
        line = f'line {error.problem_mark.line + 1}: ' if error.problem_mark else ''
        raise InputError(f'{path}: {line}{error.problem}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: {str(error).splitlines()[0]}') from error
    return parse_config(values, path)


def parse_config(values: Any, path: Path) -> AnyConfig:
    """Convert the parsed YAML of a file to a configuration object; its `kind` selects the class.

    Args:
        values: Parsed YAML.
        path: Path of the file, for error messages.

    Raises:
        InputError: A key is unknown, missing or invalid; the message names the file and the key.
    """
    if not isinstance(values, Mapping):
        raise InputError(f'{path}: expected a mapping, found {type(values).__name__}')
    cls = KINDS.get(str(values.get('kind')))
    if cls is None:
        raise InputError(f'{path}: {_kind_error(values)}')
    others = {key: value for key, value in values.items() if key != 'kind'}
    try:
        return parse(cls, others, path.name)
    except (InputError, ModelError) as error:
        raise InputError(f'{path}: {error}') from error


def _kind_error(values: Mapping[Any, Any]) -> str:
    """Return the error for a missing or unknown kind; suggest the kind that fits the keys best."""
    known = ', '.join(KINDS)
    if 'kind' in values:
        problem = f"unknown kind '{values['kind']!s:.40}' (known: {known})"
    else:
        problem = f"the key 'kind' is missing (known kinds: {known})"
    fits = {kind: _common_keys(values, cls) for kind, cls in KINDS.items()}
    best = max(fits, key=lambda kind: fits[kind])
    return f'{problem}; the other keys match `kind: {best}`' if fits[best] else problem


def _common_keys(values: Mapping[Any, Any], cls: type[AnyConfig]) -> int:
    return len(values.keys() & {field.name for field in dataclasses.fields(cls)})
