# SPDX-License-Identifier: Apache-2.0
"""Detector of unfamiliar scenes, which compares visual features with those of familiar scenes.

The features of a tubelet are the mean and the standard deviation, over its tokens, of the
attention values that the first X-Encoder layers cache, so a hop needs no additional forward pass.
A `Density` describes familiar features by their principal components and returns two distances
from them: the Mahalanobis distance within the components, and the reconstruction error. There is
one density for visible scenes and one for images that are dark or covered; each tubelet uses the
nearer density. A linear classifier (the head) of familiar features and outliers returns a third
score. The logit of a tubelet is the weighted sum of the three scores minus a threshold. The scene
is unfamiliar if the mean logit of the newest tubelets is at least 0. `train.familiarity` fits all
parameters.

Shapes: T tubelets, N tokens per tubelet, H heads, E = width / H, L layers, F = 2 * L * width
features, D principal components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.x_encoder import XEncoder

Array = NDArray[np.float32]

LAYERS = 3  # maximum number of X-Encoder layers; later layers learn to ignore the appearance
TUBELETS = 4  # number of newest tubelets to average over
CLIP = 8.0  # limit of a standardized feature for the head, in standard deviations
MOST = 10.0  # limit of a logit, so that exp stays finite
DENSITIES = ('scene', 'hidden')  # hidden: dark or covered images; may be absent
PARTS = ('mean', 'scale', 'basis', 'variance', 'level')


@dataclass(frozen=True)
class Density:
    """Principal component model of familiar features, which measures distances of features to it.

    `mean`, `scale` (F,): center and unit of each feature. `basis` (F, D): principal components of
    the scaled features. `variance` (D,): variances along the components. `level` (4,): median
    and standard deviation (plus 0.05) of the log Mahalanobis distance of familiar features, then
    those of the log reconstruction error.
    """

    mean: Array
    scale: Array
    basis: Array
    variance: Array
    level: Array

    def distances(self, features: Array) -> Array:
        """Return two standardized log distances (T, 2) of features (T, F) to familiar features.

        The first column is the squared Mahalanobis distance within the principal components, the
        second column is the squared reconstruction error.
        """
        z = (features - self.mean) / self.scale
        inside = z @ self.basis
        energy = np.maximum((z**2).sum(-1) - (inside**2).sum(-1), 1e-6)
        within = np.maximum((inside**2 / self.variance).sum(-1), 1e-6)
        raw = np.log(np.stack([within, energy], axis=-1))
        found: Array = (raw - self.level[[0, 2]]) / self.level[[1, 3]]
        return found


@dataclass(frozen=True)
class SceneFamiliarity:
    """Fitted detector of unfamiliar scenes.

    `densities`: one for visible scenes, and optionally one for dark or covered images. `head`
    (F + 1,): weights and bias of a linear classifier of F features into familiar and unfamiliar.
    `weights` (3,): weights of the two distances to the nearest density and of the classifier's
    logit. `thresholds` (densities,): threshold of the weighted sum for each density.
    """

    densities: tuple[Density, ...]
    head: Array
    weights: Array
    thresholds: Array

    def figures(self, features: Array) -> tuple[Array, NDArray[np.int64]]:
        """Compute the scores of features (T, F) that `logits` combines.

        Returns:
            Scores (T, 3), which are the two distances to the nearest density and the logit of the
            head, and the index (T,) of the nearest density.
        """
        distances = np.stack([d.distances(features) for d in self.densities])  # (densities, T, 2)
        nearest = distances.sum(-1).argmin(0)
        chosen = distances[nearest, np.arange(len(features))]
        scene = self.densities[0]
        z = np.clip((features - scene.mean) / scene.scale, -CLIP, CLIP)
        logit = np.clip(z @ self.head[:-1] + self.head[-1], -MOST, MOST)
        found: Array = np.concatenate([np.clip(chosen, -MOST, MOST), logit[:, None]], axis=-1)
        return found, nearest

    def logits(self, features: Array) -> Array:
        """Return the logits (T,) of tubelets from their features (T, F).

        A tubelet is unfamiliar if its logit is 0 or more.
        """
        figures, nearest = self.figures(features)
        found: Array = figures @ self.weights - self.thresholds[nearest]
        return found

    def unfamiliar(self, caches: Sequence[KeyValue | None]) -> float:
        """Return how unfamiliar the newest tubelets are, 0..1; from 0.5 on, they are unfamiliar.

        Args:
            caches: X-Encoder caches of a stream, one per layer, after at least one step.
        """
        logit = float(np.clip(self.logits(pooled(caches)).mean(), -MOST, MOST))
        return 1.0 / (1.0 + float(np.exp(-logit)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the detector's parameters as tensors by name, the inverse of `from_tensors`."""
        found: dict[str, NDArray[Any]] = {
            'head': self.head,
            'weights': self.weights,
            'thresholds': self.thresholds,
        }
        for name, density in zip(DENSITIES, self.densities, strict=False):
            for part in PARTS:
                value = getattr(density, part)
                found[f'{name}.{part}'] = value.astype(np.float16) if part == 'basis' else value
        return found


def pooled(caches: Sequence[KeyValue | None], tubelets: int = TUBELETS) -> Array:
    """Compute the features (T, F) of a stream's newest tubelets from the X-Encoder's caches.

    The features are mean and standard deviation, over a tubelet's tokens, of the cached values.

    Args:
        caches: X-Encoder caches of one stream, one per layer, after at least one step. Only the
            first `LAYERS` are used.
        tubelets: Maximum number of newest tubelets T.
    """
    found: list[Tensor] = []
    for cache in caches[:LAYERS]:
        assert cache is not None
        values = cache.values[0, :, -tubelets:].float()  # (H, T, N, E)
        mean = values.mean(2)
        deviation = (values.square().mean(2) - mean.square()).clamp(min=0.0).sqrt()
        found += [x.transpose(0, 1).flatten(1) for x in (mean, deviation)]
    result: Array = torch.cat(found, dim=1).cpu().numpy()
    return result


def first_layers(
    x_encoder: XEncoder, images: Tensor, caches: list[KeyValue | None]
) -> list[KeyValue | None]:
    """Encode a tubelet with only the first X-Encoder layers, whose caches `pooled` uses.

    Args:
        x_encoder: The X-Encoder.
        images: Frames of the tubelet, (1, tubelet_frames, S, S, 3) uint8 RGB.
        caches: One cache per layer; None at the start of a stream.

    Returns:
        The updated caches of the first layers.
    """
    x = x_encoder.embed(images.unsqueeze(1)).squeeze(1)
    renewed: list[KeyValue | None] = []
    for block, cache in zip(x_encoder.blocks[:LAYERS], caches, strict=False):
        x, cache = block.step(x, cache, x_encoder.time.window_tubelets)  # type: ignore[operator]
        renewed.append(cache)
    return renewed


def from_tensors(stored: dict[str, NDArray[Any]], width: int, where: str) -> SceneFamiliarity:
    """Build the detector from the tensors of a file.

    Args:
        stored: Tensors by name.
        width: Number of features F of the model; see `feature_count`.
        where: Path of the file for error messages.

    Raises:
        ModelError: A tensor is missing or has another shape.
    """
    densities = []
    for name in DENSITIES:
        parts = {part: stored.get(f'{name}.{part}') for part in PARTS}
        if name != DENSITIES[0] and all(value is None for value in parts.values()):
            continue
        for part, value in parts.items():
            shape = {'basis': 2, 'variance': 1, 'level': 1}.get(part, 1)
            if value is None or value.ndim != shape or len(value) != _length(part, width, parts):
                found = 'is missing' if value is None else f'has the wrong shape {value.shape}'
                raise ModelError(
                    f'{where}: tensor {name}.{part} {found}; the model has {width} features'
                )
        densities.append(Density(**{k: np.asarray(v, np.float32) for k, v in parts.items()}))
    lengths = {'head': width + 1, 'weights': 3, 'thresholds': len(densities)}
    for key, length in lengths.items():
        if key not in stored or stored[key].shape != (length,):
            raise ModelError(
                f'{where}: tensor {key} is missing or does not have shape ({length},)'
            )
    numbers = [np.asarray(stored[key], np.float32) for key in lengths]
    return SceneFamiliarity(tuple(densities), *numbers)


def _length(part: str, width: int, parts: dict[str, NDArray[Any] | None]) -> int:
    """Return the required first dimension of the tensor `part` of a density.

    Args:
        part: Name of the tensor, one of `PARTS`.
        width: Number of features F.
        parts: All tensors of the density by name; the basis defines the number of components.
    """
    basis = parts['basis']
    if part == 'variance':
        return basis.shape[-1] if basis is not None else 0
    return 4 if part == 'level' else width


def feature_count(width: int, layers: int) -> int:
    """Return the number of features F for an X-Encoder of the given width and number of layers."""
    return 2 * min(layers, LAYERS) * width


def read(path: Path, weights_sha256: str) -> dict[str, dict[str, NDArray[Any]]]:
    """Read the file with the detectors of unfamiliar scenes and of unreadable texts.

    Args:
        path: The file, which `vljepa calibrate` writes.
        weights_sha256: SHA-256 of the model's weights, for which the detectors must be fitted.

    Returns:
        A dict with the keys 'scene' and 'text', which contains the tensors of each detector by
        name; a detector that is not stored has no tensors.

    Raises:
        ModelError: The file is missing or damaged, contains values that are not finite, or was
            fitted for other weights.
    """
    try:
        with safe_open(path, framework='np') as stored:
            fitted_for = (stored.metadata() or {}).get('weights_sha256', '')
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f'{path} is missing or damaged: {str(error).splitlines()[0]}') from error
    if fitted_for != weights_sha256:
        raise ModelError(
            f'{path} was fitted for other weights ({fitted_for[:12]}, not {weights_sha256[:12]}): '
            f'run `vljepa calibrate {path.parent}`'
        )
    found: dict[str, dict[str, NDArray[Any]]] = {'scene': {}, 'text': {}}
    for key, value in tensors.items():
        if value.dtype.kind == 'f' and not np.isfinite(value.astype(np.float64)).all():
            raise ModelError(f'{path}: {key} contains values that are not finite')
        part, _, name = key.partition('/')
        if part not in found or not name:
            raise ModelError(f'{path} has an unexpected tensor {key}')
        found[part][name] = value
    return found
