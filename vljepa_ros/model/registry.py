# SPDX-License-Identifier: Apache-2.0
"""Finds, loads and saves model folders: `model.yaml` and `weights.safetensors`.

A name is looked for in the folders of VLJEPA_MODELS (os.pathsep between them), in `models/` beside
the package, and in `share/vljepa_ros/models` of the prefix that it is installed in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vljepa_ros.errors import ModelError
from vljepa_ros.model.config import ModelConfig, as_mapping, parse
from vljepa_ros.model.eyes import StreamingEyes
from vljepa_ros.model.language import TextLanguage
from vljepa_ros.model.text_tower import TextTower, file_hash
from vljepa_ros.model.vljepa import EYES, LANGUAGE, VLJEPA
from vljepa_ros.stream.interfaces import Model, ModelFacts

CONFIG, WEIGHTS = 'model.yaml', 'weights.safetensors'
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def folders() -> list[Path]:
    """The folders that hold model folders, nearest first."""
    own = Path(__file__).resolve().parents[2]
    found = [Path(item) for item in os.environ.get('VLJEPA_MODELS', '').split(os.pathsep) if item]
    found.append(own / 'models')
    prefixes = [Path(sys.prefix), *(parent for parent in Path(__file__).resolve().parents)]
    found += [prefix / 'share' / 'vljepa_ros' / 'models' for prefix in prefixes]
    return [folder for folder in dict.fromkeys(found) if os.path.isdir(folder)]


def available() -> dict[str, Path]:
    """Names of the models that are installed, with their folders."""
    names: dict[str, Path] = {}
    for folder in folders():
        for config in sorted(folder.glob(f'*/{CONFIG}')):
            names.setdefault(config.parent.name, config.parent)
    return names


def find(name_or_dir: str) -> Path:
    """The folder of a model. Raises ModelError that lists what is there."""
    if os.path.isfile(Path(name_or_dir) / CONFIG):  # Path.is_file raises where a name is too long
        return Path(name_or_dir)
    names = available()
    if name_or_dir not in names:
        known = ', '.join(names) or 'none installed'
        raise ModelError(
            f"unknown model '{name_or_dir}' (known: {known}; or a folder with {CONFIG})"
        )
    return names[name_or_dir]


def read_config(folder: Path) -> ModelConfig:
    """Parse a folder's model.yaml. Raises ModelError that names the file and what is wrong."""
    path = folder / CONFIG
    try:
        return parse(ModelConfig, yaml.safe_load(path.read_text()), CONFIG)
    except ModelError as error:
        raise ModelError(f'{folder}: {error}') from error
    except yaml.MarkedYAMLError as error:
        line = f'line {error.problem_mark.line + 1}: ' if error.problem_mark else ''
        raise ModelError(f'{path}: {line}{error.problem}') from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error


def pick_device(device: str) -> torch.device:
    """auto, cpu, cuda or cuda:N -> a device that is there, or ModelError."""
    if device == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)") from error
    if chosen.type not in ('cpu', 'cuda'):
        raise ModelError(f"unknown device '{device}' (known: auto, cpu, cuda, cuda:N)")
    if chosen.type == 'cuda':
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise ModelError(
                f"device '{device}' was asked for, but torch sees {count} CUDA devices"
            )
    return chosen


def load(
    name_or_dir: str = 'small',
    device: str = 'auto',
    dtype: str = 'float32',
    threads: int = 0,
    parts: tuple[str, ...] = ('eyes', 'language'),
) -> Model:
    """Load a model's halves. Raises ModelError: unknown, damaged, or a device that is not there.

    `threads` > 0 sets torch's CPU threads for the process. A CPU computes in float32 or bfloat16.
    """
    chosen = pick_device(device)
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype '{dtype}' (known: {', '.join(DTYPES)})")
    folder = find(name_or_dir)
    config = read_config(folder)
    if threads > 0:
        torch.set_num_threads(threads)
    names = (EYES if 'eyes' in parts else ()) + (LANGUAGE if 'language' in parts else ())
    net = VLJEPA(config, names)
    load_weights(net, folder / WEIGHTS, names)
    net.to(device=chosen, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    tower = TextTower(config.text_tower, chosen)
    named = model_id(config, file_hash(folder / WEIGHTS), tower.sha256)
    return assemble(net, tower, named, dtype, parts)


def assemble(
    net: VLJEPA,
    tower: TextTower,
    model_id: str,
    dtype: str = 'float32',
    parts: tuple[str, ...] = ('eyes', 'language'),
) -> Model:
    """The halves of a net that is in memory, on the tower's device."""
    config = net.config
    facts = ModelFacts(
        model_id=model_id,
        embedding_dim=config.embedding_dim,
        image_size=config.x_encoder.image_size,
        rate_hz=config.time.rate_hz,
        tubelet_frames=config.time.tubelet_frames,
        window_tubelets=config.time.window_tubelets,
        receptive_tubelets=config.receptive_tubelets,
        device=str(tower.device),
        dtype=dtype,
    )
    return Model(
        facts,
        StreamingEyes(net, tower, facts) if 'eyes' in parts else None,
        TextLanguage(net, tower, facts) if 'language' in parts else None,
    )


def free() -> None:
    """Give what torch keeps of freed weights back to the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def model_id(config: ModelConfig, weights_hash: str, tower_hash: str) -> str:
    """Name and hashes of the weights and the text tower: what makes two vectors comparable."""
    return f'{config.name}-{weights_hash[:8]}-{tower_hash[:8]}'


def save(net: VLJEPA, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write model.yaml and weights.safetensors (floating tensors stored as `dtype`)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for key, value in net.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={'format': 'pt'})
    (folder / CONFIG).write_text(
        '# SPDX-License-Identifier: Apache-2.0\n'
        + yaml.safe_dump(as_mapping(net.config), sort_keys=False)
    )


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


def load_weights(net: VLJEPA, path: Path, parts: tuple[str, ...]) -> None:
    """Fill the named parts of `net`. Raises ModelError: damaged, or of another shape."""
    try:
        with safe_open(path, framework='pt') as stored:
            keys = [key for key in stored.keys() if key.split('.')[0] in parts]  # noqa: SIM118
            state = {key: stored.get_tensor(key) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    wanted = net.state_dict()
    for key in sorted(set(wanted) ^ set(state)):
        where = 'lacks' if key in wanted else 'has an unexpected'
        raise ModelError(f'{path} {where} tensor {key}')
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise ModelError(
                f'{path}: {key} of shape {tuple(value.shape)} does not match the model '
                f'{tuple(wanted[key].shape)}'
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f'{path}: {key} holds values that are not finite')
    net.load_state_dict(state)
