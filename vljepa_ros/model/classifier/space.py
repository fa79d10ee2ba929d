# SPDX-License-Identifier: Apache-2.0
"""The joint space of a classifier model: a text space, and a space of image features.

An image embedding is the direct sum of two unit vectors, scaled by sqrt(s) and sqrt(1 - s) for
the share s of the text space. A text embedding has zeros in place of the features, so the cosine
of an image and a text is sqrt(s) times their cosine in the text space, whereas the cosine of two
images compares both parts. Changes are therefore detected that no class name describes.

Shapes: C classes, T width of the text space, F features, P projected features, D = T + P.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.types import Vector
from vljepa_ros.core.vectors import unit
from vljepa_ros.model.classifier.config import ClassifierConfig

Array = NDArray[np.float32]


class JointSpace:
    """Text space and feature space of a classifier model, with the tensors of its weights file."""

    def __init__(self, path: Path, config: ClassifierConfig) -> None:
        """Read the tensors.

        Raises:
            ModelError: The file is missing or damaged, or a tensor has another shape than
                `classes` (C, T), `mean` (F,) and `projection` (F, P).
        """
        try:
            tensors = {key: value.astype(np.float32) for key, value in load_file(path).items()}
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error
        missing = {'classes', 'mean', 'projection'} - set(tensors)
        if missing:
            raise ModelError(f'{path} lacks the tensors {", ".join(sorted(missing))}')
        self._classes, self._mean = tensors['classes'], tensors['mean']
        self._projection = tensors['projection']
        width, dim = config.text_tower.width, config.feature_dim
        if self._classes.ndim != 2 or self._classes.shape[1] != width:
            raise ModelError(f'{path}: classes has shape {self._classes.shape}, not (C, {width})')
        if self._mean.ndim != 1 or self._projection.shape != (len(self._mean), dim):
            raise ModelError(
                f'{path}: mean {self._mean.shape} and projection {self._projection.shape} do not '
                f'match feature_dim ({dim})'
            )
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            raise ModelError(f'{path} contains a value that is not finite')
        self._text_scale = math.sqrt(config.semantic_share)
        self._feature_scale = math.sqrt(1 - config.semantic_share)

    @property
    def class_count(self) -> int:
        """Number of classes, C."""
        return len(self._classes)

    @property
    def feature_count(self) -> int:
        """Number of features, F."""
        return len(self._mean)

    def image_embedding(self, features: Array, probabilities: Array) -> Vector:
        """Return the unit embedding (D,) of an image.

        Args:
            features: Image features (F,).
            probabilities: Class probabilities (C,).
        """
        meaning = unit(probabilities @ self._classes)
        look = unit((features - self._mean) @ self._projection)
        joined = np.concatenate([self._text_scale * meaning, self._feature_scale * look])
        return unit(joined)

    def text_embeddings(self, texts: Array) -> Array:
        """Return the unit embeddings (N, D) of texts, given their unit text vectors (N, T)."""
        features = np.zeros((len(texts), self._projection.shape[1]), np.float32)
        return np.concatenate([texts, features], axis=1)
