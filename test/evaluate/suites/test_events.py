# SPDX-License-Identifier: Apache-2.0
"""Suite events: true events, number of events per source, false events, and delays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import toy_suites
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.types import Event, State, StreamKey
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.evaluate.motion import energy, peaks
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.segments import DetectedSegment, joined, merged
from vljepa_ros.evaluate.stream_embeddings import StreamEmbeddings
from vljepa_ros.evaluate.suites.events import (
    StreamEvents,
    TextEvent,
    count,
    delays,
    evenly,
    events,
    false_at_rest,
    matches,
)

PUSH, OPENS, REST = 'act:push:red', 'act:drawer-open:red', 'rest'
Rows = dict[tuple[str, str], Row]
LABELLED, BOUNDARIES, AT_REST = 'F1: labeled', 'F1: boundaries', 'false events per minute at rest'


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Rows]:
    """Return the suite's rows; every stream begins with three seconds of rest."""

    def measure(*streams: list[Annotation], mistake: Callable[[str], str] = str) -> Rows:
        films = [film(tmp_path, f's{i}', items) for i, items in enumerate(streams)]
        report = events(context(films, ToyVision(mistake)))
        return {(row.who, row.what): row for row in report.rows}

    return measure


STREAM = [annotation('act'), annotation('rest'), annotation('act', 'drawer-open')]


def test_perfect_vision_reports_all_events(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, STREAM)
    for who in ('ours', 'oracle', 'ours, first texts'):
        assert rows[who, LABELLED].mean.value == 1.0 and rows[who, LABELLED].mean.count == 6
    assert rows['ours', BOUNDARIES].reached and rows['ours', LABELLED].reached
    assert (rows['ours', LABELLED].target, rows['ours', BOUNDARIES].target) == (0.70, 0.85)
    assert rows['oracle', LABELLED].target is None
    assert rows['ours', AT_REST].mean.value == 0.0


def test_text_is_emitted_at_the_second_hop_of_a_new_segment(run: Callable[..., Rows]) -> None:
    """Frames are 0.1 s apart, a hop has two: the second hop after 3.0 s is at 3.3 s."""
    rows = run(STREAM)
    for share in ('p50', 'p90'):
        found = rows['ours', f'delay to the text, {share} (s)'].mean
        assert found.value == pytest.approx(0.3) and found.count == 3


def test_a_wrong_text_is_still_a_correct_boundary(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, mistake=lambda m: PUSH if m == OPENS else m)
    assert rows['ours', BOUNDARIES].mean.value == 1.0
    assert rows['ours', LABELLED].mean.value == pytest.approx(2 * 2 / (3 + 3))
    assert rows['oracle', LABELLED].mean.value == 1.0


def test_an_undetected_act_is_a_missed_event(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, mistake=lambda m: REST if m == PUSH else m)
    assert rows['ours', LABELLED].mean.value == pytest.approx(2 * 1 / (1 + 3))


def test_adjacent_annotations_of_one_concept_are_one_event(run: Callable[..., Rows]) -> None:
    rows = run([annotation('act'), annotation('act'), annotation('rest')])
    assert rows['ours', LABELLED].mean.count == 2 and rows['ours', LABELLED].mean.value == 1.0
    items = [replace(annotation('act'), start=3.0 * i, end=3.0 * i + 3) for i in range(3)]
    items[1] = replace(items[1], meaning=REST)
    assert [(a.start, a.end) for a in merged(items)] == [(0, 3), (3, 6), (6, 9)]
    items[1] = replace(items[1], meaning=PUSH)
    assert [(a.start, a.end, a.meaning) for a in merged(items)] == [(0, 9, PUSH)]


def test_the_start_of_a_stream_is_not_an_event(run: Callable[..., Rows]) -> None:
    rows = run([annotation('rest')])  # rest all along
    assert np.isnan(rows['ours', LABELLED].mean.value) and rows['ours', LABELLED].mean.count == 0
    assert rows['uniform', AT_REST].mean.value == rows['ours', AT_REST].mean.value == 0.0
    assert np.isnan(rows['ours', 'delay to the text, p50 (s)'].mean.value)


def test_uniform_and_motion_baselines_report_as_many_events_as_ours(
    run: Callable[..., Rows],
) -> None:
    """Images change exactly where concepts change, so motion energy finds all of our events."""
    rows = run(STREAM)
    assert rows['motion energy', LABELLED].mean.value == 1.0
    # Twelve seconds: the true events at 3, 6 and 9 s are where uniform's are.
    assert rows['uniform', LABELLED].mean.value == 1.0
    short = replace(annotation('act'), end=1.5)
    rows = run([short, annotation('rest'), annotation('act', 'drawer-open')])
    # True at 3, 4.5 and 7.5 s of 10.5 s; uniform at 2.625, 5.25 and 7.875 s, with the texts there.
    assert rows['uniform', BOUNDARIES].mean.value == 1.0
    assert rows['uniform', LABELLED].mean.value == pytest.approx(2 * 2 / 6)  # rest at 2.625 s
    gap = rows['ours - uniform', LABELLED]
    assert gap.mean.value == pytest.approx(1 - 2 / 3) and gap.target == 0.10 and gap.reached
    assert rows['ours - motion energy', LABELLED].reached is False


def test_the_vision_blind_baseline_has_our_boundaries_and_one_text(
    run: Callable[..., Rows],
) -> None:
    rows = run(STREAM, STREAM)
    assert rows['blind', BOUNDARIES].mean == rows['ours', BOUNDARIES].mean
    assert rows['blind', LABELLED].mean.value < 0.5


def stream_events(
    truth: Sequence[tuple[float, float, str]],
    predicted: Sequence[tuple[float, str]],
    after_s: float = 0.0,
) -> StreamEvents:
    """Return our events with first paraphrases, emitted `after_s` after the segment start."""
    items = [
        replace(annotation('rest' if m == REST else 'act', meaning=m), start=a, end=b)
        for a, b, m in truth
    ]
    ours = [TextEvent(at_s, sentences(meaning)[0]) for at_s, meaning in predicted]
    segments = tuple(DetectedSegment(s.at_s, s.at_s + after_s, s.text, s.text) for s in ours)
    return StreamEvents('a', items, segments, {'ours': ours}, CONCEPTS)


TRUTH = [(0.0, 60.0, REST), (60.0, 70.0, PUSH), (70.0, 100.0, REST)]


def test_events_match_once_within_a_second_and_labels_require_a_correct_text() -> None:
    found = stream_events(TRUTH, [(59.0, OPENS), (60.9, PUSH), (71.1, REST)])
    assert matches(found, 'ours', labeled=False) == [(0, 0)]
    assert matches(found, 'ours', labeled=True) == [(1, 0)]
    assert count([found], 'ours', labeled=True).tolist() == [[1, 3, 2]]


def test_unmatched_events_during_rest_are_false_at_rest() -> None:
    predicted = [
        (10.0, PUSH),
        (59.5, OPENS),
        (59.8, PUSH),
        (65.0, OPENS),
        (70.2, PUSH),
        (99.0, REST),
    ]
    found = stream_events(TRUTH, predicted)
    # 10 and 99 s; one of 59.5 and 59.8 has the start at 60 s, the other lies in the rest before.
    assert false_at_rest(found, 'ours') == [(2, 1.0), (1, 0.5)]


def test_hidden_acts_are_neither_true_nor_false_events() -> None:
    """An act at 60 s with a hidden object does not count, whether it is predicted or not."""
    truth = [(0.0, 60.0, REST), (60.0, 70.0, PUSH), (70.0, 100.0, REST)]
    for predicted in ([(70.2, REST)], [(60.4, PUSH), (70.2, REST)], [(60.4, OPENS), (70.2, REST)]):
        found = stream_events(truth, predicted)
        found.annotations[1] = replace(found.annotations[1], hidden=True)
        assert count([found], 'ours', labeled=True).tolist() == [[1, 1, 1]]
        assert false_at_rest(found, 'ours') == [(0, 1.0), (0, 0.5)]
    twice = stream_events(truth, [(59.5, OPENS), (60.4, PUSH), (70.2, REST)])
    twice.annotations[1] = replace(twice.annotations[1], hidden=True)
    assert count([twice], 'ours', labeled=True).tolist() == [[1, 2, 1]]


def test_delay_is_from_the_true_start_to_the_first_text_of_the_matched_event() -> None:
    truth = [(0.0, 10.0, REST)]
    truth += [(10.0 * i, 10.0 * i + 10, (PUSH, REST)[i % 2]) for i in range(1, 12)]
    offsets = [0.1, 0.9, -0.4, 0.3, 0.5, 0.6, 0.2, 0.7, 0.0, 0.8, 1.5]
    predicted = [(t[0] + off, t[2]) for t, off in zip(truth[1:], offsets, strict=True)]
    predicted[3] = (predicted[3][0], OPENS)  # a wrong text
    half, most = (row.mean for row in delays([stream_events(truth, predicted, after_s=0.25)]))
    kept = np.array([0.1, 0.9, -0.4, 0.5, 0.6, 0.2, 0.7, 0.0, 0.8]) + 0.25
    assert half.value == pytest.approx(np.percentile(kept, 50, method='inverted_cdf'))
    assert most.value == pytest.approx(np.percentile(kept, 90, method='inverted_cdf'))
    assert half.count == 9


def test_a_segment_has_its_first_and_final_text() -> None:
    def event(state: State, number: int, stamp_ns: int, start_ns: int, text: str) -> Event:
        key = StreamKey('camera', '', 'toy-0')
        return Event(stamp_ns, key, 's', number, start_ns, stamp_ns, state, text, 1.0)

    second = 1_000_000_000
    found = list(
        joined(
            [
                event(State.STARTED, 0, 5 * second, 5 * second, 'a'),
                event(State.UPDATED, 0, 6 * second, 5 * second, 'b'),
                event(State.ENDED, 0, 8 * second, 5 * second, 'c'),
                event(State.STARTED, 1, 8 * second, 7 * second, 'd'),
                event(State.ENDED, 1, 9 * second, 7 * second, 'd'),
            ],
            start_ns=4 * second,
        )
    )
    assert found == [DetectedSegment(1.0, 1.0, 'a', 'c'), DetectedSegment(3.0, 4.0, 'd', 'd')]


def test_evenly_spaced_events_exclude_the_start() -> None:
    assert evenly(3, 60.0) == [15.0, 30.0, 45.0] and evenly(0, 60.0) == []


def test_motion_energy_is_the_mean_difference_of_gray_levels() -> None:
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[1] = 200  # up
    frames[2] = 190  # down
    frames[3, 0, 0] = 190
    assert energy(frames).tolist() == [0.0, 200.0, 10.0, 190 * 0.75]


def test_peaks_are_the_highest_values_at_the_minimum_distance() -> None:
    values = np.array([0.0, 5.0, 9.0, 8.0, 0.0, 0.0, 8.0, 1.0])
    at_s = [0.5 * i for i in range(8)]
    assert peaks(values, at_s, 2, 0.8) == [1.0, 3.0]
    assert peaks(values, at_s, 3, 0.8) == [0.0, 1.0, 3.0]  # of zeros the earliest with room
    assert peaks(values, at_s, 2, 0.5) == [1.0, 1.5]
    assert peaks(values, at_s, 99, 10.0) == [1.0] and peaks(values, at_s, 0, 0.8) == []


def test_not_before_returns_the_first_hop_at_or_after_a_time() -> None:
    stamps_ns = np.array([100, 300, 500], np.int64) * 1_000_000
    hops = StreamEmbeddings(np.eye(3, dtype=np.float32), stamps_ns)
    assert hops.not_before([0.0, 0.1, 0.11, 0.3, 0.9]).tolist() == [0, 0, 1, 1, 2]
    assert hops.not_before([]).tolist() == []


def test_streams_without_tasks_give_a_note_and_no_rows(tmp_path: Path) -> None:
    stream = film(tmp_path, 'a', STREAM)
    without_task = tuple(replace(a, task='', phase='told') for a in stream.annotations)
    report = events(context([replace(stream, annotations=without_task)]))
    assert report.rows == () and len(report.notes) == 1


def test_the_command_notes_that_delays_exclude_compute_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: toy_suites.model())
    film(tmp_path / 'test', 'a', STREAM)
    assert main(['evaluate', 'events', '--data', str(tmp_path), '--jobs', '1', '--json']) == 0
    (suite,) = json.loads(capsys.readouterr().out)['suites']
    assert suite['suite'] == 'events' and 'curves' not in suite
    assert 'compute time' in ' '.join(suite['notes'])
    assert {r['who'] for r in suite['rows']} >= {'ours', 'oracle', 'uniform', 'motion energy'}
