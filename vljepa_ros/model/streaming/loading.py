# SPDX-License-Identifier: Apache-2.0
"""Loading and saving of models of kind `streaming`, such as models/small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.model.config import CONFIG, FamiliarityConfig, ModelConfig
from vljepa_ros.model.language.readability import Readability
from vljepa_ros.model.streaming import familiarity
from vljepa_ros.model.streaming.network import FINDER, LANGUAGE, VISION, VLJEPA
from vljepa_ros.model.streaming.text import TextLanguage
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.streaming.vision import StreamingVision
from vljepa_ros.model.weights import DTYPES, WEIGHTS, load_weights


def load(
    folder: Path, config: ModelConfig, device: torch.device, dtype: str, parts: tuple[str, ...]
) -> Model:
    """Load the vision side, the text side, or both, of a streaming model.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml.
        device: Device of the weights.
        dtype: Name of the compute dtype, a key of `DTYPES`.
        parts: `vision`, `language` or both; an omitted side is None in the result.

    Raises:
        ModelError: The folder is incomplete or damaged, or the text tower is missing or differs
            from the one that the model was trained with.
    """
    vision = (FINDER, *VISION) if 'vision' in parts else ()
    names = vision + (LANGUAGE if 'language' in parts else ())
    net = VLJEPA(config, names)
    load_weights(net, folder / WEIGHTS, names)
    net.to(device=device, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    tower = TextTower(config.text_tower, device)
    weights_hash = file_hash(folder / WEIGHTS)
    model = assemble(net, tower, model_id(config, weights_hash, tower.sha256), dtype, parts)
    if config.familiarity.file:
        _add_detectors(model, folder / config.familiarity.file, weights_hash, config, tower)
    return model


def _add_detectors(
    model: Model, path: Path, weights_hash: str, config: ModelConfig, tower: TextTower
) -> None:
    """Load the detectors of unfamiliar scenes and unreadable texts and attach them to a model.

    Args:
        model: The loaded model, which is modified.
        path: File with the detectors.
        weights_hash: SHA-256 of the model's weights.
        config: Contents of the model's model.yaml.
        tower: Text tower of the model.
    """
    stored, x = familiarity.read(path, weights_hash), config.x_encoder
    if isinstance(model.vision, StreamingVision) and stored['scene']:
        width = familiarity.feature_count(x.width, x.layers)
        model.vision.familiarity = familiarity.from_tensors(stored['scene'], width, str(path))
    if stored['text']:
        readability = Readability(tower.tokenizer, stored['text'])
        if isinstance(model.vision, StreamingVision):
            model.vision.readability = readability
        if isinstance(model.language, TextLanguage):
            model.language.readability = readability


make = VLJEPA  # builds the torch module with random weights


def assemble(
    net: VLJEPA,
    tower: TextTower,
    model_id: str,
    dtype: str = 'float32',
    parts: tuple[str, ...] = ('vision', 'language'),
) -> Model:
    """Build a Model from a network with its weights and a text tower.

    Args:
        net: The network, on the device of `tower`.
        tower: The text tower.
        model_id: Model id to report.
        dtype: Name of the network's compute dtype.
        parts: Sides of the Model, `vision`, `language` or both.
    """
    config = net.config
    facts = ModelFacts(
        model_id=model_id,
        embedding_dim=config.embedding_dim,
        image_size=config.image_size,
        rate_hz=config.time.rate_hz,
        tubelet_frames=config.time.tubelet_frames,
        window_tubelets=config.time.window_tubelets,
        receptive_tubelets=config.receptive_tubelets,
        device=str(tower.device),
        dtype=dtype,
    )
    return Model(
        facts,
        StreamingVision(net, tower, facts) if 'vision' in parts else None,
        TextLanguage(net, tower, facts) if 'language' in parts else None,
    )


def model_id(config: ModelConfig, weights_hash: str, tower_hash: str) -> str:
    """Return the model id: a model's name with the hashes of its weights and its text tower.

    Vectors are comparable only if their model ids are equal.

    Args:
        config: Contents of the model's model.yaml.
        weights_hash: SHA-256 of weights.safetensors.
        tower_hash: SHA-256 of the text tower's weights.
    """
    return f'{config.name}-{weights_hash[:8]}-{tower_hash[:8]}'


def save(net: VLJEPA, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a network's model.yaml and weights.safetensors to a model folder.

    The saved model.yaml names no file of detectors (`familiarity`), because detectors are valid
    only for the weights that they were fitted for.

    Args:
        net: The network.
        folder: Model folder; created if it does not exist.
        dtype: Dtype in which floating-point tensors are stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for key, value in net.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={'format': 'pt'})
    write_config(dataclasses.replace(net.config, familiarity=FamiliarityConfig()), folder)


def write_config(config: ModelConfig, folder: Path) -> None:
    """Write a configuration to the model.yaml of a model folder."""
    text = yaml.dump(dataclasses.asdict(config), Dumper=_Dumper, sort_keys=False, width=100)
    (folder / CONFIG).write_text('# SPDX-License-Identifier: Apache-2.0\n' + text)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that writes tuples in flow style (`[1, 2]`), so long lists need few lines."""


_Dumper.add_representer(
    tuple,
    lambda dumper, values: dumper.represent_sequence(
        'tag:yaml.org,2002:seq', values, flow_style=True
    ),
)
