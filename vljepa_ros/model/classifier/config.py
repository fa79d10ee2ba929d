# SPDX-License-Identifier: Apache-2.0
"""Configuration of a classifier model: image classifiers whose classes are placed in a text space.

The embedding of an image is the probability-weighted mean of the text embeddings of its classes
(ConSE, Norouzi et al., arXiv 1312.5650), joined with a projection of the image features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.checkpoint_config import FILE_NAME, BankConfig
from vljepa_ros.model.config import CalibrationConfig, TextTowerConfig, check
from vljepa_ros.model.stills import StillsConfig

MAX_TEXT_TOKENS = 128
MAX_FEATURES = 4096


@dataclass(frozen=True)
class NetConfig:
    """An ONNX graph of the model folder, and the side of its square input in pixels.

    Its input `images` is (1, S, S, 3) uint8 RGB. Its outputs are `features` (1, F) and `logits`
    (1, C).
    """

    file: str
    image_size: int = 224

    def __post_init__(self) -> None:
        """Validate both fields."""
        if not FILE_NAME.fullmatch(self.file):
            raise ModelError(f"nets.file ('{self.file:.80}') is not a plain file name")
        check('nets.', self, image_size=(2, 4096))


@dataclass(frozen=True)
class ClassifierConfig:
    """Contents of the model.yaml of a classifier model.

    `nets`: the image classifiers; their class probabilities are averaged, and the features are
    those of the first one. `semantic_share`: the share 0..1 of the text space in the squared norm
    of an image embedding; the rest is for the features. `feature_dim`: dimension to which the
    features are projected. `match_below`: minimum score of a candidate; if all candidates score
    less, the question is unanswerable.
    """

    name: str
    kind: str = 'classifier'
    description: str = ''
    time: StillsConfig = field(default_factory=lambda: StillsConfig(5.0))
    nets: tuple[NetConfig, ...] = (NetConfig('net.onnx'),)
    semantic_share: float = 0.25
    feature_dim: int = 384
    text_tower: TextTowerConfig = field(default_factory=TextTowerConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    match_below: float = 0.1

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('', self, semantic_share=(1e-3, 1), feature_dim=(1, MAX_FEATURES))
        check('', self, match_below=(0, 1))
        if not self.nets:
            raise ModelError('nets is empty: name at least one ONNX file')

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the model takes: the largest input of its nets."""
        return max(net.image_size for net in self.nets)

    @property
    def embedding_dim(self) -> int:
        """Dimension of the embeddings: text space and projected features."""
        return self.text_tower.width + self.feature_dim
