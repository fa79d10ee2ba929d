# SPDX-License-Identifier: Apache-2.0
"""Detector of unfamiliar scenes: the distance of visual tokens to those of the training scenes.

The features of a tubelet are the mean and standard deviation, over its tokens, of the values that
the first layers of the X-Encoder cache, so a hop needs no additional forward pass. There are two
densities of familiar features: one for scenes, one for images that are dark or covered. A density
measures the squared distance within its principal components, in units of their variances
(Mahalanobis), and the energy outside of them (reconstruction error). The nearer density is used. A
linear head is trained on the outliers of fitting. The two distances and the output of the head are
combined to one logit, averaged over the newest tubelets; the threshold is 0.

Shapes: T tubelets, N tokens, L layers, F features (2 L width), D principal components.
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

LAYERS = 3  # X-Encoder layers used at most; later layers learn to ignore a scene's appearance
TUBELETS = 4  # number of newest tubelets to average over
CLIP = 8.0  # limit of a standardized feature for the head, in standard deviations
MOST = 10.0  # limit of a logit, so that exp stays finite
DENSITIES = ('scene', 'hidden')  # hidden: dark or covered images; may be absent
PARTS = ('mean', 'scale', 'basis', 'variance', 'level')


@dataclass(frozen=True)
class Density:
    """Principal components of familiar features, and statistics of both distances.

    mean, scale (F,); basis (F, D); variance (D,); level (4,): mean and standard deviation of the
    logarithm of the distance within the components, then of the energy outside of them.
    """

    mean: Array
    scale: Array
    basis: Array
    variance: Array
    level: Array

    def distances(self, features: Array) -> Array:
        """Return both distances (T, 2) of features (T, F), within and outside, standardized."""
        z = (features - self.mean) / self.scale
        inside = z @ self.basis
        energy = np.maximum((z**2).sum(-1) - (inside**2).sum(-1), 1e-6)
        within = np.maximum((inside**2 / self.variance).sum(-1), 1e-6)
        raw = np.log(np.stack([within, energy], axis=-1))
        found: Array = (raw - self.level[[0, 2]]) / self.level[[1, 3]]
        return found


@dataclass(frozen=True)
class SceneFamiliarity:
    """Parameters of the detector, as loaded from its file.

    Its parts are the densities, the head (F + 1,), weights of the scores (3,), and thresholds
    (densities,).

    Each density has a threshold of its own, because covered cameras vary more than scenes.
    """

    densities: tuple[Density, ...]
    head: Array
    weights: Array
    thresholds: Array

    def figures(self, features: Array) -> tuple[Array, NDArray[np.int64]]:
        """Compute the scores that `logits` combines.

        Returns the two distances to the nearest density and the logit of the head (T, 3), and the
        index of that density (T,).
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
        """Return logits (T,) of features (T, F); a tubelet above 0 is unfamiliar."""
        figures, nearest = self.figures(features)
        found: Array = figures @ self.weights - self.thresholds[nearest]
        return found

    def unfamiliar(self, caches: Sequence[KeyValue | None]) -> float:
        """Return how unfamiliar the newest cached tubelets are, 0..1; the threshold is 0.5."""
        logit = float(np.clip(self.logits(pooled(caches)).mean(), -MOST, MOST))
        return 1.0 / (1.0 + float(np.exp(-logit)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the tensors to store in a file."""
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
    """Compute features (T, F) of a stream's newest tubelets: mean and deviation over tokens."""
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
    """Run the layers that `pooled` uses on one tubelet, as `XEncoder.step` does with all layers.

    Args:
        x_encoder: The X-Encoder.
        images: Tubelet (1, tubelet_frames, S, S, 3) uint8.
        caches: One cache per layer.

    Returns:
        The updated caches of these layers.
    """
    x = x_encoder.embed(images.unsqueeze(1)).squeeze(1)
    renewed: list[KeyValue | None] = []
    for block, cache in zip(x_encoder.blocks[:LAYERS], caches, strict=False):
        x, cache = block.step(x, cache, x_encoder.time.window_tubelets)  # type: ignore[operator]
        renewed.append(cache)
    return renewed


def from_tensors(stored: dict[str, NDArray[Any]], width: int, where: str) -> SceneFamiliarity:
    """Build the detector from stored tensors.

    Args:
        stored: Tensors by name.
        width: F, the number of features of the model.
        where: Path of the file, for messages.

    Raises:
        ModelError: A tensor is missing or of another shape.
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
    """Return the required first dimension of a part."""
    basis = parts['basis']
    if part == 'variance':
        return basis.shape[-1] if basis is not None else 0
    return 4 if part == 'level' else width


def feature_count(width: int, layers: int) -> int:
    """Return F, the number of features, for an X-Encoder of this width and depth."""
    return 2 * min(layers, LAYERS) * width


def read(path: Path, weights_sha256: str) -> dict[str, dict[str, NDArray[Any]]]:
    """Read the tensors of a detector file, grouped by detector: 'scene' and 'text'.

    Args:
        path: The file.
        weights_sha256: Hash of the model's weights, which the detectors must be fitted for.

    Raises:
        ModelError: The file is missing, damaged, not finite, or fitted for other weights.
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
