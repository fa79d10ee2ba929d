# SPDX-License-Identifier: Apache-2.0
"""Fitting of the detectors: separation, thresholds in every bin, and the command."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.synthetic_streams import film

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Stream, read_stream, write_stream
from vljepa_ros.data.unfamiliar import synthetic_clips
from vljepa_ros.evaluate.bins import HIDDEN, BinnedHop
from vljepa_ros.train.familiarity import (
    REFUSED_IN_ALL,
    Features,
    concatenated,
    fit_scenes,
    folds,
    hidden_features,
    known_features,
)

WIDTH = 24


def scenes_of_two_views(rng: np.random.Generator, streams: int = 8, hops: int = 120) -> Features:
    """Return scenes in a 3-dimensional subspace; one view is farther out, some hops are hidden."""
    axes = rng.normal(size=(3, WIDTH))
    values, found = [], []
    for stream in range(streams):
        for hop in range(hops):
            hidden, far = hop >= hops - 20, stream % 2 == 1
            place = rng.normal(0, 3.0 if far else 1.0, 3)
            row = place @ axes + rng.normal(0, 0.05, WIDTH)
            values.append(np.full(WIDTH, 20.0) + rng.normal(0, 1, WIDTH) if hidden else row)
            name = HIDDEN if hidden else f'view: {"far" if far else "near"}'
            found.append(BinnedHop(f's{stream}', (name,)))
    clip = np.repeat(np.arange(streams), hops)
    return Features(np.array(values, np.float32), clip, ('known',) * len(found), tuple(found))


def outliers(rng: np.random.Generator, kinds: int = 4, rows: int = 60) -> Features:
    values = rng.normal(0, 3.0, (kinds * rows, WIDTH)).astype(np.float32)
    names = tuple(f'kind {k}' for k in range(kinds) for _ in range(rows))
    return Features(values, np.arange(kinds * rows) // 15, names)


def test_outliers_are_unfamiliar_and_every_bin_has_few_false_positives() -> None:
    rng = np.random.default_rng(0)
    scenes = scenes_of_two_views(rng)
    fitted = fit_scenes(scenes, outliers(rng))
    assert set(fitted.refused) == {'all', HIDDEN, 'view: far', 'view: near'}
    assert max(fitted.refused.values()) <= REFUSED_IN_ALL
    assert min(fitted.caught.values()) > 0.95
    new = rng.uniform(-8, 8, (200, WIDTH)).astype(np.float32)
    assert (fitted.detector.logits(new) > 0).mean() > 0.95
    seen = fitted.detector.logits(scenes.values).reshape(-1, 4).mean(axis=1)  # as at run time
    assert (seen > 0).mean() < 0.03


def test_streams_without_hidden_hops_have_one_density() -> None:
    rng = np.random.default_rng(1)
    found = scenes_of_two_views(rng)
    lit = ~found.hidden
    part = Features(
        found.values[lit],
        found.clip[lit],
        ('known',) * int(lit.sum()),
        tuple(h for h, use in zip(found.hops, lit, strict=True) if use),
    )
    assert len(fit_scenes(part, outliers(rng)).detector.densities) == 1


def stream(folder: Path, name: str, frames: int) -> Stream:
    whole = film(name, 0)
    cut = replace(whole, frames=whole.frames[:frames], stamps_ns=whole.stamps_ns[:frames])
    return read_stream(write_stream(folder, cut))


def test_a_fold_holds_out_whole_streams_with_their_changed_images(
    tiny: Any, tmp_path: Path
) -> None:
    streams = [stream(tmp_path, f's{i}', 20) for i in range(4)]
    found = concatenated(
        known_features(tiny.vision, streams), hidden_features(tiny.vision, streams)
    )
    fold_of: dict[str, set[int]] = {}
    for hop, fold in zip(found.hops, folds(found), strict=True):
        fold_of.setdefault(hop.stream, set()).add(int(fold))
    assert fold_of == {'s0': {0}, 's1': {1}, 's2': {2}, 's3': {0}}
    # As shown, corrupted, covered and dark; each of them is one run of hops.
    assert len(set(found.clip.tolist())) == 4 * 4
    assert sum(a != b for a, b in pairwise(found.clip.tolist())) == 4 * 4 - 1


def test_streams_without_a_whole_tubelet_are_left_out(tiny: Any, tmp_path: Path) -> None:
    long, short = stream(tmp_path, 'long', 20), stream(tmp_path, 'short', 1)
    for features in (known_features, hidden_features):
        found = features(tiny.vision, [short, long])
        assert {hop.stream for hop in found.hops} == {'long'}
        with pytest.raises(InputError, match='no streams of familiar scenes'):
            features(tiny.vision, [short])


@pytest.mark.parametrize('kind', synthetic_clips.KINDS)
@pytest.mark.parametrize('size', [32, 96])
def test_synthetic_outliers_are_determined_by_their_seed_in_any_size(kind: str, size: int) -> None:
    found = synthetic_clips.make(kind, 3, 4, size)
    assert found.shape == (4, size, size, 3) and found.dtype == np.uint8
    assert found.std() > 5
    np.testing.assert_array_equal(found, synthetic_clips.make(kind, 3, 4, size))
    assert (found != synthetic_clips.make(kind, 4, 4, size)).any()


def test_no_kind_is_both_fitted_and_tested() -> None:
    from vljepa_ros.evaluate.suites.unfamiliar import FAR, NEAR
    from vljepa_ros.train.config import TrainConfig
    from vljepa_ros.train.config_file import read_config

    assert set(synthetic_clips.FITTED) | set(synthetic_clips.TESTED) == set(synthetic_clips.KINDS)
    from pathlib import Path

    for path in Path('models/small').glob('train*.yaml'):
        config = read_config(path)
        assert isinstance(config, TrainConfig)
        fitted = {*synthetic_clips.FITTED, *config.familiarity.unfamiliar}
        assert not fitted & {*FAR, *NEAR}


def test_an_unknown_source_is_named() -> None:
    from vljepa_ros.data import unfamiliar

    with pytest.raises(InputError, match="'no such thing'"):
        unfamiliar.require(['no such thing'])
