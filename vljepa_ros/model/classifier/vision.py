# SPDX-License-Identifier: Apache-2.0
"""Vision side of a classifier model at run time, which embeds the newest image only.

Shapes: S image side, P prompts, D embedding_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.core.types import Image, Vector
from vljepa_ros.model.classifier.space import JointSpace
from vljepa_ros.model.frame_check import check_hop

Array = NDArray[np.float32]


@dataclass
class ImageState:
    """Visual state of one camera: the embedding (D,) of its newest image."""

    vector: Vector | None = None


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


class ClassifierVision:
    """Vision side of a classifier model; implements `core.protocols.Vision`.

    Every prompt has the same answer embedding, the embedding of the newest image. Only
    `check_prompts` and `unreadable` are safe to call from any thread.
    """

    def __init__(
        self, nets: Sequence[ImageClassifier], space: JointSpace, facts: ModelFacts
    ) -> None:
        self.facts = facts
        self._nets, self._space = tuple(nets), space

    def new_state(self) -> ImageState:
        """Return an empty state for one camera."""
        return ImageState()

    def step(self, state: ImageState, images: Sequence[Image]) -> None:
        """Encode the one image of a hop, (S, S, 3) uint8 RGB, and store its embedding in `state`.

        Raises:
            InputError: The image does not match the model, or its embedding is not finite.
        """
        check_hop(images, self.facts)
        found = [net.run(images[0]) for net in self._nets]
        probabilities = np.asarray(np.mean([shares for _, shares in found], axis=0), np.float32)
        vector = self._space.image_embedding(found[0][0], probabilities)
        if not np.isfinite(vector).all():
            raise InputError('the model produced a vector that is not finite')
        state.vector = vector

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Accept all prompts, because the model does not use them."""

    def predict(self, state: ImageState, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the newest image's embedding, repeated for each of P prompts: (P, D).

        Raises:
            InputError: `state` has no image yet.
        """
        if state.vector is None:
            raise InputError('no frame has been encoded yet: the model cannot predict')
        return state.vector[None].repeat(len(prompts), axis=0)

    def unfamiliar(self, state: ImageState) -> float:
        """Return 0.0: the model abstains text by text instead, see `ClassifierLanguage`."""
        return 0.0

    def unreadable(self, prompt: str) -> float:
        """Return 0.0: prompts are not used."""
        return 0.0
