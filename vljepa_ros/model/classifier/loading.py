# SPDX-License-Identifier: Apache-2.0
"""Loading of models of kind `classifier`, which run on the CPU with ONNX Runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.model.classifier.config import ClassifierConfig, NetConfig
from vljepa_ros.model.classifier.language import ClassifierLanguage
from vljepa_ros.model.classifier.space import JointSpace
from vljepa_ros.model.classifier.vision import ClassifierVision, ImageClassifier
from vljepa_ros.model.language.bank_language import wants_language
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.onnx_session import open_session
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.weights import WEIGHTS


def load(
    folder: Path,
    config: ClassifierConfig,
    device: torch.device,
    dtype: str,
    parts: tuple[str, ...],
) -> Model:
    """Load the vision side, the text side, or both, of a classifier model.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml.
        device: Ignored: the nets and the text tower run on the CPU.
        dtype: Must be float32.
        parts: Sides to load, as in `registry.load`; an omitted side is None in the result.

    Raises:
        ModelError: The folder is incomplete or damaged, or `dtype` is not float32.
    """
    if dtype != 'float32':
        raise ModelError(f"model '{config.name}' computes in float32, not in {dtype}")
    space = JointSpace(folder / WEIGHTS, config)
    facts = _facts(folder, config)
    vision = language = None
    if 'vision' in parts:
        nets = [_classifier(folder, net, space) for net in config.nets]
        vision = ClassifierVision(nets, space, facts)
    if wants_language(parts):
        tower = TextTower(config.text_tower, torch.device('cpu'))
        bank = Bank(folder, config.bank)
        language = ClassifierLanguage(tower, space, bank, facts, config)
    return Model(facts, vision, language)


def _classifier(folder: Path, config: NetConfig, space: JointSpace) -> ImageClassifier:
    path = folder / config.file
    if not path.is_file():
        raise ModelError(f'{path} is missing')
    session = open_session(path, torch.get_num_threads())
    found = {
        **{node.name: list(node.shape) for node in session.get_inputs()},
        **{node.name: list(node.shape) for node in session.get_outputs()},
    }
    size = config.image_size
    expected = {
        'images': [1, size, size, 3],
        'features': [1, space.feature_count],
        'logits': [1, space.class_count],
    }
    if found != expected:
        raise ModelError(f'{path}: inputs and outputs {found} do not match {expected}')
    return ImageClassifier(session, size)


def _facts(folder: Path, config: ClassifierConfig) -> ModelFacts:
    nets = hashlib.sha256()
    for net in config.nets:
        if (folder / net.file).is_file():
            nets.update(file_hash(folder / net.file).encode())
    return ModelFacts(
        model_id=f'{config.name}-{nets.hexdigest()[:8]}-{file_hash(folder / WEIGHTS)[:8]}',
        embedding_dim=config.embedding_dim,
        image_size=config.image_size,
        rate_hz=config.time.rate_hz,
        tubelet_frames=1,
        window_tubelets=1,
        receptive_tubelets=1,
    )
