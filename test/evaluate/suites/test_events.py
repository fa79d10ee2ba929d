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
from vljepa_ros.evaluate.segments import Segment, joined, merged
from vljepa_ros.evaluate.stream_embeddings import Hops
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


def test_perfect_vision_say_every_event(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, STREAM)
    for who in ('ours', 'oracle', 'ours, first texts'):
        assert rows[who, LABELLED].mean.value == 1.0 and rows[who, LABELLED].mean.count == 6
    assert rows['ours', BOUNDARIES].reached and rows['ours', LABELLED].reached
    assert (rows['ours', LABELLED].target, rows['ours', BOUNDARIES].target) == (0.70, 0.85)
    assert rows['oracle', LABELLED].target is None
    assert rows['ours', AT_REST].mean.value == 0.0


def test_the_text_comes_with_the_second_hop_that_shows_the_new(run: Callable[..., Rows]) -> None:
    """Frames are 0.1 s apart, a hop has two: the second hop after 3.0 s is at 3.3 s."""
    rows = run(STREAM)
    for share in ('p50', 'p90'):
        found = rows['ours', f'delay to the text, {share} (s)'].mean
        assert found.value == pytest.approx(0.3) and found.count == 3


def test_a_wrong_sentence_is_still_a_boundary(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, mistake=lambda m: PUSH if m == OPENS else m)
    assert rows['ours', BOUNDARIES].mean.value == 1.0
    assert rows['ours', LABELLED].mean.value == pytest.approx(2 * 2 / (3 + 3))
    assert rows['oracle', LABELLED].mean.value == 1.0


def test_what_is_not_seen_is_missed(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, mistake=lambda m: REST if m == PUSH else m)
    assert rows['ours', LABELLED].mean.value == pytest.approx(2 * 1 / (1 + 3))


def test_neighbours_that_mean_the_same_are_one_event(run: Callable[..., Rows]) -> None:
    rows = run([annotation('act'), annotation('act'), annotation('rest')])
    assert rows['ours', LABELLED].mean.count == 2 and rows['ours', LABELLED].mean.value == 1.0
    items = [replace(annotation('act'), start=3.0 * i, end=3.0 * i + 3) for i in range(3)]
    items[1] = replace(items[1], meaning=REST)
    assert [(a.start, a.end) for a in merged(items)] == [(0, 3), (3, 6), (6, 9)]
    items[1] = replace(items[1], meaning=PUSH)
    assert [(a.start, a.end, a.meaning) for a in merged(items)] == [(0, 9, PUSH)]


def test_what_a_stream_begins_with_is_no_event(run: Callable[..., Rows]) -> None:
    rows = run([annotation('rest')])  # rest all along
    assert np.isnan(rows['ours', LABELLED].mean.value) and rows['ours', LABELLED].mean.count == 0
    assert rows['uniform', AT_REST].mean.value == rows['ours', AT_REST].mean.value == 0.0
    assert np.isnan(rows['ours', 'delay to the text, p50 (s)'].mean.value)


def test_uniform_and_motion_say_as_many_events_as_ours(run: Callable[..., Rows]) -> None:
    """Images change exactly where concepts change, so motion energy finds all of our events."""
    rows = run(STREAM)
    assert rows['motion energy', LABELLED].mean.value == 1.0
    # Twelve seconds: the true events at 3, 6 and 9 s are where uniform's are.
    assert rows['uniform', LABELLED].mean.value == 1.0
    short = replace(annotation('act'), end=1.5)
    rows = run([short, annotation('rest'), annotation('act', 'drawer-open')])
    # True at 3, 4.5 and 7.5 s of 10.5 s; uniform at 2.625, 5.25 and 7.875 s, with these words.
    assert rows['uniform', BOUNDARIES].mean.value == 1.0
    assert rows['uniform', LABELLED].mean.value == pytest.approx(2 * 2 / 6)  # rest at 2.625 s
    gap = rows['ours - uniform', LABELLED]
    assert gap.mean.value == pytest.approx(1 - 2 / 3) and gap.target == 0.10 and gap.reached
    assert rows['ours - motion energy', LABELLED].reached is False


def test_the_blind_say_one_sentence_at_our_times(run: Callable[..., Rows]) -> None:
    rows = run(STREAM, STREAM)
    assert rows['blind', BOUNDARIES].mean == rows['ours', BOUNDARIES].mean
    assert rows['blind', LABELLED].mean.value < 0.5


def heard(
    truths: Sequence[tuple[float, float, str]],
    said: Sequence[tuple[float, str]],
    after_s: float = 0.0,
) -> StreamEvents:
    """Return our events with first paraphrases, emitted `after_s` after the segment start."""
    items = [
        replace(annotation('rest' if m == REST else 'act', meaning=m), start=a, end=b)
        for a, b, m in truths
    ]
    ours = [TextEvent(at_s, sentences(meaning)[0]) for at_s, meaning in said]
    segments = tuple(Segment(s.at_s, s.at_s + after_s, s.text, s.text) for s in ours)
    return StreamEvents('a', items, segments, {'ours': ours}, CONCEPTS)


TRUTHS = [(0.0, 60.0, REST), (60.0, 70.0, PUSH), (70.0, 100.0, REST)]


def test_an_event_matches_within_a_second_once_and_labelled_with_a_right_sentence() -> None:
    found = heard(TRUTHS, [(59.0, OPENS), (60.9, PUSH), (71.1, REST)])
    assert matches(found, 'ours', labelled=False) == [(0, 0)]
    assert matches(found, 'ours', labelled=True) == [(1, 0)]
    assert count([found], 'ours', labelled=True).tolist() == [[1, 3, 2]]


def test_false_at_rest_is_what_begins_during_a_rest_and_matches_no_start() -> None:
    said = [(10.0, PUSH), (59.5, OPENS), (59.8, PUSH), (65.0, OPENS), (70.2, PUSH), (99.0, REST)]
    found = heard(TRUTHS, said)
    # 10 and 99 s; one of 59.5 and 59.8 has the start at 60 s, the other lies in the rest before.
    assert false_at_rest(found, 'ours') == [(2, 1.0), (1, 0.5)]


def test_hidden_acts_are_neither_true_events_nor_false_ones() -> None:
    """An act at 60 s with a hidden object does not count, whether it is predicted or not."""
    truths = [(0.0, 60.0, REST), (60.0, 70.0, PUSH), (70.0, 100.0, REST)]
    for said in ([(70.2, REST)], [(60.4, PUSH), (70.2, REST)], [(60.4, OPENS), (70.2, REST)]):
        found = heard(truths, said)
        found.annotations[1] = replace(found.annotations[1], hidden=True)
        assert count([found], 'ours', labelled=True).tolist() == [[1, 1, 1]]
        assert false_at_rest(found, 'ours') == [(0, 1.0), (0, 0.5)]
    twice = heard(truths, [(59.5, OPENS), (60.4, PUSH), (70.2, REST)])
    twice.annotations[1] = replace(twice.annotations[1], hidden=True)
    assert count([twice], 'ours', labelled=True).tolist() == [[1, 2, 1]]


def test_delays_are_from_the_true_start_to_the_first_words_of_what_matches() -> None:
    truths = [(0.0, 10.0, REST)]
    truths += [(10.0 * i, 10.0 * i + 10, (PUSH, REST)[i % 2]) for i in range(1, 12)]
    offsets = [0.1, 0.9, -0.4, 0.3, 0.5, 0.6, 0.2, 0.7, 0.0, 0.8, 1.5]
    said = [(t[0] + off, t[2]) for t, off in zip(truths[1:], offsets, strict=True)]
    said[3] = (said[3][0], OPENS)  # wrong words
    half, most = (row.mean for row in delays([heard(truths, said, after_s=0.25)]))
    kept = np.array([0.1, 0.9, -0.4, 0.5, 0.6, 0.2, 0.7, 0.0, 0.8]) + 0.25
    assert half.value == pytest.approx(np.percentile(kept, 50, method='inverted_cdf'))
    assert most.value == pytest.approx(np.percentile(kept, 90, method='inverted_cdf'))
    assert half.count == 9


def test_a_segment_has_its_first_and_its_final_words() -> None:
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
    assert found == [Segment(1.0, 1.0, 'a', 'c'), Segment(3.0, 4.0, 'd', 'd')]


def test_evenly_spaced_events_leave_out_the_start() -> None:
    assert evenly(3, 60.0) == [15.0, 30.0, 45.0] and evenly(0, 60.0) == []


def test_motion_is_the_mean_difference_of_grey_levels() -> None:
    frames = np.zeros((4, 2, 2, 3), np.uint8)
    frames[1] = 200  # up
    frames[2] = 190  # down
    frames[3, 0, 0] = 190
    assert energy(frames).tolist() == [0.0, 200.0, 10.0, 190 * 0.75]


def test_peaks_are_the_highest_that_are_apart() -> None:
    values = np.array([0.0, 5.0, 9.0, 8.0, 0.0, 0.0, 8.0, 1.0])
    at_s = [0.5 * i for i in range(8)]
    assert peaks(values, at_s, 2, 0.8) == [1.0, 3.0]
    assert peaks(values, at_s, 3, 0.8) == [0.0, 1.0, 3.0]  # of zeros the earliest with room
    assert peaks(values, at_s, 2, 0.5) == [1.0, 1.5]
    assert peaks(values, at_s, 99, 10.0) == [1.0] and peaks(values, at_s, 0, 0.8) == []


def test_words_at_a_moment_are_of_the_first_hop_that_is_not_before_it() -> None:
    stamps_ns = np.array([100, 300, 500], np.int64) * 1_000_000
    hops = Hops(np.eye(3, dtype=np.float32), stamps_ns)
    assert hops.not_before([0.0, 0.1, 0.11, 0.3, 0.9]).tolist() == [0, 0, 1, 1, 2]
    assert hops.not_before([]).tolist() == []


def test_streams_of_other_tasks_are_no_error(tmp_path: Path) -> None:
    stream = film(tmp_path, 'a', STREAM)
    told = tuple(replace(a, task='', phase='told') for a in stream.annotations)
    report = events(context([replace(stream, annotations=told)]))
    assert report.rows == () and 'no events' in report.notes[0]


def test_the_command_says_what_a_delay_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: toy_suites.model())
    monkeypatch.setattr(evaluate, '_as_many_as_fit', lambda model: 1)
    film(tmp_path / 'test', 'a', STREAM)
    assert main(['evaluate', 'events', '--data', str(tmp_path), '--json']) == 0
    (suite,) = json.loads(capsys.readouterr().out)['suites']
    assert suite['suite'] == 'events' and 'curves' not in suite
    assert 'compute time' in ' '.join(suite['notes'])
    assert {r['who'] for r in suite['rows']} >= {'ours', 'oracle', 'uniform', 'motion energy'}
