# SPDX-License-Identifier: Apache-2.0
"""Loading, assembly and saving of models of kind `streaming` (block-causal, as models/small)."""

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
    """Load the sides that `parts` names.

    Raises:
        ModelError: The folder is incomplete or damaged, or the text tower does not match.
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
    """Attach the detectors of unfamiliar scenes and of unreadable texts to the model's sides."""
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


make = VLJEPA  # builds the architecture with random weights


def assemble(
    net: VLJEPA,
    tower: TextTower,
    model_id: str,
    dtype: str = 'float32',
    parts: tuple[str, ...] = ('vision', 'language'),
) -> Model:
    """Combine a loaded net and a text tower into a model on the tower's device."""
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
    """Return the model id: the name and the hashes of the weights and of the text tower.

    Vectors are comparable only if their model ids are equal.
    """
    return f'{config.name}-{weights_hash[:8]}-{tower_hash[:8]}'


def save(net: VLJEPA, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write model.yaml and weights.safetensors (floating tensors stored as `dtype`).

    The saved model.yaml names no detectors, because those of `net` were fitted for older weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous().cpu()
        for key, value in net.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={'format': 'pt'})
    write_config(dataclasses.replace(net.config, familiarity=FamiliarityConfig()), folder)


def write_config(config: ModelConfig, folder: Path) -> None:
    """Write model.yaml."""
    text = yaml.dump(dataclasses.asdict(config), Dumper=_Dumper, sort_keys=False, width=100)
    (folder / CONFIG).write_text('# SPDX-License-Identifier: Apache-2.0\n' + text)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that writes tuples in flow style, so that long lists take few lines."""


_Dumper.add_representer(
    tuple,
    lambda dumper, values: dumper.represent_sequence(
        'tag:yaml.org,2002:seq', values, flow_style=True
    ),
)
