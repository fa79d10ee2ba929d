# SPDX-License-Identifier: Apache-2.0
"""Fits the detectors of unfamiliar scenes and unreadable texts (`vljepa calibrate`).

The validation streams are samples of familiar scenes; some of their hops (inference steps) are
used again with image corruptions. Clips of other scenes and synthetic clips are the outliers. The
weights of the scores and the thresholds are fitted on cross-validated scores: each fold holds out
whole streams and whole kinds of outliers. The thresholds limit the fraction of familiar hops that
are rejected in each bin of camera view, object size and light.

Shapes: N hops, F features, D principal components.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn.functional import softplus

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.images import fit
from vljepa_ros.core.protocols import Model
from vljepa_ros.data import unfamiliar
from vljepa_ros.data.format import Stream
from vljepa_ros.data.lens import Cloth
from vljepa_ros.evaluate.bins import HIDDEN, BinnedHop, hops_of_bins
from vljepa_ros.evaluate.image_corruptions import CORRUPTIONS, StampedClip
from vljepa_ros.model import registry
from vljepa_ros.model.config import FamiliarityConfig, ModelConfig
from vljepa_ros.model.streaming import familiarity
from vljepa_ros.model.streaming import loading as streaming
from vljepa_ros.model.streaming.familiarity import CLIP, TUBELETS, Density, SceneFamiliarity
from vljepa_ros.model.streaming.text import TextLanguage
from vljepa_ros.model.streaming.vision import StreamingVision
from vljepa_ros.model.weights import WEIGHTS
from vljepa_ros.train.calibration_stage import fit_logistic_regression
from vljepa_ros.train.readability import fit_readability

FILE = 'familiarity.safetensors'
HOPS = 300  # maximum number of hops per stream
CORRUPTED_HOPS = 40  # number of hops per stream that are used again with an image corruption
FITTED_CORRUPTIONS = ('JPEG quality 30', 'blur of 1 px', 'noise of 10 grey levels', '72x72 pixels')
HIDDEN_HOPS = 8  # number of simulated covered hops, and of simulated dark hops, per stream
COMPONENTS, HIDDEN_COMPONENTS = 96, 32
FEWEST_HIDDEN = 60  # minimum number of dark or covered hops to fit the density `hidden`
FOLDS = 3
CLIPS, CLIP_FRAMES = 16, 30  # maximum number of clips of each kind of outliers; frames per clip
VARIANCE = 0.01  # added to the variance of each component of standardized features
HEAD_RIDGE = 3e-3
REFUSED = 0.02  # maximum rejected fraction of a bin's familiar hops nearest to one density
REFUSED_IN_ALL = 0.03  # maximum rejected fraction of all familiar hops of a bin, cross-validated
FEWEST_IN_BIN = 100  # minimum number of hops of a bin

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """Features of hops (inference steps) of several streams or clips.

    `values`: (N, F). `clip`: index of the clip of each hop (N,); a stream is one clip, and its
    frames with an image corruption, darkness or a cloth are other clips. `kind`: 'known' or the
    kind of outlier of each hop (N). `hops`: stream and bins of each familiar hop; empty for
    outliers.
    """

    values: Array
    clip: NDArray[np.int64]
    kind: tuple[str, ...]
    hops: tuple[BinnedHop, ...] = ()

    @property
    def hidden(self) -> Flags:
        """Whether each familiar hop is dark or covered, (N,) bool."""
        return np.array([HIDDEN in hop.bins for hop in self.hops], bool)


@dataclass
class Fitted:
    """Fitted detector of unfamiliar scenes, with its cross-validated error rates.

    `refused`: false-positive rate on familiar hops, by bin. `caught`: recall on outliers, by kind.
    """

    detector: SceneFamiliarity
    refused: dict[str, float] = field(default_factory=dict)
    caught: dict[str, float] = field(default_factory=dict)


def calibrate_familiarity(
    folder: Path, streams: Sequence[Stream], sources: Sequence[str], device: str = 'auto'
) -> Fitted:
    """Fit both detectors for a model and save them in its folder.

    The name of the detectors' file is written to model.yaml. The weights and the model id do not
    change.

    Args:
        folder: Model folder.
        streams: Streams of familiar scenes; their texts count as readable.
        sources: Names of unfamiliar scenes, or paths of recordings; see `data.unfamiliar`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Returns:
        The detector of unfamiliar scenes, with its error rates.

    Raises:
        InputError: There are no streams, or a source cannot be read.
        ModelError: The model is not of kind streaming.
    """
    config = registry.read_config(folder)
    if not isinstance(config, ModelConfig):
        raise ModelError(
            f"{folder}: models of kind '{config.kind}' have no detector of unfamiliar scenes"
        )
    unfitted = dataclasses.replace(config, familiarity=FamiliarityConfig())
    chosen, parts = registry.prepare(device, 'float32'), ('vision', 'language')
    model = streaming.load(folder, unfitted, chosen, 'float32', parts)
    assert isinstance(model.vision, StreamingVision) and isinstance(model.language, TextLanguage)
    unfamiliar.require(sources)
    known = concatenated(
        known_features(model.vision, streams), hidden_features(model.vision, streams)
    )
    fitted = fit_scenes(known, outlier_features(model.vision, sources))
    _save(folder / FILE, folder, fitted.detector.tensors(), _texts_detector(model, streams))
    streaming.write_config(
        dataclasses.replace(config, familiarity=FamiliarityConfig(FILE)), folder
    )
    return fitted


def calibrate_texts(folder: Path, streams: Sequence[Stream]) -> None:
    """Refit the detector of unreadable texts; the detector of unfamiliar scenes is not changed.

    Args:
        folder: Folder of a model that has both detectors.
        streams: Streams whose annotated texts count as readable.

    Raises:
        ModelError: The model is not a streaming model, or has no detectors yet.
    """
    config = registry.read_config(folder)
    if not isinstance(config, ModelConfig):
        raise ModelError(f'{folder} is not a streaming model: it has no detectors to refit')
    if not config.familiarity.file:
        raise ModelError(
            f'{folder} has no detectors of unfamiliar scenes and unreadable texts yet: run '
            f'`vljepa calibrate {folder}` first'
        )
    path = folder / config.familiarity.file
    stored = familiarity.read(path, file_hash(folder / WEIGHTS))
    device = registry.prepare('cpu', 'float32')
    model = streaming.load(folder, config, device, 'float32', ('language',))
    _save(path, folder, stored['scene'], _texts_detector(model, streams))


def _texts_detector(model: Model, streams: Sequence[Stream]) -> Mapping[str, NDArray[Any]]:
    """Fit the detector of unreadable texts; all texts of the streams count as readable."""
    assert isinstance(model.language, TextLanguage)
    texts = sorted({a.text for s in streams for a in s.annotations if a.text})
    texts += [text for s in streams for t in s.questions() for text in (t.prompt, t.answer)]
    return fit_readability(model.language.tokenizer, texts)


def _save(
    path: Path, folder: Path, scene: Mapping[str, NDArray[Any]], text: Mapping[str, NDArray[Any]]
) -> None:
    """Write the tensors of both detectors, and the hash of the model's weights, to one file.

    Args:
        path: File to write.
        folder: Model folder.
        scene: Tensors of the detector of unfamiliar scenes.
        text: Tensors of the detector of unreadable texts.
    """
    tensors = {f'scene/{name}': value for name, value in scene.items()}
    tensors |= {f'text/{name}': value for name, value in text.items()}
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(contiguous, path, metadata={'weights_sha256': file_hash(folder / WEIGHTS)})


def known_features(vision: StreamingVision, streams: Sequence[Stream]) -> Features:
    """Compute features of familiar hops, some of which are used again with image corruption.

    Args:
        vision: Vision side of the model.
        streams: Streams of familiar scenes.

    Raises:
        InputError: There are no streams, or none is as long as a tubelet.
    """
    rows, clips, hops = list[Array](), list[int](), list[BinnedHop]()
    for number, stream in enumerate(_with_hops(vision, streams)):
        found = hops_of_bins(stream, vision.facts)[:HOPS]
        frames = stream.frames()[: len(found) * vision.facts.tubelet_frames]
        rows.append(vision.describe(_resized(vision, frames)))
        hops += found
        part = np.asarray(frames[: CORRUPTED_HOPS * vision.facts.tubelet_frames])
        name = FITTED_CORRUPTIONS[number % len(FITTED_CORRUPTIONS)]
        rng = np.random.default_rng(number)
        clip = CORRUPTIONS[name](StampedClip(tuple(range(len(part))), tuple(part)), rng)
        rows.append(vision.describe(_resized(vision, np.stack(clip.images))))
        corrupted = found[: len(rows[-1])]
        hops += [dataclasses.replace(h, bins=(*h.bins, f'corrupted: {name}')) for h in corrupted]
        clips += [2 * number] * len(rows[-2]) + [2 * number + 1] * len(rows[-1])
    return Features(np.concatenate(rows), np.array(clips), ('known',) * len(clips), tuple(hops))


def hidden_features(vision: StreamingVision, streams: Sequence[Stream]) -> Features:
    """Compute features of hops with simulated darkness or a simulated cloth over the lens.

    The conditions are simulated on frames of the streams. They count as familiar, even if they do
    not occur in the streams.

    Raises:
        InputError: There are no streams, or none is as long as a tubelet.
    """
    size, per = vision.facts.image_size, vision.facts.tubelet_frames
    rows, clips, hops = list[Array](), list[int](), list[BinnedHop]()
    for number, stream in enumerate(_with_hops(vision, streams)):
        rng = np.random.default_rng([number, 23])
        step = max(1, stream.frame_count // (per * HIDDEN_HOPS))
        shown = _resized(vision, stream.frames()[::step][: per * HIDDEN_HOPS]).astype(np.float32)
        for dark in (False, True):
            noise = rng.normal(0.0, rng.uniform(0.5, 6.0), shown.shape)
            if dark:
                changed = shown * rng.uniform(0.0, 0.05) + noise
            else:
                cloth = Cloth(size, rng)
                sway = [round(size / 12 * (1 + np.sin(i / 5.0))) for i in range(len(shown))]
                pairs = zip(shown, sway, strict=True)
                changed = np.stack([cloth.over(p, 1.0, s) for p, s in pairs])
                changed = changed + noise
            rows.append(vision.describe(np.clip(changed + 0.5, 0, 255).astype(np.uint8)))
            clips += [2 * number + int(dark)] * len(rows[-1])
            hops += [BinnedHop(stream.name, (HIDDEN,))] * len(rows[-1])
    return Features(np.concatenate(rows), np.array(clips), ('known',) * len(clips), tuple(hops))


def _with_hops(vision: StreamingVision, streams: Sequence[Stream]) -> list[Stream]:
    """Return the streams that are at least one tubelet long. Raises InputError if none is."""
    found = [stream for stream in streams if stream.frame_count >= vision.facts.tubelet_frames]
    if not found:
        raise InputError('cannot fit the detectors: there are no streams of familiar scenes')
    return found


def outlier_features(vision: StreamingVision, sources: Iterable[str]) -> Features:
    """Compute features of outliers: synthetic clips and clips of unfamiliar scenes.

    Args:
        vision: Vision side of the model.
        sources: Names of unfamiliar scenes, or paths of recordings; see `data.unfamiliar`.

    Raises:
        InputError: A source cannot be read.
    """
    rows, clips, kinds = list[Array](), list[int](), list[str]()
    size = vision.facts.image_size
    for kind in (*unfamiliar.synthetic_clips.FITTED, *sources):
        for frames in unfamiliar.clips(kind, CLIPS, CLIP_FRAMES, size):
            rows.append(vision.describe(frames))
            clips += [len(rows)] * len(rows[-1])
            kinds += [kind] * len(rows[-1])
    return Features(np.concatenate(rows), np.array(clips), tuple(kinds))


def concatenated(one: Features, other: Features) -> Features:
    """Concatenate two sets of features; the clip indices of `other` are shifted to be unique."""
    return Features(
        np.concatenate([one.values, other.values]),
        np.concatenate([one.clip, other.clip + one.clip.max() + 1]),
        one.kind + other.kind,
        one.hops + other.hops,
    )


def fit_scenes(known: Features, outliers: Features) -> Fitted:
    """Fit the detector of unfamiliar scenes, and measure its error rates by cross-validation.

    Args:
        known: Features of familiar hops.
        outliers: Features of outliers.
    """
    fold = folds(known)
    names = sorted(set(outliers.kind))
    place = np.array([names.index(kind) % (int(fold.max()) + 1) for kind in outliers.kind])
    figures = np.zeros((len(known.values), 3), np.float32)
    others = np.zeros((len(outliers.values), 3), np.float32)
    near, near_others = (np.zeros(len(x), np.int64) for x in (figures, others))
    for number in range(int(fold.max()) + 1):
        held_out, rest = fold == number, fold != number
        part = rest if rest.any() else held_out  # with a single stream, nothing can be left out
        detector = _unweighted(known, part, outliers, place != number)
        figures[held_out], near[held_out] = detector.figures(known.values[held_out])
        own = place == number
        if own.any():
            others[own], near_others[own] = detector.figures(outliers.values[own])
    every = np.ones(len(known.values), bool)
    detector = _unweighted(known, every, outliers, np.ones(len(outliers.values), bool))
    weights = _weights(figures, others)
    logits = _smoothed(figures @ weights, known)
    thresholds = _thresholds(logits, near, known, len(detector.densities))
    logits = _smoothed(figures @ weights - thresholds[near], known)
    weighed = dataclasses.replace(
        detector,
        weights=weights.astype(np.float32),
        thresholds=thresholds.astype(np.float32),
    )
    fitted = Fitted(weighed)
    for name, rows in _bins(known).items():
        fitted.refused[name] = float((logits[rows] >= 0).mean())
    other = _smoothed(others @ weights - thresholds[near_others], outliers)
    for kind in names:
        fitted.caught[kind] = float((other[np.array(outliers.kind) == kind] >= 0).mean())
    return fitted


def folds(known: Features) -> NDArray[np.int64]:
    """Return the index of each familiar hop's fold (N,); a stream with all its clips has one."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(hop.stream for hop in known.hops))}
    return np.array([numbers[hop.stream] % FOLDS for hop in known.hops], np.int64)


def _unweighted(
    known: Features, part: Flags, outliers: Features, other: Flags
) -> SceneFamiliarity:
    """Fit the densities and the head of a detector, with weights of 1 and thresholds of 0.

    Args:
        known: Features of familiar hops.
        part: Mask of the rows of `known` to fit on.
        outliers: Features of outliers.
        other: Mask of the rows of `outliers` to fit on; if it is empty, all rows are used.
    """
    hidden = known.hidden
    lit, dark = known.values[part & ~hidden], known.values[part & hidden]
    if len(lit) < FEWEST_HIDDEN:  # almost all hops are dark or covered
        lit, dark = known.values[part], known.values[:0]
    densities = [_density(lit, COMPONENTS)]
    if len(dark) >= FEWEST_HIDDEN:
        densities.append(_density(dark, HIDDEN_COMPONENTS))
    kinds = np.array(outliers.kind)[other]
    rows = outliers.values[other] if len(kinds) else outliers.values
    kinds = kinds if len(kinds) else np.array(outliers.kind)
    head = _head(known.values[part], rows, kinds, densities[0])
    ones, zeros = np.ones(3, np.float32), np.zeros(len(densities), np.float32)
    return SceneFamiliarity(tuple(densities), head, ones, zeros)


def _density(values: Array, most: int) -> Density:
    """Fit the principal components of familiar features, and the statistics of their distances.

    The statistics (`Density.level`) describe the distances of one half of the hops to components
    that were fitted on the other half. The halves consist of alternating runs of hops, because
    consecutive hops are similar.

    Args:
        values: Features (N, F) of familiar hops.
        most: Maximum number of principal components.
    """
    run = max(1, len(values) // 16)
    half = np.arange(len(values)) // run % 2 == 0
    if half.all():
        half[len(half) // 2 :] = False
    level = _components(values[half], most, np.array([0, 1, 0, 1], np.float32))
    raw = level.distances(values[~half])
    (within, energy), spread = np.median(raw, axis=0), raw.std(axis=0) + 0.05
    own = np.array([within, spread[0], energy, spread[1]], np.float32)
    return _components(values, most, own)


def _components(values: Array, most: int, level: Array) -> Density:
    mean, scale = values.mean(0), values.std(0) + 1e-2
    z = (values - mean) / scale
    count = max(1, min(most, len(values) // 10, values.shape[1] // 2))
    if len(z) < z.shape[1]:
        _, singular, rows = np.linalg.svd(z, full_matrices=False)
        variance, basis = singular**2 / len(z), rows.T
    else:
        rising, columns = np.linalg.eigh(z.T @ z / len(z))
        variance, basis = rising[::-1], columns[:, ::-1]
    stored = basis[:, :count].astype(np.float16).astype(np.float32)  # rounded as in the file
    regularized = (variance[:count] + VARIANCE).astype(np.float32)
    return Density(mean, scale, stored, regularized, level)


def _head(known: Array, outliers: Array, kinds: NDArray[Any], scene: Density) -> Array:
    """Fit a logistic regression that separates outliers from familiar hops.

    All kinds of outliers together have the same weight as the familiar hops, and each kind has the
    same weight.

    Args:
        known: Features (N, F) of familiar hops.
        outliers: Features (N, F) of outliers.
        kinds: Kind of each outlier (N,).
        scene: Density whose mean and scale standardize the features.

    Returns:
        Weights of the standardized features, then the bias (F + 1,).
    """
    names, index, count = np.unique(kinds, return_inverse=True, return_counts=True)
    weight = np.concatenate(
        [np.full(len(known), 0.5 / len(known)), 0.5 / len(names) / count[index]]
    )
    z = np.clip((np.concatenate([known, outliers]) - scene.mean) / scene.scale, -CLIP, CLIP)
    x, w = torch.from_numpy(z.astype(np.float32)), torch.from_numpy(weight.astype(np.float32))
    sign = torch.cat([torch.full((len(known),), -1.0), torch.ones(len(outliers))])
    head = torch.zeros(x.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([head], max_iter=60, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (w * softplus(-sign * (x @ head[:-1] + head[-1]))).sum()
        value = value + HEAD_RIDGE * (head[:-1] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    found: Array = head.detach().numpy()
    return found


def _weights(known: Array, outliers: Array) -> NDArray[np.float64]:
    """Fit non-negative weights (3,) that combine the three scores to the logit of an outlier.

    Args:
        known: Scores (N, 3) of familiar hops from `SceneFamiliarity.figures`.
        outliers: Scores (N, 3) of outliers.
    """
    often = max(1, round(len(known) / len(outliers)))
    x = np.concatenate([known, *([outliers] * often)]).astype(np.float64)
    wrong = np.arange(len(x)) >= len(known)
    columns = [0, 1, 2]
    while True:
        slopes, _ = fit_logistic_regression(x[:, columns], wrong)
        if min(slopes) > 0 or len(columns) == 1:
            break
        columns.pop(int(np.argmin(slopes)))
    found = np.zeros(3)
    found[columns] = np.maximum(slopes, 1e-3)
    return found


def _smoothed(logits: NDArray[np.floating], of: Features) -> NDArray[np.float64]:
    """Average the logit of each hop (N,) with those of the `TUBELETS` - 1 hops before it.

    The average includes only hops of the same clip, as at run time.
    """
    found = np.zeros(len(logits))
    for row in range(len(logits)):
        first = row
        while first > max(0, row - TUBELETS + 1) and of.clip[first - 1] == of.clip[row]:
            first -= 1
        found[row] = logits[first : row + 1].mean()
    return found


def _thresholds(
    logits: NDArray[np.float64], near: NDArray[np.int64], known: Features, densities: int
) -> NDArray[np.float64]:
    """Return a threshold for each density (densities,) so that few familiar hops are rejected.

    In every large bin, at most `REFUSED` of the hops nearest to one density are rejected, and at
    most `REFUSED_IN_ALL` of all hops.

    Args:
        logits: Averaged logits (N,) of familiar hops, without thresholds.
        near: Index of the nearest density (N,).
        known: Features of the familiar hops, with their bins.
        densities: Number of densities.
    """
    found = np.zeros(densities)
    for number in range(densities):
        own = [rows[near[rows] == number] for rows in _bins(known).values()]
        found[number] = max(
            (
                float(np.quantile(logits[rows], 1.0 - REFUSED, method='higher')) + 1e-6
                for rows in own
                if len(rows) >= FEWEST_IN_BIN
            ),
            default=float(logits.max()) + 1e-6,
        )
    # The second limit applies to all hops of a bin, whichever density is nearest.
    above, bins = logits - found[near], _bins(known).values()
    share = 1.0 - REFUSED_IN_ALL
    over = [np.quantile(above[rows], share, method='higher') for rows in bins]
    return found + max(0.0, float(max(over)) + 1e-6)


def _bins(known: Features) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the familiar hops in each bin, and of all hops as the bin 'all'.

    Bins with fewer than `FEWEST_IN_BIN` hops are left out.
    """
    found: dict[str, list[int]] = {}
    for row, hop in enumerate(known.hops):
        for name in hop.bins:
            found.setdefault(name, []).append(row)
    large = {name: np.array(rows) for name, rows in found.items() if len(rows) >= FEWEST_IN_BIN}
    return {'all': np.arange(len(known.hops)), **dict(sorted(large.items()))}


def _resized(vision: StreamingVision, frames: Any) -> NDArray[np.uint8]:
    """Scale the frames of a stream (frames, side, side, 3) to the model's image size."""
    size = vision.facts.image_size
    images = np.asarray(frames)
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([fit(image, size) for image in images])
