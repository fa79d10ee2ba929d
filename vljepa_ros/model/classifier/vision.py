# SPDX-License-Identifier: Apache-2.0
"""Vision side of a classifier model at run time, which embeds the newest image only.

Shapes: S image side, F features, C classes, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image, Vector
from vljepa_ros.model.classifier.space import JointSpace
from vljepa_ros.model.stills import StillsVision

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ImageClassifier:
    """ONNX session of one image classifier, and the side of its square input in pixels."""

    session: Any
    image_size: int

    def run(self, image: Image) -> tuple[Array, Array]:
        """Return the features (F,) and the class probabilities (C,) of an image (S, S, 3)."""
        size = self.image_size
        if image.shape[0] != size:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        features, logits = self.session.run(['features', 'logits'], {'images': image[None]})
        likelihood = np.exp(logits[0] - logits[0].max())
        return features[0], likelihood / likelihood.sum()


class ClassifierVision(StillsVision):
    """Vision side of a classifier model."""

    def __init__(
        self, nets: Sequence[ImageClassifier], space: JointSpace, facts: ModelFacts
    ) -> None:
        super().__init__(facts)
        self._nets, self._space = tuple(nets), space

    def embed(self, image: Image) -> Vector:
        """Return the unit embedding (D,) of an image (S, S, 3) uint8 RGB."""
        found = [net.run(image) for net in self._nets]
        probabilities = np.asarray(np.mean([shares for _, shares in found], axis=0), np.float32)
        return self._space.image_embedding(found[0][0], probabilities)
