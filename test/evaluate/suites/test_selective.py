# SPDX-License-Identifier: Apache-2.0
"""Suite selective: assignment of decodes, scores, and selection of thresholds."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from helpers.toy_suites import annotation, context, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Decoded
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.evaluate import decode_rules as selection
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decode_rules import (
    HIGHEST_THRESHOLD,
    PERIODS_S,
    Decodes,
    allowed,
    by_settings,
    end_to_end,
    moving,
    named,
    online,
    our_settings,
    pooled,
    thresholds_within,
    uniform,
    ward,
    within,
)
from vljepa_ros.evaluate.decoded_texts import CachedDecoder
from vljepa_ros.evaluate.motion import Motion
from vljepa_ros.evaluate.plots import draw
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.stream_embeddings import StreamEmbeddings, nearest
from vljepa_ros.evaluate.suites.selective import (
    AnnotatedSpan,
    Recorded,
    RuleResult,
    Table,
    in_force,
    report,
    score_rows,
    selective,
    taken,
)
from vljepa_ros.stream.offline_segmenter import clustered

HOP_NS = 200_000_000


def hops(vectors: Any) -> StreamEmbeddings:
    """Return one hop every 0.2 s, the first at 0.1 s, as with frames every 0.1 s."""
    array = np.array(vectors, np.float32)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    return StreamEmbeddings(array, np.arange(len(array), dtype=np.int64) * HOP_NS + HOP_NS // 2)


def plateaus(lengths: Sequence[int], axes: Sequence[int], dim: int = 6) -> StreamEmbeddings:
    """Return runs of hops, each of which points along one axis."""
    return hops(np.eye(dim)[np.repeat(axes, lengths)])


def hop_indices(decodes: Decodes) -> list[int]:
    """Return the hops at the times of the decodes."""
    return ((decodes.at_ns - HOP_NS // 2) // HOP_NS).tolist()


class AxisDecoder:
    """Text side that decodes a vector to the name of its longest axis, and counts decodes."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def decode(self, vectors: Any, asked: bool = False) -> list[Decoded]:
        """Decode each vector."""
        self.calls.append(len(vectors))
        return [Decoded(f'axis {int(i)}', 1.0) for i in np.argmax(vectors, axis=1)]


def stamps(*at: int) -> np.ndarray:
    return np.array(at, np.int64)


@pytest.mark.parametrize(
    ('at', 'expected'), [(-5, 0), (0, 0), (14, 0), (15, 0), (16, 1), (45, 1), (46, 2), (999, 2)]
)
def test_an_annotation_is_assigned_the_nearest_decode_or_the_earlier_of_two(
    at: int, expected: int
) -> None:
    assert nearest(stamps(0, 30, 60), stamps(at)).tolist() == [expected]
    assert nearest(stamps(7), stamps(at)).tolist() == [0]


def test_nearest_equals_an_exhaustive_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        at = rng.integers(0, 40, rng.integers(1, 9))  # an update can have an older stamp
        times = rng.integers(-5, 45, 20)
        expected = [min(range(len(at)), key=lambda i: (abs(t - at[i]), at[i], i)) for t in times]
        assert nearest(at, times).tolist() == expected


def test_the_text_in_force_is_the_last_one_before() -> None:
    assert in_force(stamps(10, 20, 20, 30), stamps(5, 10, 11, 20, 21, 99)).tolist() == [
        -1,
        -1,
        0,
        0,
        2,
        3,
    ]


def test_a_decode_is_assigned_by_its_stamp_and_in_force_from_its_emission() -> None:
    decodes = Decodes(np.eye(2, dtype=np.float32), stamps(10, 40), stamps(20, 50))
    near, force = taken(decodes, stamps(15, 24, 26, 60))
    assert near.tolist() == [0, 0, 1, 1] and force.tolist() == [-1, 0, 0, 1]
    offline = Decodes(decodes.vectors, decodes.at_ns)
    assert len(taken(offline, stamps(15))) == 1


def test_the_budget_is_one_decode_per_period_and_at_least_one() -> None:
    minute, ten = plateaus([300], [0]), plateaus([3000], [0])
    assert minute.seconds == pytest.approx(60.0)
    assert [allowed(minute, p) for p in PERIODS_S] == [300, 60, 21, 12, 6, 2, 1]
    assert [allowed(ten, p) for p in PERIODS_S] == [3000, 600, 210, 120, 60, 20, 6]
    assert 210 / 600 <= 1 / 2.85  # the target on decodes can be reached
    assert [named(p) for p in PERIODS_S[:3]] == ['every hop', '1/1 s', '1/2.85 s']
    short = plateaus([3], [0])
    assert [allowed(short, p) for p in PERIODS_S] == [3, 1, 1, 1, 1, 1, 1]
    assert (
        allowed(StreamEmbeddings(short.vectors, short.stamps_ns * 10), 1.0) == 3
    )  # not more than there are hops


def test_uniform_decodes_the_middle_of_equal_parts() -> None:
    found = uniform(plateaus([15], [0]), 3)
    assert hop_indices(found) == [2, 7, 12]
    assert found.emitted_ns is not None and (found.emitted_ns == found.at_ns).all()
    assert hop_indices(uniform(plateaus([4], [0]), 2)) == [0, 2]  # the earlier of two
    assert hop_indices(uniform(plateaus([5], [0]), 5)) == [0, 1, 2, 3, 4]


def test_pooling_decodes_the_mean_with_the_middle_stamp_at_the_end() -> None:
    stream = hops([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0]])
    found = pooled(stream, 2)
    assert found.emitted_ns is not None
    assert hop_indices(found) == [1, 3]  # the middle of three, and between two: 0.5 and 0.8 s
    assert found.at_ns.tolist() == [300_000_000, 800_000_000]
    assert found.emitted_ns.tolist() == [500_000_000, 900_000_000]
    expected = [[1 / math.sqrt(5), 2 / math.sqrt(5)], [math.sqrt(0.5)] * 2]
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-6)


def reference_ward(vectors: np.ndarray, count: int) -> list[list[int]]:
    """Merge the two neighbors that add least to the sum of squares, until `count` are left."""
    parts = [[i] for i in range(len(vectors))]
    while len(parts) > count:

        def cost(i: int) -> float:
            one, other = parts[i], parts[i + 1]
            gap = vectors[one].mean(axis=0) - vectors[other].mean(axis=0)
            return len(one) * len(other) / (len(one) + len(other)) * float(gap @ gap)

        best = min(range(len(parts) - 1), key=cost)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def test_ward_merges_the_neighbors_that_add_least_to_the_sum_of_squares() -> None:
    pytest.importorskip('sklearn')
    for seed in range(5):
        stream = hops(np.random.default_rng(seed).normal(size=(17, 5)))
        for count in (1, 2, 5, 11, 16, 17, 40):
            found = [part.tolist() for part in clustered(stream.vectors, count)]
            assert found == reference_ward(stream.vectors.astype(float), min(count, 17))


def test_ward_keeps_a_recurring_concept_as_a_separate_segment() -> None:
    pytest.importorskip('sklearn')
    found = ward(plateaus([6, 4, 5], [0, 1, 0]), 3)
    assert np.argmax(found.vectors, axis=1).tolist() == [0, 1, 0]
    middles = [(0 + 5) / 2, (6 + 9) / 2, (10 + 14) / 2]
    assert (found.at_ns / HOP_NS - 0.5).tolist() == pytest.approx(middles)
    assert found.emitted_ns is None  # available after the whole stream only


def test_the_online_rule_decodes_the_second_hop_of_a_new_segment() -> None:
    found = online(plateaus([10, 10, 10], [0, 1, 2]), 0.1)
    assert hop_indices(found) == [0, 11, 21]  # two consecutive hops start a segment
    assert np.argmax(found.vectors, axis=1).tolist() == [0, 1, 2]
    assert found.emitted_ns is not None and (found.emitted_ns == found.at_ns).all()


def test_updates_count_as_decodes() -> None:
    """A segment starts with two transitional hops, so that its text is updated."""

    def at(degrees: float) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]

    stream = hops([at(0)] * 10 + [at(60)] * 2 + [at(100)] * 40)

    def moved(count: int) -> float:
        mean = np.array([at(60)] * 2 + [at(100)] * count).sum(axis=0)
        return 1 - float(mean @ at(60) / np.linalg.norm(mean))

    drift = SegmenterSettings().drift_threshold  # smaller than the default change
    updated = 11 + next(count for count in range(1, 40) if moved(count) > drift)
    found = online(stream, 1.0)
    assert hop_indices(found) == [0, 11, updated]  # the averaged span ends there
    assert found.emitted_ns is not None
    assert ((found.emitted_ns - found.at_ns) / HOP_NS).tolist() == [0, 0, 8]  # it waited for 8
    assert len(online(stream, HIGHEST_THRESHOLD).at_ns) == 1


def test_the_final_decode_of_a_segment_is_of_its_last_hop() -> None:
    """The segment has two hops, then five similar ones, and then another concept follows."""

    def at(degrees: float) -> list[float]:
        return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]

    stream = hops([at(0)] * 10 + [at(60)] * 2 + [at(100)] * 6 + [[0, 0, 1]] * 5)
    found = online(stream, 1.0)
    assert found.emitted_ns is not None
    emitted = (found.emitted_ns // HOP_NS).tolist()
    assert hop_indices(found) == [0, 11, 17, 19] and emitted == [0, 11, 19, 19]


def test_a_high_threshold_decodes_long_segments_until_the_stream_ends() -> None:
    rng = np.random.default_rng(0)
    names = rng.normal(size=(60, 64))
    lengths = [4, 4, 4, 40] * 15  # 0.8 s, and 8 s
    stream = hops(np.repeat(names, lengths, axis=0))
    found = by_settings(stream, SegmenterSettings(change_threshold=12.0, drift_threshold=1.7))
    starts = np.cumsum([0, *lengths])[[7, 11, 15]]
    assert 15 <= len(found.at_ns) <= 31  # at most two for each long segment
    assert all(any(0 <= slot - start < 40 for slot in hop_indices(found)) for start in starts)
    last_s = found.at_ns[-1] / 1e9
    assert last_s > stream.seconds - 60  # it decodes until the end
    assert SegmenterSettings().longest_run == 8
    assert SegmenterSettings(change_threshold=0.1).longest_run == 8
    assert SegmenterSettings(change_threshold=12.0).longest_run == 69


def test_the_highest_thresholds_lengthen_the_minimum_segment() -> None:
    stream = hops(np.repeat(np.eye(120), 5, axis=0))  # a new concept each second
    counts = []
    for threshold in (2.0, 8.0, 20.0, 40.0):
        found, settings = online(stream, threshold), our_settings(threshold)
        assert settings.change_threshold == 2.0
        begun_s = np.diff(found.at_ns) / 1e9
        assert begun_s.min() >= settings.min_segment_s - 1.8  # a run of 8 hops and a bit
        assert (
            begun_s.max() <= settings.min_segment_s + 1.8 + 1.0
        )  # plus the time to the next change
        counts.append(len(found.at_ns))
    assert counts == sorted(counts, reverse=True) and counts[-1] == 2


def test_streams_are_concatenated() -> None:
    streams = [plateaus([50], [i]) for i in range(5)]  # ten seconds each
    assert [found.seconds for found in end_to_end(streams, 1.0)] == pytest.approx([10.0] * 5)
    both = end_to_end(streams, 20.0)
    assert [found.seconds for found in both] == pytest.approx([20.0, 20.0, 10.0])
    assert (np.diff(both[0].stamps_ns) == HOP_NS).all() and both[0].stamps_ns[0] == HOP_NS // 2
    assert np.argmax(both[0].vectors[[49, 50]], axis=1).tolist() == [0, 1]
    (whole,) = end_to_end(streams, 1e9)
    assert whole.seconds == pytest.approx(50.0) and end_to_end([], 1.0) == []


def test_the_motion_rule_decodes_after_the_highest_peaks() -> None:
    stream = plateaus([5, 5, 5], [0, 1, 2])  # hops at 0.1, 0.3, ... s
    at_s = 0.1 * np.arange(30)
    moved = np.zeros(30)
    moved[[10, 20]] = 9.0, 8.0  # at 1.0 and 2.0 s
    found = moving(stream, Motion(moved, at_s), 2)
    assert hop_indices(found) == [5, 10] and np.argmax(found.vectors, axis=1).tolist() == [1, 2]
    assert hop_indices(moving(stream, Motion(moved, at_s), 1)) == [5]
    assert found.emitted_ns is None  # the highest peaks are known at the end only
    assert len(moving(stream, Motion(moved, at_s), 30).at_ns) == 4  # peaks at least 0.8 s apart


def test_oracle_boundaries_decode_each_annotated_span_once() -> None:
    stream = plateaus([5, 5, 5], [0, 1, 2])  # hops at 0.1, 0.3, ... s
    found = within(stream, [(0.0, 1.0), (1.0, 2.0), (2.0, 2.05), (2.05, 3.0)])
    assert found.at_ns.tolist() == [500_000_000, 1_500_000_000, 2_025_000_000, 2_525_000_000]
    assert np.argmax(found.vectors, axis=1).tolist() == [0, 1, 2, 2]  # no hop in 2.00..2.05 s
    np.testing.assert_allclose(found.vectors.max(axis=1), 1.0)
    later = within(stream, [(2.0, 3.0), (0.0, 1.0)])
    assert np.argmax(later.vectors, axis=1).tolist() == [0, 2]  # in order of time


def test_one_threshold_keeps_all_streams_within_the_total_budget() -> None:
    rng = np.random.default_rng(0)
    streams = [hops(np.repeat(rng.normal(size=(n, 8)), 7, axis=0)) for n in (40, 15)]
    budgets = {period: sum(allowed(s, period) for s in streams) for period in PERIODS_S}

    def spent(threshold: float) -> int:
        return sum(len(online(s, threshold).at_ns) for s in streams)

    step = (selection.HIGHEST_THRESHOLD / selection.LOWEST_THRESHOLD) ** (2**-selection.HALVINGS)
    for share in (1.0, 0.8):
        found = thresholds_within(streams, PERIODS_S, share)
        for period, threshold in found.items():
            budget = share * budgets[period]
            assert spent(threshold) <= max(budget, spent(selection.HIGHEST_THRESHOLD))
            if 0 < threshold < selection.HIGHEST_THRESHOLD:  # a slightly lower one exceeds it
                assert spent(threshold / step**2) > budget
        assert found[0.0] == 0.0  # no rule decodes at every hop
        assert found[5.0] > 0.0


def test_equal_vectors_are_decoded_once() -> None:
    language = AxisDecoder()
    decoder = CachedDecoder(language)  # type: ignore[arg-type]
    eye = np.eye(3, dtype=np.float32)
    assert decoder.texts(eye[[0, 1, 0]]) == ['axis 0', 'axis 1', 'axis 0']
    assert decoder.texts(eye[[1, 2]]) == ['axis 1', 'axis 2']
    assert language.calls == [2, 1] and decoder.decoded == 3
    assert decoder.texts(eye[:0]) == []


SPANS = (
    AnnotatedSpan(0.0, 2.0, ('axis 0',)),
    AnnotatedSpan(2.0, 4.0, ('axis 1',)),
    AnnotatedSpan(4.0, 6.0, ('axis 2',)),
)


def scores_of(
    stream: StreamEmbeddings, thresholds: dict[float, float]
) -> tuple[dict[Any, RuleResult], AxisDecoder]:
    language = AxisDecoder()
    recorded = Recorded('a', stream, SPANS, {'blind': ['axis 5', 'axis 1', 'axis 5']})
    decoder = CachedDecoder(language)  # type: ignore[arg-type]
    return score_rows(
        recorded, thresholds, decoder, Cider([s.references for s in SPANS])
    ), language


def test_all_rows_are_scored_and_unassigned_hops_are_not_decoded() -> None:
    pytest.importorskip('sklearn')
    stream = plateaus([10, 10, 10], [0, 1, 2])
    best = Cider([s.references for s in SPANS]).score('axis 1', ('axis 1',))
    assert best > 0 and Cider([s.references for s in SPANS]).score('axis 1', ('axis 2',)) == 0.0
    found, language = scores_of(stream, {0.0: 0.0, 1.0: 0.1, 2.85: HIGHEST_THRESHOLD})
    assert found['uniform', 0.0].decodes == 30 and found['uniform', 1.0].decodes == 6
    assert found['ours', 1.0].decodes == 3 and found['ours', 2.85].decodes == 1
    assert found['oracle boundaries', 0.0].decodes == 3
    for who in ('uniform', 'uniform + pooling', 'offline Ward', 'ours'):
        assert found[who, 1.0].nearest.tolist() == pytest.approx([best] * 3)
    assert found['oracle boundaries', 0.0].nearest.tolist() == pytest.approx([best] * 3)
    assert found['oracle boundaries', 0.0].in_force is None
    assert found['offline Ward', 1.0].in_force is None
    assert found['ours', 2.85].nearest.tolist() == pytest.approx([best, 0, 0])
    # The first of two parts is emitted at its end, at 2.9 s: after the first midpoint.
    force = found['uniform + pooling', 2.85].in_force
    assert force is not None and force[0] == 0.0
    assert found['blind', 0.0].nearest.tolist() == pytest.approx([0, best, 0])
    assert len(language.calls) == 1 and language.calls[0] <= 8  # 30 hops with 3 distinct vectors


def test_no_text_is_in_force_before_the_first_decode() -> None:
    pytest.importorskip('sklearn')
    stream = plateaus([10, 10, 10], [0, 1, 2])
    found, _ = scores_of(stream, {30.0: 0.1})  # uniform has one decode, of hop 14, at 2.9 s
    force = found['uniform', 30.0].in_force
    assert force is not None and force[0] == 0.0 and force[1] > 0.0 and force[2] == 0.0
    near = found['uniform', 30.0].nearest
    assert near[0] == 0.0 and near[1] > 0.0 and near[2] == 0.0


def rows(found: Report) -> dict[tuple[str, str], Row]:
    return {(row.who, row.what): row for row in found.rows}


def synthetic_rows(ours: Sequence[float], decodes: int) -> dict[tuple[str, str], Row]:
    """Report on two streams of 100 s with two annotations each; other rows have CIDEr-D 4."""
    recorded = [Recorded(name, plateaus([500], [0]), SPANS[:2]) for name in 'ab']
    thresholds = {1.0: 0.2, 2.85: 0.3}
    four = np.array([4.0, 4.0])
    scored = {
        (who, period): RuleResult(round(100 / period), four, four)
        for who in ('uniform', 'uniform + pooling', 'offline Ward')
        for period in thresholds
    }
    scored |= {
        ('ours', period): RuleResult(decodes, np.array(ours), four) for period in thresholds
    }
    scored |= {('oracle boundaries', 0.0): RuleResult(2, 1.25 * four)}
    scored |= {('ours by default', 0.0): RuleResult(decodes, np.array(ours), four)}
    return rows(report(Table(recorded, [scored, scored]), thresholds, 'A note.'))


def test_targets_are_fractions_of_the_baseline() -> None:
    found = synthetic_rows([3.92, 3.92], 35)
    kept = found['ours', "CIDEr-D, share of the baseline's: 1/2.85 s"]
    assert kept.mean.value == pytest.approx(0.98) and kept.target == 0.98
    spent = found['ours', "decodes, share of the baseline's: 1/2.85 s"]
    assert spent.mean.value == 0.35 and spent.mean.count == 70
    assert spent.target == pytest.approx(1 / 2.85) and spent.at_most and spent.reached
    assert synthetic_rows([3.9, 3.9], 36)['ours', spent.what].reached is False
    base = found['baseline', "CIDEr-D, share of the oracle boundaries'"]
    assert base.mean.value == pytest.approx(0.8) and base.target == 0.70 and base.reached
    assert found['ours', "CIDEr-D, share of the baseline's: 1/1 s"].target is None
    assert found['ours - uniform', 'CIDEr-D: 1/2.85 s'].mean.value == pytest.approx(-0.08)
    assert found['ours', 'decodes per second: 1/1 s'].mean.value == pytest.approx(0.35)
    assert found['ours', 'threshold: 1/2.85 s'].mean.value == 0.3


def test_default_settings_have_separate_rows() -> None:
    found = synthetic_rows([3.92, 3.92], 5)
    what = {
        'CIDEr-D': 3.92,
        'CIDEr-D in force': 4.0,
        "CIDEr-D, share of the baseline's": 0.98,
        "decodes, share of the baseline's": 0.05,
        'decodes per annotation': 2.5,
    }
    for name, value in what.items():
        row = found['ours by default', name]
        assert row.mean.value == pytest.approx(value)
        has_target = 'share' in name  # like the budget of 1/2.85
        assert (
            row.target == found['ours', f'{name}: 1/2.85 s'].target
            if has_target
            else row.target is None
        )
        assert row.reached is (True if has_target else None)


def test_the_goal_is_for_the_smallest_budget_that_reaches_the_target() -> None:
    what = 'decodes per annotation, of the least budget that keeps 98%'
    assert synthetic_rows([3.93, 3.93], 5)['ours', what].mean.value == pytest.approx(2.5)
    assert np.isnan(synthetic_rows([3.0, 3.0], 5)['ours', what].mean.value)


STREAM = [annotation('act'), annotation('rest'), annotation('act', 'drawer-open')]


def test_perfect_vision_keeps_the_baseline_score_with_one_decode_per_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve seconds with four concepts of three seconds: one decode in 2.85 s allows four."""
    pytest.importorskip('sklearn')
    suite = importlib.import_module('vljepa_ros.evaluate.suites.selective')
    monkeypatch.setattr(suite, 'BUDGET_SHARE', 1.0)  # 95% of four would be three
    streams = [film(tmp_path, name, STREAM) for name in 'ab']
    toy_context = context(streams)
    report = selective(Context(toy_context.model, streams, validation=streams))
    found = rows(report)
    assert found['ours', "CIDEr-D, share of the baseline's: 1/2.85 s"].reached
    spent = found['ours', "decodes, share of the baseline's: 1/2.85 s"]
    assert spent.mean.value == pytest.approx(4 / 12) and spent.reached
    for best in ('oracle', 'oracle boundaries'):
        assert found[best, 'CIDEr-D'].mean.value == found['baseline', 'CIDEr-D'].mean.value
    assert found['blind', 'CIDEr-D'].mean.value < found['ours', 'CIDEr-D: 1/2.85 s'].mean.value
    assert found['ours', 'CIDEr-D: 1/5 s'].mean.value < found['baseline', 'CIDEr-D'].mean.value
    least = found['ours', 'decodes per annotation, of the least budget that keeps 98%']
    assert least.mean.value == 1.0
    assert ('offline Ward', 'CIDEr-D in force: 1/1 s') not in found
    assert [x for x, _ in report.curves['uniform']] == pytest.approx(
        [5, 1, 4 / 12, 2 / 12, 1 / 12, 1 / 12, 1 / 12]
    )
    for alone in ('oracle boundaries', 'baseline', 'ours by default'):
        assert len(report.curves[alone]) == 1
    assert found['motion energy', 'CIDEr-D: 1/1 s'].mean.value > 0.0
    assert 'motion energy' in report.curves
    assert report.as_json()['curves']['baseline'] == [
        [1.0, round(found['baseline', 'CIDEr-D'].mean.value, 6)]
    ]


def test_missing_validation_streams_are_an_error(tmp_path: Path) -> None:
    pytest.importorskip('sklearn')
    with pytest.raises(InputError, match='validation'):
        selective(context([film(tmp_path, 'a', STREAM)]))


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    """Run `vljepa evaluate selective` with a toy: exit status, JSON or None, stderr."""
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args, *parts: toy_suites.model())

    def run(*arguments: object, suite: str = 'selective') -> tuple[int, Any, str]:
        status = main(['evaluate', suite, *map(str, arguments), '--json'])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return run


def thresholds(found: Any) -> list[float]:
    return [r['value'] for r in found['suites'][0]['rows'] if r['what'].startswith('threshold: ')]


def test_the_command_applies_validation_thresholds_to_the_test_split(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip('sklearn')
    film(tmp_path / 'test', 'a', [annotation('rest')] * 3)
    status, _, err = command('--data', tmp_path)
    assert status == 2 and err.count('\n') == 1
    assert str(tmp_path / 'validation') in err
    (tmp_path / 'validation').mkdir()
    assert command('--data', tmp_path)[0] == 2  # an empty folder is an error, too
    for name in 'bc':
        film(tmp_path / 'validation', name, STREAM)
    status, on_test, _ = command('--data', tmp_path, '--streams', 1)
    assert status == 0 and on_test['split'] == 'test' and on_test['streams'] == 1
    assert (
        '2 validation streams' in on_test['suites'][0]['notes'][0]
    )  # all of them, regardless of --streams
    status, on_validation, _ = command('--data', tmp_path, '--split', 'validation')
    assert status == 0 and on_validation['streams'] == 2
    assert thresholds(on_test) == thresholds(on_validation)
    assert len(thresholds(on_test)) == len(PERIODS_S) and thresholds(on_test)[-1] > 0.5


def write_embeddings(folder: Path, **arrays: Any) -> tuple[Path, Path]:
    """Write embeddings of rest, a push and rest, two seconds each, and their annotations."""
    meanings = ['rest', 'act:push:red', 'rest']
    vectors = np.repeat([2.5 * toy_suites.direction(m) for m in meanings], 10, axis=0)
    values = {'vectors': vectors, 'stamps_ns': 10**18 + HOP_NS * np.arange(30), **arrays}
    np.savez(folder / 'own.npz', **{k: v for k, v in values.items() if v is not None})
    lines = [
        json.dumps({'start': 2.0 * i, 'end': 2.0 * i + 2, 'text': sentences(m)[0]})
        for i, m in enumerate(meanings)
    ]
    (folder / 'own.jsonl').write_text('\n'.join(lines))
    return folder / 'own.npz', folder / 'own.jsonl'


def test_user_embeddings_are_evaluated_with_user_annotations(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip('sklearn')
    vectors, texts = write_embeddings(tmp_path, model_id=np.array('toy-0'))
    status, found, _ = command('--embeddings', vectors, '--annotations', texts)
    assert status == 0 and found['embeddings'] == str(vectors) and 'split' not in found
    (suite,) = found['suites']
    by_name = {(r['who'], r['what']): r for r in suite['rows']}
    base = by_name['baseline', 'CIDEr-D']
    assert base['value'] > 0 and base['count'] == 3
    best = by_name['baseline', "CIDEr-D, share of the oracle boundaries'"]
    assert best['value'] == pytest.approx(1.0)
    assert by_name['ours', "CIDEr-D, share of the baseline's: 1/1 s"]['value'] == pytest.approx(1)
    assert ('oracle', 'CIDEr-D') not in by_name  # the concepts are unknown
    assert 'motion energy' not in suite['curves']  # the frames are unknown
    assert by_name['ours by default', 'decodes per annotation']['count'] >= 1
    assert '3 annotations' in suite['notes'][0]


def test_the_output_of_vljepa_embed_is_accepted(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip('sklearn')
    plain, texts = write_embeddings(tmp_path)
    _, expected, _ = command('--embeddings', plain, '--annotations', texts)
    with np.load(plain) as held:
        vectors = held['vectors']
    stamps_s = 0.2 * np.arange(30) + 0.1  # from the recording's start, as annotations are
    as_embed = tmp_path / 'embed.npz'
    np.savez(as_embed, vector=vectors, stamp=stamps_s, model_id=np.array('toy-0'))
    status, found, _ = command('--embeddings', as_embed, '--annotations', texts)
    assert status == 0
    rows = [[r['value'] for r in f['suites'][0]['rows']] for f in (expected, found)]
    assert rows[0] == pytest.approx(rows[1], nan_ok=True)
    np.savez(as_embed, vector=vectors, stamp=np.where(np.arange(30) == 4, np.nan, stamps_s))
    status, _, err = command('--embeddings', as_embed, '--annotations', texts)
    assert status == 2 and "'stamp'" in err and 'finite' in err and err.count('\n') == 1
    np.savez(as_embed, vector=vectors, stamp=np.arange(30))  # whole seconds, not nanoseconds
    status, found, _ = command('--embeddings', as_embed, '--annotations', texts)
    assert status == 0 and found['suites'][0]['rows'][0]['count'] == 3


def test_annotations_of_several_cameras_are_rejected(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip('sklearn')
    vectors, texts = write_embeddings(tmp_path)
    lines = [json.loads(line) for line in texts.read_text().splitlines()]
    for cameras, expected in ((['front'] * 3, 0), (['front', 'rear', 'front'], 2)):
        updated = [
            json.dumps(line | {'source': c}) for line, c in zip(lines, cameras, strict=True)
        ]
        texts.write_text('\n'.join(updated))
        status, _, err = command('--embeddings', vectors, '--annotations', texts)
        assert status == expected
    assert 'front, rear' in err and err.count('\n') == 1


ONES = np.ones((30, toy_suites.DIM), np.float32)
WITH_NAN = np.where(np.arange(30)[:, None] == 3, np.nan, ONES)


@pytest.mark.parametrize(
    ('arrays', 'parts'),
    [
        ({'vectors': None}, ["no array 'vectors'", 'stamps_ns']),
        ({'stamps_ns': None}, ["no array 'stamps_ns'"]),
        ({'vectors': ONES[:, :5]}, [' 5 ', str(toy_suites.DIM), '--model']),
        ({'vectors': ONES[0]}, ["'vectors'", f'({toy_suites.DIM},)', '(T, D)']),
        ({'vectors': ONES.astype(int)}, ["'vectors'", 'int64', '(T, D)']),
        ({'vectors': ONES[:1], 'stamps_ns': np.arange(1)}, ['T >= 2']),
        ({'vectors': WITH_NAN}, ['not finite']),
        ({'vectors': 0 * ONES}, ['zeros']),
        ({'vectors': np.array([None])}, ['not a .npz']),
        ({'stamps_ns': np.arange(29)}, ["'stamps_ns'", '(29,)', '(30,)']),
        ({'stamps_ns': np.arange(30.0)}, ["'stamps_ns'", 'float64', 'int64']),
        ({'stamps_ns': np.arange(30) // 2}, ["'stamps_ns'", 'increase']),
        ({'model_id': np.array('other-1')}, ["'other-1'", "'toy-0'"]),
    ],
)
def test_invalid_embeddings_give_a_one_line_error_with_the_path(
    tmp_path: Path, command: Callable[..., Any], arrays: dict[str, Any], parts: list[str]
) -> None:
    pytest.importorskip('sklearn')
    vectors, texts = write_embeddings(tmp_path, **arrays)
    status, found, err = command('--embeddings', vectors, '--annotations', texts)
    assert status == 2 and found is None and err.count('\n') == 1
    assert all(part in err for part in [str(vectors), *parts]), err


def test_unreadable_files_give_a_one_line_error(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    pytest.importorskip('sklearn')
    vectors, texts = write_embeddings(tmp_path)
    for path, content in (('text.npz', b'no zip'), ('cut.npz', vectors.read_bytes()[:900])):
        (tmp_path / path).write_bytes(content)
        status, _, err = command('--embeddings', tmp_path / path, '--annotations', texts)
        assert status == 2 and f'{path}: not a .npz' in err and err.count('\n') == 1
    np.save(tmp_path / 'bare.npy', ONES)
    status, _, err = command('--embeddings', tmp_path / 'bare.npy', '--annotations', texts)
    assert status == 2 and 'bare.npy: not a .npz' in err
    status, _, err = command('--embeddings', tmp_path / 'gone.npz', '--annotations', texts)
    assert status == 2 and 'gone.npz: No such file' in err
    for line, reason in (('{"start": 1', 'not valid JSON'), ('{"start": 1, "end": 3}', "'text'")):
        texts.write_text(f'{{"start": 0, "end": 1, "text": "a"}}\n{line}\n')
        status, _, err = command('--embeddings', vectors, '--annotations', texts)
        assert status == 2 and f'{texts}:2: ' in err and reason in err and err.count('\n') == 1
    texts.write_text('{"time": 1, "prompt": "?", "answer": "no"}')
    status, _, err = command('--embeddings', vectors, '--annotations', texts)
    assert status == 2 and str(texts) in err and 'no text' in err


@pytest.mark.parametrize(
    ('suite', 'arguments', 'part'),
    [
        ('events', ['--plot', 'x.png'], '--plot'),
        ('all', ['--embeddings', 'x.npz', '--annotations', 'x'], '--embeddings'),
        ('selective', ['--embeddings', 'x.npz'], '--annotations'),
        ('selective', ['--annotations', 'x.jsonl'], '--embeddings'),
    ],
)
def test_conflicting_arguments_give_a_one_line_error(
    command: Callable[..., Any], suite: str, arguments: list[str], part: str
) -> None:
    status, found, err = command(*arguments, suite=suite)
    assert status == 2 and found is None and part in err and err.count('\n') == 1


@pytest.mark.parametrize(
    ('package', 'arguments'), [('matplotlib', ['--plot', 'x.png']), ('sklearn.cluster', [])]
)
def test_a_missing_package_error_names_its_extra(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Any],
    package: str,
    arguments: list[str],
) -> None:
    for split in ('test', 'validation'):
        film(tmp_path / split, 'a', STREAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    status, _, err = command('--data', tmp_path, *arguments)
    assert status == 2 and "pip install '.[evaluate]'" in err and err.count('\n') == 1
    assert ('matplotlib' if arguments else 'scikit-learn') in err


def test_the_plot_is_written(tmp_path: Path, command: Callable[..., Any]) -> None:
    pytest.importorskip('sklearn')
    pytest.importorskip('matplotlib')
    vectors, texts = write_embeddings(tmp_path)
    plot = tmp_path / 'new' / 'selective.png'
    arguments = ['--embeddings', vectors, '--annotations', texts, '--plot', plot]
    assert command(*arguments)[0] == 0 and plot.stat().st_size > 10_000
    status, _, err = command(*arguments[:-1], tmp_path / 'x.what')
    assert status == 2 and 'x.what' in err and err.count('\n') == 1
    with pytest.raises(InputError, match='plot'):
        draw({}, plot)
