# SPDX-License-Identifier: Apache-2.0
"""Suite unfamiliar: detection of unfamiliar scenes.

Familiar scenes are all hops of the split's streams. Unfamiliar scenes are clips of kinds that were
not used for fitting: far kinds (real films and photographs, noise, test patterns) and near kinds
(other robot arms, Meta-World's workbench without its arm). AUROC is over hops; intervals resample
whole streams and clips. At the fixed threshold 0.5, the suite reports rates of refused hops: of
familiar scenes by bins of view, size and light, of unfamiliar scenes by kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import fit
from vljepa_ros.data import unfamiliar as kinds
from vljepa_ros.data.format import Stream
from vljepa_ros.data.unfamiliar import recorded_clips, simulated_clips, synthetic_clips
from vljepa_ros.evaluate.bins import hops_of_bins
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import auroc, mean, redrawn

OURS, THRESHOLD = 'ours', 0.5
# Kinds that no shipped model was fitted on (models/*/train.yaml list the others).
FAR = (
    *synthetic_clips.TESTED,
    'scikit-learn photographs',
    'matplotlib photographs',
    *recorded_clips.FILMS,
)
NEAR = ('fetch arm', 'two ViperX arms', 'jaco arm', 'empty bench')
CLIPS, FRAMES = 16, 30  # clips per kind, frames per clip
SHORTEST = 3  # initial hops of a clip that are not counted, as in a camera's first second
AUROC_AT_LEAST, ABSTAINED_AT_LEAST, REFUSED_AT_MOST = 0.97, 0.95, 0.03
FEWEST = 100  # minimum number of hops of a reported bin


@dataclass(frozen=True)
class ScoredClip:
    """Unfamiliarity scores (0..1) of the hops of a stream or clip, and the bins of each hop."""

    name: str
    scores: NDArray[np.float64]
    bins: tuple[tuple[str, ...], ...] = ()


def unfamiliar(context: Context) -> Report:
    """Return AUROC on near and far scenes, and rates of refused hops at the threshold."""
    kinds.require((*FAR, *NEAR))
    known = context.map(_score_stream, context.streams, 'familiar streams')
    rows = list[Row]()
    for where, names in (('far', FAR), ('near', NEAR)):
        clips = [(name, seed) for name in names for seed in range(CLIPS)]
        seen = context.map(_score_clip, clips, f'{where} unfamiliar clips')
        rows.append(_auroc(where, known, seen))
        rows.append(_abstained(where, seen, ABSTAINED_AT_LEAST))
        for name in names:
            own = [w for (kind, _), w in zip(clips, seen, strict=True) if kind == name]
            rows += [_auroc(f'{where}, {name}', known, own, has_target=False)]
            rows += [_abstained(f'{where}, {name}', own)]
    rows += _refused(known)
    note = (
        f'{len(context.streams)} familiar streams; {CLIPS} clips of {FRAMES} frames of each '
        'unfamiliar kind. None was used for fitting. Rates and AUROC are over hops.'
    )
    return Report('unfamiliar', tuple(rows), (note,))


def _score_stream(context: Context, stream: Stream) -> ScoredClip:
    hops = hops_of_bins(stream, context.vision.facts)
    return ScoredClip(
        stream.name,
        scores(context, stream.frames()),
        tuple(hop.bins for hop in hops),
    )


def _score_clip(context: Context, clip: tuple[str, int]) -> ScoredClip:
    kind, seed = clip
    size = context.vision.facts.image_size
    make = next(
        module.make
        for module, names in (
            (synthetic_clips, synthetic_clips.KINDS),
            (recorded_clips, {**recorded_clips.IMAGES, **recorded_clips.FILMS}),
            (simulated_clips, simulated_clips.SCENES),
        )
        if kind in names
    )
    found = scores(context, make(kind, seed, FRAMES, size))
    return ScoredClip(f'{kind} {seed}', found[SHORTEST:])


def scores(context: Context, frames: Any) -> NDArray[np.float64]:
    """Return the detector's score after each hop of frames (T, S, S, 3) at the model's rate."""
    vision, facts = context.vision, context.vision.facts
    state, found, per, size = (
        vision.new_state(),
        list[float](),
        facts.tubelet_frames,
        facts.image_size,
    )
    for start in range(0, len(frames) - per + 1, per):
        vision.step(state, [fit(np.asarray(f), size) for f in frames[start : start + per]])
        found.append(vision.unfamiliar(state))
    if not found:
        raise InputError(f'{len(frames)} frames are too few for one hop of {per} frames')
    return np.array(found)


def _auroc(
    where: str, known: Sequence[ScoredClip], seen: Sequence[ScoredClip], has_target: bool = True
) -> Row:
    every = [*known, *seen]
    score = np.concatenate([w.scores for w in every])
    first = sum(len(w.scores) for w in known)
    wrong = np.arange(len(score)) >= first
    clusters = [w.name for w in every for _ in w.scores]
    found = redrawn(lambda weight: auroc(score, wrong, weight), clusters).interval()
    return Row(OURS, f'AUROC: {where}', found, AUROC_AT_LEAST if has_target else None)


def _abstained(where: str, seen: Sequence[ScoredClip], target: float | None = None) -> Row:
    refused = [float(s >= THRESHOLD) for w in seen for s in w.scores]
    names = [w.name for w in seen for _ in w.scores]
    return Row(OURS, f'abstained: {where}', mean(refused, clusters=names), target)


def _refused(known: Sequence[ScoredClip]) -> list[Row]:
    """Return the fraction of familiar hops that are refused, overall and per bin."""
    found: dict[str, list[tuple[str, float]]] = {}
    for w in known:
        for score, bins in zip(w.scores, w.bins, strict=True):
            for name in ('all', *bins):
                found.setdefault(name, []).append((w.name, float(score >= THRESHOLD)))
    rows = []
    for name in ('all', *sorted(set(found) - {'all'})):
        if len(found[name]) >= FEWEST or name == 'all':
            refused = mean([r for _, r in found[name]], clusters=[n for n, _ in found[name]])
            rows.append(Row(OURS, f'known refused: {name}', refused, REFUSED_AT_MOST, True))
    return rows
