# SPDX-License-Identifier: Apache-2.0
"""Commands with the fake model: results, JSON output, and separation of stdout and stderr."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import bags
from helpers.fake_models import (
    COLORS,
    FACTS,
    UNREADABLE,
    FakeLanguage,
    FakeVision,
    fake_model,
    solid_image,
)

from vljepa_ros.core.types import Candidate, State
from vljepa_ros.model import registry
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import open_source

Run = Callable[..., Any]
BLUE = bags.jpeg(solid_image('blue'))


def ended(folder: Path) -> list[dict[str, Any]]:
    """Return the ended segments, computed with the pipeline directly."""
    pipeline, events = Pipeline(fake_model()), []
    source = open_source(folder)
    for frame in source:
        events += pipeline.push(frame)
    events += pipeline.finish()
    return [
        {
            'source': e.key.source,
            'segment': e.segment_id,
            'start': round((e.start_ns - bags.START_NS) / 1e9, 9),
            'end': round((e.end_ns - bags.START_NS) / 1e9, 9),
            'text': e.text,
            'confidence': e.confidence,
        }
        for e in events
        if e.state is State.ENDED
    ]


def test_annotate_prints_the_events_of_the_pipeline(vljepa: Run, bag: Path) -> None:
    found = vljepa('annotate', bag, '--json')
    assert (found.status, found.err) == (0, '')
    assert found.lines == ended(bag)
    assert [line['text'].split()[-1] for line in found.lines] == ['red', 'blue', 'green']
    assert list(found.lines[0]) == ['source', 'segment', 'start', 'end', 'text', 'confidence']
    assert found.lines[0]['start'] == pytest.approx(0.1) and found.lines[-1]['end'] == 7.9


def test_annotate_prints_one_line_per_segment(vljepa: Run, bag: Path) -> None:
    found = vljepa('annotate', bag)
    assert found.err == '' and len(found.out.splitlines()) == 3
    assert 'the scene is red' in found.out and '0.10 -' in found.out


@pytest.fixture
def unfamiliar_blue(monkeypatch: pytest.MonkeyPatch, vljepa: Run) -> None:
    """Make blue scenes unfamiliar to the model."""
    vision = FakeVision(unfamiliar_colors={'blue': 0.75})
    model = dataclasses.replace(fake_model(), vision=vision)
    monkeypatch.setattr(registry, 'load', lambda *_, **__: model)


@pytest.mark.usefixtures('unfamiliar_blue')
def test_annotate_withholds_the_text_of_an_unfamiliar_scene(vljepa: Run, bag: Path) -> None:
    red, blue, green = vljepa('annotate', bag, '--json').lines
    assert red['text'] == 'the scene is red' and 'abstained' not in {*red, *green}
    assert (blue['text'], blue['confidence'], blue['abstained']) == ('', 0.0, True)
    assert blue['abstain_reason'] == 'unfamiliar'
    shown = vljepa('annotate', bag).out.splitlines()
    assert shown[1].endswith("(scene unfamiliar to model 'fake')") and 'red' in shown[0]


@pytest.mark.usefixtures('unfamiliar_blue')
def test_ask_prints_the_reason_of_an_abstention(vljepa: Run, bag: Path) -> None:
    found = vljepa('ask', bag, 'Which?', '--at', '4', '--json').json
    assert (found['abstained'], found['abstain_reason']) == (True, 'unfamiliar')
    assert found['answer'] == '' and found['ranked'] == []
    assert 'unfamiliar' in vljepa('ask', bag, 'Which?', '--at', '4').out
    unread = vljepa('ask', bag, UNREADABLE, '--at', '2', '--json').json
    assert unread['abstain_reason'] == 'unreadable'


def test_annotate_uses_the_given_standing_prompt(vljepa: Run, bag: Path) -> None:
    default, other = (
        vljepa('annotate', bag, '--json', *more).lines
        for more in ((), ('--prompt', 'Which colour?'))
    )
    assert [line['confidence'] for line in default] != [line['confidence'] for line in other]


def test_annotate_offline_segments_the_whole_recording(vljepa: Run, bag: Path) -> None:
    pytest.importorskip('sklearn')
    found = vljepa('annotate', bag, '--offline', '--json')
    assert (found.status, found.err) == (0, '')
    assert [line['text'].split()[-1] for line in found.lines] == ['red', 'blue', 'green']
    assert found.lines[0]['start'] == pytest.approx(0.1) and found.lines[-1]['end'] == 7.9
    assert [line['end'] for line in found.lines[:-1]] == [
        line['start'] for line in found.lines[1:]
    ]
    one = vljepa('annotate', bag, '--offline', '--events-per-minute', '8', '--json')
    assert [(line['start'], line['end']) for line in one.lines] == [(pytest.approx(0.1), 7.9)]


@pytest.mark.parametrize('budget', ['-1', 'nan', '1e9'])
def test_an_invalid_budget_fails_with_one_line(vljepa: Run, bag: Path, budget: str) -> None:
    found = vljepa('annotate', bag, '--events-per-minute', budget)
    assert found.status == 2 and found.out == ''
    assert 'events_per_minute' in found.err and found.err.count('\n') == 1
    assert vljepa('annotate', bag, '--events-per-minute', '600', '--json').lines == ended(bag)


def test_several_cameras_are_annotated_by_name(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 20, '/front/image_raw/compressed')
    rows += bags.colors(['blue'], 20, '/rear/image_raw/compressed')
    folder = bags.write(tmp_path / 'two', sorted(rows, key=lambda row: row[1]))
    lines = vljepa('annotate', folder, '--json').lines
    assert {(line['source'], line['text']) for line in lines} == {
        ('front', 'the scene is red'),
        ('rear', 'the scene is blue'),
    }
    one = vljepa('annotate', folder, '--json', '--topic', 'x=/rear/image_raw/compressed').lines
    assert {line['source'] for line in one} == {'x'}


def test_embed_writes_every_hop(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    found = vljepa('embed', bag, '--out', tmp_path / 'e.npz', '--json')
    pipeline, made = Pipeline(fake_model()), []
    for frame in open_source(bag):
        pipeline.push(frame)
        made += pipeline.last_embeddings
    arrays = np.load(tmp_path / 'e.npz')
    assert found.status == 0 and found.json == {
        'out': str(tmp_path / 'e.npz'),
        'hops': 40,
        'dim': 8,
        'model_id': 'fake-00000000-00000000',
    }
    assert arrays['vector'].dtype == np.float32 and arrays['stamp'].dtype == np.float64
    assert (arrays['vector'] == np.stack([e.vector for e in made])).all()
    assert np.allclose(arrays['stamp'], [0.1 + 0.2 * i for i in range(40)])
    assert str(arrays['model_id']) == 'fake-00000000-00000000'


def test_embed_omits_repeated_frames_of_a_slow_camera(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red', 'blue', 'green'], 4)
    slow = [
        (topic, stamp, bags.compressed(stamp, bags.jpeg(solid_image(color))))
        for (topic, _, _), stamp, color in zip(
            rows,
            [bags.START_NS + 500_000_000 * n for n in range(12)],
            [c for c in ('red', 'blue', 'green') for _ in range(4)],
            strict=True,
        )
    ]
    folder = bags.write(tmp_path / 'slow', slow)
    found = vljepa('embed', folder, '--out', tmp_path / 'e.npz')
    stamps = np.load(tmp_path / 'e.npz')['stamp']
    assert found.status == 0 and 5 < len(stamps) <= 12
    assert (np.diff(stamps) > 0).all()


def test_embed_writes_to_the_target_of_a_link(vljepa: Run, bag: Path, tmp_path: Path) -> None:
    link, target = tmp_path / 'link.npz', tmp_path / 'folder' / 'target.npz'
    target.parent.mkdir()
    link.symlink_to(target)
    for _ in range(2):  # targets that do not exist yet, and an existing one
        assert vljepa('embed', bag, '--out', link).status == 0
        assert link.is_symlink() and len(np.load(target)['stamp']) == 40
    assert list(target.parent.iterdir()) == [target]


def test_a_source_that_is_too_short_is_reported_in_one_line(vljepa: Run, tmp_path: Path) -> None:
    folder = bags.write(tmp_path / 'short', bags.colors(['red'], 1))
    for arguments in (
        ('annotate', folder),
        ('search', folder, 'x', '--json'),
        ('embed', folder, '--out', tmp_path / 'e.npz'),
    ):
        found = vljepa(*arguments)
        assert found.status == 0 and found.err.count('\n') == 1
        assert 'short' in found.err


def test_ask_at_a_time_equals_the_answer_of_the_pipeline(vljepa: Run, bag: Path) -> None:
    pipeline = Pipeline(fake_model())
    for frame in open_source(bag):
        if frame.stamp_ns <= bags.START_NS + 4_000_000_000:
            pipeline.push(frame)
    expected = pipeline.ask('Which?', ['red', 'blue'])
    found = vljepa(
        'ask', bag, 'Which?', '--candidate', 'red', '--candidate', 'blue', '--at', '4', '--json'
    ).json
    assert list(found) == ['answer', 'confidence', 'abstained', 'ranked', 'stamp']
    assert found['answer'] == expected.answer == 'blue' and found['abstained'] is False
    assert found['confidence'] == pytest.approx(expected.confidence)
    assert found['ranked'] == [
        {'text': c.text, 'score': pytest.approx(c.score)} for c in expected.ranked
    ]
    assert found['stamp'] == 3.9  # the newest hop


@pytest.mark.parametrize(
    ('span', 'color', 'stamp'),
    [
        (('--from', '3.2', '--to', '5'), 'blue', 4.9),
        (('--from', '6.4'), 'green', 7.9),
        (('--to', '2'), 'red', 1.9),
        (('--at', '7'), 'green', 6.9),
        (('--from', '3.1'), 'blue; the scene is green', 7.9),
    ],
)
def test_ask_answers_about_the_requested_span(
    vljepa: Run, bag: Path, span: tuple[str, ...], color: str, stamp: float
) -> None:
    found = vljepa('ask', bag, 'What?', '--json', *span).json
    assert found['answer'] == f'the scene is {color}' and found['stamp'] == stamp


def test_images_with_stamps_of_the_future_do_not_end_a_span(vljepa: Run, tmp_path: Path) -> None:
    rows, month_ns = bags.colors(['red', 'blue'], 40), 30 * 86_400 * 10**9
    rows[10:25] = [
        (topic, log_ns, bags.compressed(log_ns + month_ns, message.data))
        for topic, log_ns, message in rows[10:25]
    ]
    found = vljepa('ask', bags.write(tmp_path / 'odd', rows), 'What?', '--at', '7', '--json')
    assert found.json['answer'] == 'the scene is blue' and found.json['stamp'] == 6.9


def test_times_count_from_the_first_plausible_stamp(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red', 'blue'], 40)
    topic, log_ns, message = rows[0]
    rows[0] = topic, log_ns, bags.compressed(0, message.data)
    found = vljepa('annotate', bags.write(tmp_path / 'unset', rows), '--json')
    assert [line['start'] for line in found.lines] == [0.1, 3.9]


def test_ask_without_a_time_evaluates_the_whole_recording(vljepa: Run, bag: Path) -> None:
    found = vljepa('ask', bag, '', '--candidate', 'red', '--candidate', 'green', '--json').json
    vectors = {c: np.eye(8)[list(COLORS).index(c)] for c in ('red', 'blue', 'green')}
    hops = 15 * [vectors['red']] + 15 * [vectors['blue']] + 10 * [vectors['green']]
    shares = []
    for first in range(0, 40, FACTS.window_tubelets):
        mean = np.mean(hops[first : first + FACTS.window_tubelets], axis=0)
        mean /= np.linalg.norm(mean)
        logits = 10 * np.array([mean @ vectors['red'], mean @ vectors['green']])
        shares.append(float(np.exp(logits[0]) / np.exp(logits).sum()))
    expected = pytest.approx(np.mean(shares), abs=1e-5)
    assert found['ranked'][0] == {'text': 'red', 'score': expected}


def test_ask_answers_yes_if_any_window_answers_yes(
    vljepa: Run, bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second of blue in eight seconds is sufficient for a yes, as in the service."""

    def rank(self: Any, vector: Any, candidates: Any) -> list[Candidate]:
        yes = 0.9 if vector[list(COLORS).index('blue')] > 0.9 else 0.1
        scores = {'yes': yes, 'no': 0.95 - yes}
        return sorted((Candidate(c, scores[c]) for c in candidates), key=lambda c: -c.score)

    monkeypatch.setattr(FakeLanguage, 'rank', rank)
    both = ('--candidate', 'yes', '--candidate', 'no', '--json')
    found = vljepa('ask', bag, 'Is it blue?', *both).json
    assert (found['answer'], found['confidence']) == ('yes', 0.9)
    assert 3.0 < found['stamp'] < 6.1  # when it was
    assert vljepa('ask', bag, 'Is it blue?', *both, '--to', '2').json['answer'] == 'no'


def test_search_returns_moments_best_first(vljepa: Run, bag: Path) -> None:
    found = vljepa('search', bag, 'something blue', '--json').json
    assert len(found) == 3 and list(found[0]) == ['start', 'end', 'score', 'text']
    assert found[0]['text'] == 'the scene is blue' and found[0]['start'] == pytest.approx(3.1)
    assert [m['score'] for m in found] == sorted((m['score'] for m in found), reverse=True)
    assert len(vljepa('search', bag, 'blue', '--limit', '1', '--json').json) == 1
    late = vljepa('search', bag, 'red', '--from', '6.5', '--json').json
    assert [m['text'] for m in late] == ['the scene is green']


def test_search_covers_recordings_longer_than_an_hour(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 20)
    rows += [
        (topic, log_ns + 10_000 * 10**9, bags.compressed(log_ns + 10_000 * 10**9, BLUE))
        for topic, log_ns, _ in bags.colors(['blue'], 20)
    ]
    found = vljepa('search', bags.write(tmp_path / 'long', rows), 'red', '--json').json
    assert [m['text'] for m in found] == ['the scene is red', 'the scene is blue']
    assert found[0]['end'] < 10 and found[1]['start'] > 9_000


def test_search_up_to_0_finds_nothing(vljepa: Run, tmp_path: Path) -> None:
    import cv2

    for i in range(20):
        cv2.imwrite(str(tmp_path / f'{i}.png'), solid_image('red')[..., ::-1])
    assert vljepa('search', tmp_path, 'red', '--json', '--to', '0').json == []
    assert len(vljepa('search', tmp_path, 'red', '--json', '--to', '1').json) == 1


def test_models_lists_installed_models(
    vljepa: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('VLJEPA_MODELS', str(tiny_folder.parent))
    rows = {row['name']: row for row in vljepa('models', '--json').json}
    assert rows['tiny']['embedding_dim'] == 32 and rows['tiny']['window'] == pytest.approx(0.8)
    assert [r['name'] for r in vljepa('models', '--model', tiny_folder, '--json').json] == ['tiny']
    assert 'tiny' in vljepa('models').out


def test_a_broken_model_is_reported_and_others_are_listed(
    vljepa: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (tiny_folder / 'model.yaml').read_text()
    for name, content in (
        ('broken', text.replace('rate_hz: 10.0', 'rate_hz: 0')),
        ('fine', text),
        ('no_yaml', 'name: x\n}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'model.yaml').write_text(content)
    monkeypatch.setenv('VLJEPA_MODELS', str(tmp_path))
    found = vljepa('models', '--json')
    names = [row['name'] for row in found.json]
    assert found.status == 0 and 'fine' in names and not {'broken', 'no_yaml'} & set(names)
    assert found.err.count('\n') == 2
    assert f'{tmp_path}/broken: time.rate_hz (0)' in found.err
    one = vljepa('models', '--model', tmp_path / 'no_yaml')
    assert (one.status, one.out) == (2, '') and one.err.count('\n') == 1
    assert 'no_yaml/model.yaml: line 2: ' in one.err


def test_a_damaged_image_gives_one_line_on_stderr_and_is_skipped(
    vljepa: Run, tmp_path: Path
) -> None:
    rows = bags.colors(['red', 'blue'], 20)
    good = vljepa('annotate', bags.write(tmp_path / 'good', rows), '--json').lines
    rows[8] = (bags.TOPIC, rows[8][1], bags.compressed(rows[8][1], np.zeros(5, np.uint8)))
    found = vljepa('annotate', bags.write(tmp_path / 'bad', rows), '--json')
    assert found.status == 0 and found.lines == good  # the previous frame takes its place
    assert found.err.count('\n') == 1 and '0.800 s' in found.err


def test_many_damaged_images_are_summarized(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 20)
    for i in (3, 4, 9):
        rows[i] = (bags.TOPIC, rows[i][1], bags.compressed(rows[i][1], np.zeros(5, np.uint8)))
    found = vljepa('annotate', bags.write(tmp_path / 'bad', rows), '--json')
    assert found.err.count('\n') == 2 and '3 times in total' in found.err


def test_the_first_damage_of_every_camera_and_kind_is_reported(
    vljepa: Run, tmp_path: Path
) -> None:
    rows = bags.colors(['red'], 20, '/a/image_raw/compressed')
    rows += bags.colors(['red'], 20, '/b/image_raw/compressed')
    for i in (3, 4, 5, 27, 28):
        topic, stamp, message = rows[i]
        data = message.data[: 200 if i == 5 else 0]  # truncated, or empty
        rows[i] = (topic, stamp, bags.compressed(stamp, data))
    found = vljepa('annotate', bags.write(tmp_path / 'bad', sorted(rows, key=lambda r: r[1])))
    first = [line for line in found.err.splitlines() if 'skipped a damaged image' in line]
    assert [line.split()[1] for line in first] == ['a:', 'a:', 'b:']
    assert ['0.300 s' in first[0], '0.500 s' in first[1], '0.700 s' in first[2]] == [True] * 3
    assert found.err.count('2 times in total') == 2


def test_depth_that_is_left_out_is_reported(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 20)
    depth = [
        ('/depth/image_raw', stamp, bags.raw(stamp, solid_image('red'), encoding='32FC1'))
        for stamp in bags.stamps(20)
    ]
    folder = bags.write(tmp_path / 'bag', sorted(rows + depth, key=lambda r: r[1]))
    found = vljepa('ask', folder, 'Which color?', '--json')
    assert (found.status, found.err.count('\n')) == (0, 1)
    assert '/depth/image_raw' in found.err and 'depth' in found.err


def test_a_truncated_bag_is_answered_up_to_its_end_and_reported(
    vljepa: Run, tmp_path: Path
) -> None:
    file = bags.write_mcap(tmp_path / 'bag_0.mcap', bags.colors(['red', 'blue'], 30))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = vljepa('annotate', file, '--json')
    assert found.status == 0 and found.lines[0]['text'] == 'the scene is red'
    assert found.err.count('\n') == 1 and 'mcap recover' in found.err


def test_damaged_images_count_as_received(vljepa: Run, tmp_path: Path) -> None:
    """Three seconds of damaged images are not a gap, because the camera still publishes."""
    rows = bags.colors(['red'], 60)
    for i in range(20, 50):
        rows[i] = (bags.TOPIC, rows[i][1], bags.compressed(rows[i][1], np.zeros(5, np.uint8)))
    found = vljepa('annotate', bags.write(tmp_path / 'bad', rows), '--json')
    assert 'state reset' not in found.err and len(found.lines) >= 1
    without = [row for i, row in enumerate(rows) if not 20 <= i < 50]
    assert 'state reset' in vljepa('annotate', bags.write(tmp_path / 'gap', without)).err


def test_a_looping_bag_is_reported_and_resets_the_stream(vljepa: Run, tmp_path: Path) -> None:
    rows = bags.colors(['red'], 40)
    again = [(topic, log_ns + 10**11, message) for topic, log_ns, message in rows]
    found = vljepa('annotate', bags.write(tmp_path / 'loop', rows + again), '--json')
    assert 'back' in found.err and found.err.count('\n') == 1
    assert [line['start'] for line in found.lines] == [0.1, 0.1]


def test_repeated_size_changes_are_reported_once_and_counted(vljepa: Run, tmp_path: Path) -> None:
    import cv2

    for i in range(20):
        cv2.imwrite(str(tmp_path / f'{i:02d}.png'), solid_image('red', 24 + i, 32 + i)[..., ::-1])
    found = vljepa('annotate', tmp_path, '--json')
    lines = [line for line in found.err.splitlines() if 'image size changed' in line]
    assert len(lines) == 2 and '32x24' in lines[0] and '19 times' in lines[1]


def test_image_folders_are_sources(vljepa: Run, tmp_path: Path) -> None:
    import cv2

    for i in range(20):
        cv2.imwrite(str(tmp_path / f'{i}.png'), solid_image('red')[..., ::-1])
    assert vljepa('annotate', tmp_path, '--json', '--fps', '5').lines[0]['end'] == 3.8


def test_frames_far_apart_need_a_larger_max_gap(vljepa: Run, tmp_path: Path) -> None:
    rows = [
        (topic, bags.START_NS + 3_000_000_000 * i, bags.compressed(0, message.data))
        for i, (topic, _, message) in enumerate(bags.colors(['red', 'blue'], 5))
    ]
    rows = [(topic, at, dataclasses.replace(m, header=bags.header(at))) for topic, at, m in rows]
    folder = bags.write(tmp_path / 'slow', rows)
    without = vljepa('annotate', folder, '--json')
    assert without.out == '' and '--max-gap' in without.err
    found = vljepa('annotate', folder, '--max-gap', '4', '--json')
    assert found.err == ''
    assert [line['text'].split()[-1] for line in found.lines] == ['red', 'blue']
    assert vljepa('ask', folder, 'Which?', '--max-gap', '4', '--json').status == 0
    for value in ('0', 'nan', 'x', '1e9'):
        assert vljepa('annotate', folder, '--max-gap', value).status == 2
