# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline with a fake model: events, answers, search, and invalid input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.fake_models import (
    FACTS,
    UNREADABLE,
    FakeLanguage,
    FakeVision,
    color_vector,
    fake_model,
    solid_image,
)

from vljepa_ros.core.errors import InputError, ModelError, ModelMismatchError, NoFrameError
from vljepa_ros.core.settings import (
    AnswerSettings,
    PerceptionSettings,
    SegmenterSettings,
    Settings,
)
from vljepa_ros.core.types import (
    AbstainReason,
    Basis,
    Change,
    Event,
    Frame,
    Reason,
    Segment,
    State,
    StreamKey,
)
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.query.question import MAX_CANDIDATES
from vljepa_ros.stream.text_events import EventWriter

MS = 1_000_000


def play(pipeline: Pipeline, script: list[tuple[str, int]], start: int = 0) -> list[Event]:
    """Push frames at 10 frames/s: (color, count)."""
    events, stamp = [], start
    for color, count in script:
        for _ in range(count):
            events += pipeline.push(Frame(stamp, solid_image(color)))
            stamp += 100 * MS
    return events


def test_each_segment_yields_a_started_and_an_ended_event() -> None:
    pipeline = Pipeline(fake_model())
    events = play(pipeline, [('red', 30), ('green', 30), ('black', 30)]) + pipeline.finish()
    ended = [e for e in events if e.state is State.ENDED]
    assert [e.text for e in ended] == [f'the scene is {c}' for c in ('red', 'green', 'black')]
    assert [e.segment_id for e in ended] == [0, 1, 2]
    assert [e.start_ns // MS for e in ended] == [100, 3100, 6100]
    assert [e.end_ns // MS for e in ended] == [3100, 6100, 8900]
    started = [e for e in events if e.state is State.STARTED]
    assert [(e.segment_id, e.text) for e in started] == [(e.segment_id, e.text) for e in ended]
    for event in started:
        assert event.end_ns == event.stamp_ns >= event.start_ns


def test_the_decoder_runs_once_per_change() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 100)])
    assert pipeline.writer.decodes == 1
    play(pipeline, [('green', 100)], start=10_000 * MS)
    assert pipeline.writer.decodes == 2


def test_a_looping_bag_resets_the_stream_and_is_reported() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 50)])
    events = pipeline.push(Frame(0, solid_image('red')))
    assert 'jumps back' in pipeline.last_message
    events += play(pipeline, [('red', 3)], start=100 * MS)
    assert pipeline.intakes['camera'].resets == 1
    assert [(e.state, e.segment_id, e.start_ns) for e in events] == [
        (State.ENDED, 0, 100 * MS),
        (State.STARTED, 1, 100 * MS),
    ]


def test_repeated_frames_of_a_slow_camera_confirm_no_change() -> None:
    pipeline, events, changes = Pipeline(fake_model()), list[Event](), list[Change]()
    for n, color in enumerate(['red'] * 4 + ['green'] + ['red'] * 3 + ['blue'] * 4):  # 2 a second
        events += pipeline.push(Frame(n * 500 * MS, solid_image(color)))
        changes += pipeline.last_changes
    assert [e.text for e in events if e.state is State.STARTED] == [
        'the scene is red',
        'the scene is blue',
    ]
    assert changes[-1].stamp_ns == 4500 * MS  # two images of blue


def test_dropped_frames_do_not_affect_embeddings() -> None:
    clean, dirty = Pipeline(fake_model()), Pipeline(fake_model())
    play(clean, [('red', 20)])
    play(dirty, [('red', 10)])
    assert dirty.push(Frame(900 * MS, solid_image('blue'))) == []
    assert dirty.push(Frame(500 * MS, solid_image('blue'))) == []
    play(dirty, [('red', 10)], start=1000 * MS)
    np.testing.assert_array_equal(clean.last_embeddings[0].vector, dirty.last_embeddings[0].vector)


def test_answers_rank_candidates_or_use_decoded_text() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 30), ('blue', 10)])
    answer = pipeline.ask('what colour?', ['it is red', 'it is blue', 'it is green'])
    assert answer.answer == 'it is blue' and answer.basis is Basis.NOW
    assert answer.ranked[0].text == 'it is blue'
    assert sum(c.score for c in answer.ranked) == pytest.approx(1.0)
    assert answer.confidence == answer.ranked[0].score
    assert pipeline.ask('what colour?').answer == 'the scene is blue'
    past = pipeline.ask('what colour?', start_ns=500 * MS, end_ns=2500 * MS)
    assert past.answer == 'the scene is red' and past.basis is Basis.FRAMES
    assert past.stamp_ns <= 2500 * MS


def test_low_confidence_is_an_abstention() -> None:
    settings = Settings(answers=AnswerSettings(abstain_below=0.9))
    pipeline = Pipeline(fake_model(), settings)
    play(pipeline, [('red', 10)])
    assert pipeline.ask('?', ['red thing', 'red other']).abstained
    assert not pipeline.ask('?').abstained


@pytest.mark.parametrize(
    ('prompt', 'candidates', 'message'),
    [
        ('x' * 10_000_000, [], 'prompt of 10,000,000 characters is too long'),
        ('\0', [], 'NUL'),
        (7, [], 'prompt is of type int'),
        ('?', [''], 'candidate is empty'),
        ('?', ['a'] * (MAX_CANDIDATES + 1), 'candidates are too many'),
    ],
)
def test_bad_questions_are_refused_in_one_line(
    prompt: str, candidates: list, message: str
) -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 10)])
    with pytest.raises(InputError) as caught:
        pipeline.ask(prompt, candidates)
    assert message in str(caught.value) and '\n' not in str(caught.value)
    assert pipeline.ask('').answer == 'the scene is red'


def test_a_question_before_the_first_frame_is_an_error() -> None:
    with pytest.raises(NoFrameError):
        Pipeline(fake_model()).ask('what?')


def test_search_finds_the_moment() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 30), ('green', 30), ('red', 30)])
    pipeline.finish()
    best = pipeline.search('something green', limit=2)
    assert len(best) == 2 and best[0].text == 'the scene is green'
    assert (best[0].start_ns, best[0].end_ns) == (3100 * MS, 5900 * MS)
    assert pipeline.search('red', start_ns=6500 * MS)[0].start_ns == 6500 * MS
    assert all(m.start_ns < 3000 * MS for m in pipeline.search('red', end_ns=2000 * MS))


def test_vectors_of_another_model_are_refused() -> None:
    other = dataclasses.replace(FACTS, model_id='other')
    change = Change(
        0, StreamKey('c', '', 'other'), 's', 0, 0, 1.0, Reason.FIRST, np.ones(8, np.float32)
    )
    with pytest.raises(ModelMismatchError, match='other'):
        EventWriter(FakeLanguage()).push(change)
    pipeline = Pipeline(fake_model())
    with pytest.raises(ModelMismatchError):
        pipeline.memory.change(change)
    assert EventWriter(FakeLanguage(other)).push(change)


def test_a_model_without_a_text_side_is_refused() -> None:
    model = dataclasses.replace(fake_model(), language=None)
    with pytest.raises(ModelError, match='both sides'):
        Pipeline(model)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: PerceptionSettings(max_gap_s=0.0), 'max_gap'),
        (lambda: PerceptionSettings(rate=float('nan')), 'rate'),
        (lambda: PerceptionSettings(prompts=('a', 'a')), 'twice'),
        (lambda: SegmenterSettings(confirm_hops=0), 'confirm_hops'),
        (lambda: SegmenterSettings(confirm_hops=9), 'confirm_hops'),
        (lambda: AnswerSettings(abstain_below=2.0), 'abstain_below'),
    ],
)
def test_settings_validate_their_values(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_a_removed_prompt_ends_its_stream_and_can_be_added_again() -> None:
    pipeline = Pipeline(fake_model(), Settings(PerceptionSettings(prompts=('a', 'b'))))
    play(pipeline, [('red', 10)])
    [ended] = pipeline.set_prompts(['a'])
    assert (ended.state, ended.key.prompt, ended.segment_id) == (State.ENDED, 'b', 0)
    assert ended.end_ns == 900 * MS
    assert play(pipeline, [('red', 10)], start=1000 * MS) == []
    assert pipeline.set_prompts(['a', 'b']) == []
    again = play(pipeline, [('red', 10)], start=2000 * MS)
    assert [(e.state, e.key.prompt, e.segment_id) for e in again] == [(State.STARTED, 'b', 1)]
    assert pipeline.last_changes == [] and len(pipeline.finish()) == 2


def test_invalid_prompts_end_no_stream() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 10)])
    with pytest.raises(InputError, match='twice'):
        pipeline.set_prompts(['a', 'a'])
    assert len(pipeline.finish()) == 1


def test_a_drift_updates_the_open_segment() -> None:
    writer = EventWriter(FakeLanguage())
    key = StreamKey('camera', 'what?', FACTS.model_id)
    vector = color_vector('red')
    drift = Change(9 * MS, key, 's', 4, 2 * MS, 0.2, Reason.DRIFT, vector)
    (event,) = writer.push(drift)
    assert event.state is State.UPDATED and event.segment_id == 4
    assert (event.start_ns, event.end_ns, event.text) == (2 * MS, 9 * MS, 'the scene is red')


def closing(segment_id: int, session_id: str = 's') -> Change:
    """Return a change from red to green that closes this segment."""
    key = StreamKey('camera', 'what?', FACTS.model_id)
    red, green = color_vector('red'), color_vector('green')
    before = Segment(segment_id, 0, 5 * MS)
    return Change(
        6 * MS, key, session_id, segment_id + 1, 5 * MS, 1.0, Reason.MEANING, green, before, red
    )


def test_a_segment_ends_with_its_last_text() -> None:
    writer = EventWriter(FakeLanguage())
    key = StreamKey('camera', 'what?', FACTS.model_id)
    writer.push(Change(MS, key, 's', 4, MS, 1.0, Reason.FIRST, color_vector('blue')))
    writer.push(Change(3 * MS, key, 's', 4, MS, 0.2, Reason.DRIFT, color_vector('black')))
    ended, started = writer.push(closing(4))
    assert (ended.state, ended.text) == (State.ENDED, 'the scene is black')
    assert (started.state, started.text) == (State.STARTED, 'the scene is green')
    assert writer.decodes == 3


@pytest.mark.parametrize(('segment_id', 'session_id'), [(3, 's'), (4, 'other')])
def test_a_segment_without_a_text_is_decoded_at_its_end(segment_id: int, session_id: str) -> None:
    writer = EventWriter(FakeLanguage())
    assert [e.text for e in writer.push(closing(7))] == ['the scene is red', 'the scene is green']
    key = StreamKey('camera', 'what?', FACTS.model_id)
    writer.push(Change(MS, key, 's', 4, MS, 1.0, Reason.FIRST, color_vector('blue')))
    *_, ended, _ = writer.push(
        closing(segment_id, session_id)
    )  # after the events that were left open
    assert ended.text == 'the scene is red'
    assert writer.decodes == 5


def test_open_segments_end_when_another_session_begins() -> None:
    """A killed change detection publishes no END, so the event writer must end the segment."""
    writer, key = EventWriter(FakeLanguage()), StreamKey('camera', 'what?', FACTS.model_id)
    first = Change(4 * MS, key, 'a', 7, 2 * MS, 1.0, Reason.FIRST, color_vector('red'))
    writer.push(first)
    again = Change(9 * MS, key, 'b', 0, 9 * MS, 1.0, Reason.FIRST, color_vector('blue'))
    ended, started = writer.push(again)
    assert (ended.session_id, ended.segment_id, ended.state) == ('a', 7, State.ENDED)
    assert (ended.start_ns, ended.end_ns, ended.text) == (2 * MS, 4 * MS, 'the scene is red')
    assert (started.session_id, started.segment_id, started.state) == ('b', 0, State.STARTED)
    assert writer.decodes == 2 and writer.written == 3


def test_an_open_segment_ends_when_its_end_was_missed() -> None:
    """A decoder that missed two changes receives the opening change of the current segment."""
    writer, key = EventWriter(FakeLanguage()), StreamKey('camera', 'what?', FACTS.model_id)
    writer.push(Change(4 * MS, key, 'a', 0, 2 * MS, 1.0, Reason.FIRST, color_vector('red')))
    again = Change(9 * MS, key, 'a', 2, 8 * MS, 1.0, Reason.MEANING, color_vector('blue'))
    ended, started = writer.push(again)
    assert (ended.segment_id, ended.state, ended.text) == (0, State.ENDED, 'the scene is red')
    assert (started.segment_id, started.state) == (2, State.STARTED)
    assert writer.push(again) == [] and writer.decodes == 2


def test_texts_and_answers_about_unfamiliar_scenes_are_withheld() -> None:
    vision = FakeVision(unfamiliar_colors={'green': 0.75})
    pipeline = Pipeline(dataclasses.replace(fake_model(), vision=vision))
    events = play(pipeline, [('red', 30), ('green', 30)])
    now = pipeline.ask('What?')
    assert now.abstain_reason is AbstainReason.UNFAMILIAR and now.unfamiliar == 0.75
    past = pipeline.ask('What?', start_ns=1, end_ns=2900 * MS)
    assert past.answer == 'the scene is red' and past.unfamiliar == 0.0
    decodes = pipeline.writer.decodes
    ended = [e for e in events + pipeline.finish() if e.state is State.ENDED]
    assert [(e.text, e.abstained) for e in ended] == [('the scene is red', False), ('', True)]
    assert ended[0].confidence > 0.9 and ended[1].confidence == 0.0
    assert ended[1].abstain_reason is AbstainReason.UNFAMILIAR and ended[1].unfamiliar == 0.75
    assert pipeline.writer.decodes == decodes == 1
    stored = pipeline.memory.recall('camera', 0, 0, 'What is happening?')
    assert stored is not None
    assert [(s.unfamiliar, s.text) for s in stored.seen] == [(0.0, 'the scene is red'), (0.75, '')]


def test_a_segment_that_becomes_familiar_is_decoded_at_its_end() -> None:
    key, vector = StreamKey('c', '', FACTS.model_id), color_vector('red')
    first = Change(MS, key, 's', 0, MS, 1.0, Reason.FIRST, vector, unfamiliar=0.9)
    writer = EventWriter(FakeLanguage())
    (started,) = writer.push(first)
    assert started.abstained and started.text == ''
    segment = Segment(0, MS, 9 * MS)
    end = Change(9 * MS, key, 's', 0, MS, 0.0, Reason.END, vector, segment, vector, 0.3, 0.3)
    (ended,) = writer.push(end)
    assert (ended.text, ended.abstained, ended.unfamiliar) == ('the scene is red', False, 0.3)


def test_an_unreadable_search_is_refused() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 30)])
    with pytest.raises(InputError, match=UNREADABLE):
        pipeline.search(f'a {UNREADABLE}')


@pytest.mark.parametrize('candidates', ['yes', 5, None])
def test_a_single_string_is_rejected_as_candidates(candidates: object) -> None:
    with pytest.raises(InputError, match='candidates'):
        Pipeline(fake_model()).ask('what?', candidates)  # type: ignore[arg-type]


def test_a_single_string_is_rejected_as_standing_prompts() -> None:
    with pytest.raises(InputError, match='standing prompts'):
        Pipeline(fake_model()).perceiver.set_prompts('abc')
    with pytest.raises(InputError, match='standing prompts'):
        PerceptionSettings(prompts='abc')  # type: ignore[arg-type]


@pytest.mark.parametrize('prompts', [(UNREADABLE,), ('What?', f'Is it {UNREADABLE} ?')])
def test_an_unreadable_standing_prompt_is_refused(prompts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=UNREADABLE):
        Pipeline(fake_model(), Settings(PerceptionSettings(prompts=prompts)))
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 10)])
    with pytest.raises(InputError, match=UNREADABLE):
        pipeline.set_prompts(prompts)
    assert pipeline.perceiver.prompts == ('What is happening?',) and len(pipeline.finish()) == 1


def test_an_unreadable_question_is_an_abstention_and_no_error() -> None:
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 30)])
    for span in ((0, 0), (1, 2000 * MS)):
        answer = pipeline.ask(UNREADABLE, ['red', 'blue'], '', *span)
        assert answer.abstain_reason is AbstainReason.UNREADABLE and UNREADABLE in answer.message
