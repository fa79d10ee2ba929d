# SPDX-License-Identifier: Apache-2.0
"""Suite retrieve: strata of the gallery, and retrieval results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.printed import numbers
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.evaluate.suites.retrieve import gallery, hits, retrieve


def test_a_hit_is_any_clip_of_the_concept_among_the_nearest() -> None:
    items = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    queries = np.array([[0.9, 0.43], [0, 1], [1, 0]], np.float32)
    clip_concepts = ['b', 'b', 'a']
    assert hits(queries, ['a', 'b', 'b'], items, clip_concepts) == [1.0, 1.0, 1.0]
    assert hits(queries[::-1], ['a', 'b', 'b'], items, clip_concepts) == [0.0, 1.0, 0.0]
    assert hits(queries[::-1], ['a', 'b', 'b'], items, clip_concepts, 2) == [1.0, 1.0, 1.0]


def test_gallery_is_balanced_over_phases_and_excludes_rest(tmp_path: Path) -> None:
    phases = ['reach'] * 10 + ['contact', 'rest', 'done'] + ['act'] * 10 + ['appear'] * 3
    items = [
        annotation(p, meaning='appear:tin:red' if p == 'appear' else None, episode=i)
        for i, p in enumerate(phases)
    ]
    streams = [film(tmp_path, 'a', items[:12]), film(tmp_path, 'b', items[12:])]
    found = gallery(streams, CONCEPTS.train_tasks, np.random.default_rng(0), 9)
    assert Counter(m.item.phase for m in found) == {'reach': 4, 'contact': 1, 'act': 4}
    assert len({(m.stream.name, m.at_s) for m in found}) == 9
    assert found == gallery(streams, CONCEPTS.train_tasks, np.random.default_rng(0), 9)


def test_cameras_have_equal_shares_of_a_stratum(tmp_path: Path) -> None:
    acts = [annotation('act', episode=i) for i in range(12)]
    streams = [film(tmp_path, 'a', acts), film(tmp_path, 'b', acts[:2], 'topview')]
    found = gallery(streams, CONCEPTS.train_tasks, np.random.default_rng(0), 4)
    assert Counter(m.camera for m in found) == {'corner': 2, 'topview': 2}


def test_recall_of_ours_oracle_and_blind_with_item_counts(tmp_path: Path) -> None:
    acts = [annotation('act', task) for task in ('push', 'soccer', 'hammer', 'sweep')]
    acts += [annotation('reach', 'hammer'), annotation('reach', 'hammer')]
    streams = [film(tmp_path, 'a', acts[:3]), film(tmp_path, 'b', acts[3:])]
    vision = ToyVision(lambda m: 'act:push:red' if m == 'act:soccer:red' else m)
    report = retrieve(context(streams, vision))
    found = {(r.who, r.what): r for r in report.rows}
    assert found['oracle', 'text to clip R@1'].mean.value == 1.0
    assert found['ours', 'text to clip R@1'].mean.value == pytest.approx(4 / 5)
    assert found['ours', 'text to clip R@1'].mean.count == 5  # meanings
    assert found['ours', 'text to clip R@1'].target == 0.80
    assert found['ours', 'clip to text R@1'].mean.value == pytest.approx(5 / 6)
    assert found['blind', 'clip to text R@1'].mean.value <= 2 / 6
    assert found['ours', 'text to clip R@5'].mean.value >= 4 / 5
    assert [(r.who, r.what) for r in report.rows[:4]] == [
        ('ours', 'text to clip R@1'),
        ('oracle', 'text to clip R@1'),
        ('blind', 'text to clip R@1'),
        ('ours', 'text to clip R@5'),
    ]
    assert numbers(report.notes[0])[:3] == [6, 500, 5]  # clips, requested clips, concepts


def test_streams_without_clips_give_no_rows(tmp_path: Path) -> None:
    assert retrieve(context([film(tmp_path, 'a', [annotation('done')])])).rows == ()
