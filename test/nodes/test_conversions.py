# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import dataclasses
import math

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from helpers import fake_models
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vljepa_ros import msg, srv
from vljepa_ros.core import types
from vljepa_ros.core.errors import InputError
from vljepa_ros.nodes import conversions

KEY = types.StreamKey('front', 'What?', 'small-1-2')
A = np.array([0.6, 0.8], np.float32)
B = np.array([1.0, 0.0], np.float32)
NS = 1_700_000_000_123_456_789
STAMP = Time(sec=1_700_000_000, nanosec=123_456_789)


def test_stamps_are_converted_without_loss() -> None:
    assert conversions.to_time(NS) == STAMP
    assert conversions.to_ns(STAMP) == NS
    assert conversions.to_duration(2_000_000_003) == Duration(sec=2, nanosec=3)
    assert conversions.to_ns(Time()) == 0


def test_vectors_are_converted_to_float_arrays_and_back() -> None:
    floats = conversions.to_floats(A)
    assert type(floats) is array.array
    assert floats.typecode == 'f'
    assert list(floats) == [np.float32(0.6), np.float32(0.8)]
    back = conversions.from_floats(floats)
    assert back.dtype == np.float32
    assert (back == A).all()


def test_a_column_of_a_matrix_is_converted_in_order() -> None:
    matrix = np.arange(6, dtype=np.float64).reshape(3, 2)
    assert list(conversions.to_floats(matrix[:, 1])) == [1.0, 3.0, 5.0]


@pytest.mark.parametrize('bad', [[], [math.nan, 1.0], [math.inf]])
def test_invalid_vectors_are_rejected(bad: list[float]) -> None:
    with pytest.raises(InputError, match='empty or not finite'):
        conversions.from_floats(array.array('f', bad))


def test_an_embedding_is_converted_with_all_fields() -> None:
    embedding = types.Embedding(NS, NS - 1_000_000_000, KEY, A, 7, 0.25)
    message = conversions.to_embedding_message(embedding, 'lens', 5_000_000)
    assert message == msg.SemanticEmbedding(
        header=Header(stamp=STAMP, frame_id='lens'),
        window_start=Time(sec=1_699_999_999, nanosec=123_456_789),
        reset_count=7,
        source='front',
        prompt='What?',
        model_id='small-1-2',
        vector=array.array('f', [0.6, 0.8]),
        unfamiliar=0.25,
        latency=Duration(sec=0, nanosec=5_000_000),
    )
    back = conversions.from_embedding_message(message)
    assert (back.stamp_ns, back.window_start_ns, back.key) == (NS, NS - 1_000_000_000, KEY)
    assert (back.reset_count, back.unfamiliar) == (7, 0.25)
    assert (back.vector == A).all()


CHANGE = types.Change(
    NS,
    KEY,
    'session',
    4,
    NS - 10,
    0.5,
    types.Reason.MEANING,
    A,
    types.Segment(3, NS - 90, NS - 10),
    B,
)


def test_a_change_is_converted_with_all_fields() -> None:
    message = conversions.to_change_message(CHANGE, 'lens')
    assert message == msg.SemanticChange(
        header=Header(stamp=STAMP, frame_id='lens'),
        source='front',
        prompt='What?',
        model_id='small-1-2',
        session_id='session',
        segment_id=4,
        segment_start=Time(sec=STAMP.sec, nanosec=STAMP.nanosec - 10),
        score=0.5,
        reason=msg.SemanticChange.REASON_MEANING,
        vector=array.array('f', [0.6, 0.8]),
        has_previous=True,
        previous_segment_id=3,
        previous_start=Time(sec=STAMP.sec, nanosec=STAMP.nanosec - 90),
        previous_end=Time(sec=STAMP.sec, nanosec=STAMP.nanosec - 10),
        previous_vector=array.array('f', [1.0, 0.0]),
    )
    back = conversions.from_change_message(message)
    for name in (
        'stamp_ns',
        'key',
        'session_id',
        'segment_id',
        'segment_start_ns',
        'score',
        'reason',
        'previous',
    ):
        assert getattr(back, name) == getattr(CHANGE, name), name
    assert (back.vector == A).all()
    assert (back.previous_vector == B).all()


def test_a_first_change_has_no_previous_segment() -> None:
    first = types.Change(NS, KEY, 's', 0, NS, 1.0, types.Reason.FIRST, A)
    message = conversions.to_change_message(first, '')
    assert not message.has_previous
    assert len(message.previous_vector) == 0
    back = conversions.from_change_message(message)
    assert back.previous is None
    assert back.previous_vector is None


def test_an_event_is_converted_with_all_fields() -> None:
    event = types.Event(
        NS,
        KEY,
        'session',
        4,
        NS - 20,
        NS,
        types.State.ENDED,
        'it opens',
        0.75,
        (types.Candidate('it shuts', 0.25),),
        nearest=True,
        unfamiliar=0.75,
        abstain_reason=types.AbstainReason.UNFAMILIAR,
    )
    message = conversions.to_event_message(event, 'lens')
    assert message == msg.TextEvent(
        header=Header(stamp=STAMP, frame_id='lens'),
        source='front',
        prompt='What?',
        model_id='small-1-2',
        session_id='session',
        segment_id=4,
        start=Time(sec=STAMP.sec, nanosec=STAMP.nanosec - 20),
        end=STAMP,
        state=msg.TextEvent.STATE_ENDED,
        text='it opens',
        confidence=0.75,
        alternatives=[msg.Candidate(text='it shuts', score=0.25)],
        nearest=True,
        unfamiliar=0.75,
        abstained=True,
        abstain_reason=msg.TextEvent.ABSTAIN_UNFAMILIAR,
    )
    assert conversions.from_event_message(message) == event


def test_unknown_enum_values_are_refused() -> None:
    change = conversions.to_change_message(CHANGE, '')
    change.reason = 99
    with pytest.raises(InputError, match=r'reason 99'):
        conversions.from_change_message(change)
    with pytest.raises(InputError, match=r'state 7'):
        conversions.from_event_message(msg.TextEvent(state=7))


@pytest.mark.parametrize(
    ('kind', 'enum', 'prefix'),
    [
        (msg.SemanticChange, types.Reason, 'REASON_'),
        (msg.TextEvent, types.State, 'STATE_'),
        (srv.Query.Response, types.Basis, 'BASIS_'),
    ],
)
def test_constants_equal_the_core_enums(kind: type, enum: type, prefix: str) -> None:
    assert {item.name: int(item) for item in enum} == {  # type: ignore[attr-defined]
        item.name: getattr(kind, prefix + item.name)
        for item in enum  # type: ignore[attr-defined]
    }


def test_an_answer_is_converted_with_all_fields() -> None:
    answer = types.Answer(
        'yes',
        0.75,
        True,
        NS,
        'small-1-2',
        A,
        (types.Candidate('yes', 0.75), types.Candidate('no', 0.25)),
        (types.Moment('front', NS - 5, NS, 0.5, 'it opens'),),
        types.Basis.FRAMES,
        nearest=True,
        abstain_reason=types.AbstainReason.UNANSWERABLE,
        unfamiliar=0.125,
        message='cannot read "?"',
    )
    response = srv.Query.Response()
    conversions.fill_answer(response, answer)
    assert response == srv.Query.Response(
        message='cannot read "?"',
        answer='yes',
        confidence=0.75,
        abstained=True,
        abstain_reason=srv.Query.Response.ABSTAIN_UNANSWERABLE,
        unfamiliar=0.125,
        nearest=True,
        stamp=STAMP,
        model_id='small-1-2',
        vector=array.array('f', [0.6, 0.8]),
        basis=srv.Query.Response.BASIS_FRAMES,
        ranked=[msg.Candidate(text='yes', score=0.75), msg.Candidate(text='no', score=0.25)],
        evidence=[
            msg.Moment(
                source='front',
                start=Time(sec=STAMP.sec, nanosec=STAMP.nanosec - 5),
                end=STAMP,
                score=0.5,
                text='it opens',
            )
        ],
    )

    read = conversions.from_answer(response)
    assert np.array_equal(read.vector, answer.vector)  # type: ignore[arg-type]
    assert dataclasses.replace(read, vector=A) == answer


def test_model_info_follows_the_rate_in_use() -> None:
    info = conversions.to_model_info(fake_models.FACTS, ('a', 'b'), ('front',), 5.0)
    assert info == msg.ModelInfo(
        model_id=fake_models.FACTS.model_id,
        embedding_dim=8,
        rate=5.0,
        hop=Duration(nanosec=400_000_000),
        attention_window=Duration(sec=1, nanosec=600_000_000),
        receptive_field=Duration(sec=1, nanosec=600_000_000),
        prompts=['a', 'b'],
        sources=['front'],
        device='cpu',
        dtype='float32',
    )


def test_model_info_names_a_stream_for_each_camera_and_prompt() -> None:
    info = msg.ModelInfo(model_id='m', prompts=['a', ''], sources=['front', 'rear'])
    assert conversions.streams_of(info) == {
        types.StreamKey(source, prompt, 'm')
        for source in ('front', 'rear')
        for prompt in ('a', '')
    }
    assert conversions.streams_of(msg.ModelInfo(sources=['front'])) == frozenset()


def test_vectors_of_prompts_are_converted_to_embeddings() -> None:
    messages = conversions.to_embeddings(np.stack([A, B]))
    assert [list(m.data) for m in messages] == [list(A), list(B)]
    assert (conversions.from_embedding(messages[0]) == A).all()


def test_a_raw_image_is_unpadded() -> None:
    rows = np.zeros((2, 16), np.uint8)  # two rows of three bgr pixels and seven bytes of padding
    rows[0, :3], rows[1, 6:9] = (10, 20, 30), (40, 50, 60)
    message = Image(
        encoding='bgr8', width=3, height=2, step=16, data=array.array('B', rows.tobytes())
    )
    image = conversions.to_image(message)
    assert image.shape == (2, 3, 3)
    assert image[0, 0].tolist() == [30, 20, 10]
    assert image[1, 2].tolist() == [60, 50, 40]


def test_a_compressed_image_is_decoded() -> None:
    image = fake_models.solid_image('blue')
    png = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
    message = CompressedImage(format='png', data=array.array('B', png))
    assert (conversions.to_image(message) == image).all()


def test_a_damaged_image_is_refused() -> None:
    with pytest.raises(InputError, match="unknown encoding 'rgb9'"):
        conversions.to_image(Image(encoding='rgb9', width=1, height=1, step=3))


@pytest.mark.parametrize('value', [-0.5, 1.5, float('nan')])
def test_unfamiliarity_out_of_range_is_refused(value: float) -> None:
    embedding = types.Embedding(NS, NS, KEY, A)
    message = conversions.to_embedding_message(embedding, 'lens', 0)
    message.unfamiliar = value
    with pytest.raises(InputError, match='unfamiliar'):
        conversions.from_embedding_message(message)


def test_an_unknown_abstention_reason_is_refused() -> None:
    with pytest.raises(InputError, match='99'):
        conversions.from_event_message(msg.TextEvent(abstain_reason=99))
