# SPDX-License-Identifier: Apache-2.0
"""Detector of unfamiliar scenes: how far visual tokens are from those of the scenes of training.

Each tubelet is described by mean and standard deviation, over its tokens, of the values that the
first layers of the X-Encoder cache; so a hop costs no further pass. Two densities know what is
familiar: one of scenes, one of pictures that are dark or covered. A density measures the squared
distance within its principal components, in their variances (Mahalanobis), and the energy outside
of them (reconstruction error); the nearer density counts. A linear head knows the outliers of
fitting. The three figures make one logit, averaged over the newest tubelets; 0 is the threshold.

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

LAYERS = 3  # of the X-Encoder, at most: later ones are trained to ignore what a scene looks like
TUBELETS = 4  # newest ones that are averaged over
CLIP = 8.0  # standard deviations that a feature counts for the head
MOST = 10.0  # of a logit: exp stays finite
DENSITIES = ('scene', 'hidden')  # hidden: dark or covered; may be absent
PARTS = ('mean', 'scale', 'basis', 'variance', 'level')


@dataclass(frozen=True)
class Density:
    """Principal components of familiar features, and the usual level of both distances.

    mean, scale (F,); basis (F, D); variance (D,); level (4,): mean and standard deviation of the
    logarithm of the distance within the components, and of the energy outside.
    """

    mean: Array
    scale: Array
    basis: Array
    variance: Array
    level: Array

    def distances(self, features: Array) -> Array:
        """(T, 2) how far features (T, F) are within and outside, in standard deviations."""
        z = (features - self.mean) / self.scale
        inside = z @ self.basis
        energy = np.maximum((z**2).sum(-1) - (inside**2).sum(-1), 1e-6)
        within = np.maximum((inside**2 / self.variance).sum(-1), 1e-6)
        raw = np.log(np.stack([within, energy], axis=-1))
        found: Array = (raw - self.level[[0, 2]]) / self.level[[1, 3]]
        return found


@dataclass(frozen=True)
class SceneFamiliarity:
    """The densities, the head (F + 1,), weights of the figures (3,), thresholds (densities,).

    Each density has a threshold of its own: what covers a camera varies more than scenes do.
    """

    densities: tuple[Density, ...]
    head: Array
    weights: Array
    thresholds: Array

    def figures(self, features: Array) -> tuple[Array, NDArray[np.int64]]:
        """(T, 3) distances to the nearest density, within and outside, and the head's logit.

        Also (T,) which density that is.
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
        """(T,) above 0 where a tubelet of features (T, F) is unfamiliar."""
        figures, nearest = self.figures(features)
        found: Array = figures @ self.weights - self.thresholds[nearest]
        return found

    def unfamiliar(self, caches: Sequence[KeyValue | None]) -> float:
        """0..1 of what an X-Encoder's caches hold of the newest tubelets; 0.5 is the threshold."""
        logit = float(np.clip(self.logits(pooled(caches)).mean(), -MOST, MOST))
        return 1.0 / (1.0 + float(np.exp(-logit)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What a file stores."""
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
    """Features (T, F) of the newest tubelets of one stream: mean and deviation over tokens."""
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
    """As `XEncoder.step`, but only so far as `pooled` needs it: images (1, F, S, S, 3)."""
    x = x_encoder.embed(images.unsqueeze(1)).squeeze(1)
    renewed: list[KeyValue | None] = []
    for block, cache in zip(x_encoder.blocks[:LAYERS], caches, strict=False):
        x, cache = block.step(x, cache, x_encoder.time.window_tubelets)  # type: ignore[operator]
        renewed.append(cache)
    return renewed


def from_tensors(stored: dict[str, NDArray[Any]], width: int, where: str) -> SceneFamiliarity:
    """The detector of stored tensors, for features of `width`. Raises ModelError."""
    densities = []
    for name in DENSITIES:
        parts = {part: stored.get(f'{name}.{part}') for part in PARTS}
        if name != DENSITIES[0] and all(value is None for value in parts.values()):
            continue
        for part, value in parts.items():
            shape = {'basis': 2, 'variance': 1, 'level': 1}.get(part, 1)
            if value is None or value.ndim != shape or len(value) != _length(part, width, parts):
                found = 'is missing' if value is None else f'of shape {value.shape} is wrong'
                raise ModelError(
                    f'{where}: tensor {name}.{part} {found}; the model has {width} features'
                )
        densities.append(Density(**{k: np.asarray(v, np.float32) for k, v in parts.items()}))
    lengths = {'head': width + 1, 'weights': 3, 'thresholds': len(densities)}
    for key, length in lengths.items():
        if key not in stored or stored[key].shape != (length,):
            raise ModelError(f'{where}: tensor {key} is missing or not of shape ({length},)')
    numbers = [np.asarray(stored[key], np.float32) for key in lengths]
    return SceneFamiliarity(tuple(densities), *numbers)


def _length(part: str, width: int, parts: dict[str, NDArray[Any] | None]) -> int:
    """The first dimension that a part must have."""
    basis = parts['basis']
    if part == 'variance':
        return basis.shape[-1] if basis is not None else 0
    return 4 if part == 'level' else width


def feature_count(width: int, layers: int) -> int:
    """F, for an X-Encoder of this width and depth."""
    return 2 * min(layers, LAYERS) * width


def read(path: Path, weights_sha256: str) -> dict[str, dict[str, NDArray[Any]]]:
    """The tensors of a detector's file, by detector: 'scene' and 'text'.

    Raises:
        ModelError: missing, damaged, not finite, or fitted for other weights.
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
            raise ModelError(f'{path}: {key} holds values that are not finite')
        part, _, name = key.partition('/')
        if part not in found or not name:
            raise ModelError(f'{path} has an unexpected tensor {key}')
        found[part][name] = value
    return found
