# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vljepa_ros.core.types import Event, State, StreamKey
from vljepa_ros.view.stack_state import NO_STATUS, StackState


def event(text: str, state: State = State.STARTED, confidence: float = 0.75) -> Event:
    """Return an event of the camera `front`."""
    return Event(
        stamp_ns=1_000_000_000,
        key=StreamKey('front', '', 'm'),
        session_id='s',
        segment_id=1,
        start_ns=0,
        end_ns=1_000_000_000,
        state=state,
        text=text,
        confidence=confidence,
    )


def test_the_rate_is_the_mean_of_the_last_ten_seconds() -> None:
    state = StackState()
    for number in range(31):
        state.on_embedding('front', '', 0.1, 0.0, number * 0.5)
    assert state.stream('front', '').rate_hz(15.0) == pytest.approx(2.0)


def test_the_rate_of_a_silent_stream_is_zero() -> None:
    state = StackState()
    for now_s in (1.0, 1.5, 2.0):
        state.on_embedding('front', '', 0.1, 0.0, now_s)
    assert state.stream('front', '').rate_hz(60.0) == 0.0


def test_the_text_of_an_ended_segment_is_not_current() -> None:
    state = StackState()
    state.on_event(event('the drawer is open'))
    assert state.stream('front', '').text == 'the drawer is open'
    state.on_event(event('the drawer is open', State.ENDED))
    assert state.stream('front', '').text == ''
    assert not state.stream('front', '').withheld


def test_an_open_segment_without_text_is_withheld() -> None:
    state = StackState()
    state.on_event(event('', confidence=0.0))
    assert state.stream('front', '').withheld


def test_lost_and_rejected_frames_of_all_cameras_are_summed() -> None:
    values = {
        'front: frames lost before reception': '3',
        'rear: dropped, too slow': '4',
        'rear: rejected images': '2',
        'rear: frames received': '900',
        'rear: topic': '/image',
    }
    state = StackState()
    state.on_diagnostics('/vljepa/perception_node', 0, 'ok', values, 1.0)
    assert state.dropped_frames == 9


def test_diagnostics_name_the_condition_of_a_watch() -> None:
    state = StackState()
    state.on_watch('0123abcd', 0.25, 1.0)
    state.on_diagnostics('/v/query_node', 0, '', {'watch 0123abcd': 'the door\x1b is open'}, 1.0)
    assert state.summary(1.0)['watches'] == [
        {'id': '0123abcd', 'condition': 'the door is open', 'score': 0.25}
    ]


def test_silent_watches_disappear_and_silent_nodes_become_stale() -> None:
    state = StackState()
    state.on_watch('0123abcd', 0.25, 1.0)
    state.on_diagnostics('/v/query_node', 0, 'active', {}, 1.0)
    state.forget_silent(5.9)
    assert state.watches and state.nodes['/v/query_node'].level == 0
    state.forget_silent(6.1)
    assert not state.watches and state.nodes['/v/query_node'].level == NO_STATUS


def test_the_summary_has_one_plain_line_per_text() -> None:
    state = StackState()
    state.on_event(event('a\x1b[31m\n<b>cup</b> \u202eevil'))
    [stream] = state.summary(0.0)['streams']
    assert stream['text'] == 'a [31m <b>cup</b> evil'
