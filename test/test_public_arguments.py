# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of the public classes and functions: one InputError each, in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.fake_models import fake_model, solid_image
from test_pipeline import play

from vljepa_ros import Frame, InputError, ModelError, Pipeline, Settings, load
from vljepa_ros.core.settings import (
    AnswerSettings,
    FrameStoreSettings,
    MemorySettings,
    PerceptionSettings,
    SegmenterSettings,
)
from vljepa_ros.core.types import Event

MS = 1_000_000
RED = solid_image('red')
NAN = float('nan')


def pipeline_with_frames() -> Pipeline:
    """Return a pipeline with two seconds of a red scene."""
    pipeline = Pipeline(fake_model())
    play(pipeline, [('red', 20)])
    return pipeline


def message_of(call: Callable[[], object]) -> str:
    """Return the message of the InputError that a call raises."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert message and '\n' not in message and len(message) < 300
    return message


def test_a_model_name_instead_of_a_model_is_refused_with_the_remedy() -> None:
    assert "load('small')" in message_of(lambda: Pipeline('small'))  # type: ignore[arg-type]


@pytest.mark.parametrize('model', [None, 3, Pipeline, object()])
def test_a_pipeline_requires_a_loaded_model(model: Any) -> None:
    assert 'load(' in message_of(lambda: Pipeline(model))


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        ({'settings': 'fast'}, 'settings'),
        ({'settings': PerceptionSettings()}, 'settings'),
        ({'session_id': None}, 'session_id'),
        ({'segmenter': 3}, 'segmenter'),
    ],
)
def test_invalid_arguments_of_a_pipeline_are_refused(
    arguments: dict[str, Any], token: str
) -> None:
    assert token in message_of(lambda: Pipeline(fake_model(), **arguments))


BAD_FRAMES = {
    'no frame': None,
    'an image without its stamp': RED,
    'no image': Frame(3000 * MS, None),  # type: ignore[arg-type]
    'a list': Frame(3000 * MS, [[[0, 0, 0]]]),  # type: ignore[arg-type]
    'gray': Frame(3000 * MS, np.zeros((8, 8), np.uint8)),
    'four channels': Frame(3000 * MS, np.zeros((8, 8, 4), np.uint8)),
    'floats': Frame(3000 * MS, np.zeros((8, 8, 3), np.float32)),  # type: ignore[arg-type]
    'no pixels': Frame(3000 * MS, np.zeros((0, 8, 3), np.uint8)),
    'no stamp': Frame(None, RED),  # type: ignore[arg-type]
    'a stamp in seconds': Frame(3.0, RED),  # type: ignore[arg-type]
    'a stamp that is not a number': Frame(NAN, RED),  # type: ignore[arg-type]
    'a stamp as text': Frame('3', RED),  # type: ignore[arg-type]
    'a huge stamp': Frame(10**30, RED),
    'a negative stamp': Frame(-1, RED),
    'a stamp of 400 digits': Frame(10**400, RED),
    'no source': Frame(3000 * MS, RED, None),  # type: ignore[arg-type]
    'a number as source': Frame(3000 * MS, RED, 3),  # type: ignore[arg-type]
    'an empty source': Frame(3000 * MS, RED, ''),
}


@pytest.mark.parametrize('what', BAD_FRAMES)
def test_an_invalid_frame_is_refused_and_leaves_the_state_unchanged(what: str) -> None:
    clean, dirty = pipeline_with_frames(), pipeline_with_frames()
    message_of(lambda: dirty.push(BAD_FRAMES[what]))  # type: ignore[arg-type]
    found: list[list[Event]] = []
    for pipeline in (clean, dirty):
        events = pipeline.push(Frame(2000 * MS, solid_image('green')))
        events += play(pipeline, [('green', 20)], start=2100 * MS)
        found.append(events + pipeline.finish())
    assert found[0] == found[1] and found[0]
    assert dirty.intakes['camera'].received == clean.intakes['camera'].received


def test_numpy_integers_are_accepted_as_stamps() -> None:
    pipeline = Pipeline(fake_model())
    stamps = np.arange(20) * 100 * MS
    events = [event for stamp in stamps for event in pipeline.push(Frame(stamp, RED))]
    assert len(events) == 1 and len(pipeline.finish()) == 1


@pytest.mark.parametrize('value', [None, 1.5, NAN, -1])
def test_arguments_of_skip_are_validated(value: Any) -> None:
    assert 'stamp_ns' in message_of(lambda: pipeline_with_frames().skip('camera', value))
    assert 'source' in message_of(lambda: pipeline_with_frames().skip(value, 0))


@pytest.mark.parametrize(
    'prompts', [None, 'What?', 3, ['a', None], ['a'] * 2, ['a', ['b']], [b'']]
)
def test_invalid_standing_prompts_are_refused(prompts: Any) -> None:
    assert 'prompt' in message_of(lambda: pipeline_with_frames().set_prompts(prompts))
    assert 'prompt' in message_of(lambda: PerceptionSettings(prompts=prompts))


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        ({'prompt': None}, 'prompt'),
        ({'prompt': ['What?']}, 'prompt'),
        ({'candidates': [None]}, 'candidate'),
        ({'candidates': ['a', '']}, 'candidate'),
        ({'candidates': {'a': 1}}, 'candidates'),
        ({'source': None}, 'source'),
        ({'source': 'no_such_camera'}, 'no_such_camera'),
        ({'start_ns': None}, 'start_ns'),
        ({'start_ns': 1.5}, 'start_ns'),
        ({'start_ns': True}, 'start_ns'),
        ({'start_ns': -1}, 'start_ns'),
        ({'end_ns': NAN}, 'end_ns'),
        ({'end_ns': '3'}, 'end_ns'),
        ({'end_ns': 10**30}, 'end_ns'),
        ({'start_ns': 9, 'end_ns': 5}, 'span'),
    ],
)
def test_invalid_arguments_of_ask_are_refused(arguments: dict[str, Any], token: str) -> None:
    assert token in message_of(
        lambda: pipeline_with_frames().ask(**{'prompt': 'what?', **arguments})
    )


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        ({'text': None}, 'text'),
        ({'text': ''}, 'text'),
        ({'text': ['red']}, 'text'),
        ({'source': 3}, 'source'),
        ({'start_ns': NAN}, 'start_ns'),
        ({'end_ns': -5}, 'end_ns'),
        ({'limit': None}, 'limit'),
        ({'limit': 2.5}, 'limit'),
        ({'limit': NAN}, 'limit'),
        ({'limit': '3'}, 'limit'),
        ({'limit': True}, 'limit'),
        ({'limit': 0}, 'limit'),
        ({'limit': 10**9}, 'limit'),
    ],
)
def test_invalid_arguments_of_search_are_refused(arguments: dict[str, Any], token: str) -> None:
    assert token in message_of(
        lambda: pipeline_with_frames().search(**{'text': 'red', **arguments})
    )


@pytest.mark.parametrize('value', [None, 'x', [], NAN, math.inf, True, 1j, 10**400])
@pytest.mark.parametrize(
    ('make', 'name'),
    [
        (PerceptionSettings, 'rate'),
        (PerceptionSettings, 'max_gap_s'),
        (SegmenterSettings, 'change_threshold'),
        (SegmenterSettings, 'confirm_hops'),
        (SegmenterSettings, 'min_segment_s'),
        (SegmenterSettings, 'drift_threshold'),
        (SegmenterSettings, 'events_per_minute'),
        (AnswerSettings, 'abstain_below'),
        (MemorySettings, 'kept_s'),
        (MemorySettings, 'hops_kept_s'),
        (MemorySettings, 'most_bytes'),
        (FrameStoreSettings, 'kept_s'),
        (FrameStoreSettings, 'most_bytes'),
    ],
)
def test_invalid_numbers_in_settings_are_refused(
    make: Callable[..., Any], name: str, value: Any
) -> None:
    message_of(lambda: make(**{name: value}))


def test_fractional_confirm_hops_are_refused() -> None:
    assert 'confirm_hops' in message_of(lambda: SegmenterSettings(confirm_hops=2.5))  # type: ignore[arg-type]


@pytest.mark.parametrize('field', ['perception', 'segmenter', 'answers', 'memory', 'frame_store'])
@pytest.mark.parametrize('value', [None, 3, 'x', Settings()])
def test_invalid_parts_of_settings_are_refused(field: str, value: Any) -> None:
    assert field in message_of(lambda: Settings(**{field: value}))


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        ({'name_or_dir': 3}, 'model'),
        ({'name_or_dir': None}, 'model'),
        ({'name_or_dir': ['small']}, 'model'),
        ({'name_or_dir': ''}, 'model'),
        ({'device': None}, 'device'),
        ({'device': 0}, 'device'),
        ({'device': ''}, 'device'),
        ({'dtype': None}, 'dtype'),
        ({'dtype': ['float32']}, 'dtype'),
        ({'threads': None}, 'threads'),
        ({'threads': 1.5}, 'threads'),
        ({'threads': NAN}, 'threads'),
        ({'threads': True}, 'threads'),
        ({'threads': -1}, 'threads'),
        ({'threads': 10**9}, 'threads'),
        ({'parts': 'vision'}, 'parts'),
        ({'parts': None}, 'parts'),
        ({'parts': ('audio',)}, 'parts'),
        ({'parts': (3,)}, 'parts'),
        ({'parts': ()}, 'parts'),
    ],
)
def test_invalid_arguments_of_load_are_refused(arguments: dict[str, Any], token: str) -> None:
    with pytest.raises((InputError, ModelError)) as caught:
        load(**{'device': 'cpu', **arguments})
    assert token in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['\0', 'no_such_model', 'x' * 10_000, '/dev/null', '\ud800'])
def test_an_unknown_model_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match='unknown model'):
        load(name, device='cpu')
