# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import math
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from helpers import fake_models
from helpers.node_harness import (
    LATCHED,
    MS,
    RELIABLE,
    START_NS,
    Bench,
    eventually,
    stamp,
    values_of,
)
from std_msgs.msg import Header
from vljepa_ros.msg import ModelInfo, SemanticChange, SemanticEmbedding

from vljepa_ros.nodes.change_detection import SESSION_ID, ChangeDetectionNode


def embedding(color: str, hop: int, **changes: Any) -> SemanticEmbedding:
    """Return an embedding with the fake's hop of 200 ms and windows of 800 ms."""
    newest = START_NS + hop * 200 * MS
    message = SemanticEmbedding(
        header=Header(stamp=stamp(newest), frame_id='lens'),
        window_start=stamp(newest - 700 * MS),
        source='camera',
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        vector=array.array('f', fake_models.color_vector(color).tobytes()),
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class Harness:
    """Change detection node with embeddings as input and changes as output."""

    def __init__(self, bench: Bench, **values: Any) -> None:
        self.node = bench.start(ChangeDetectionNode, **values)
        self.changes = bench.collect(SemanticChange, 'semantic_change')
        self._publisher = bench.publisher(SemanticEmbedding, 'semantic_embedding')

    def send(self, *messages: SemanticEmbedding) -> None:
        for message in messages:
            self._publisher.publish(message)


def test_the_first_embedding_opens_a_segment(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(embedding('red', 0))
    [change] = harness.changes.wait(1)
    assert change == SemanticChange(
        header=Header(stamp=stamp(START_NS), frame_id='lens'),
        source='camera',
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        session_id=SESSION_ID,
        segment_id=0,
        segment_start=stamp(START_NS),
        score=1.0,
        reason=SemanticChange.REASON_FIRST,
        vector=array.array('f', fake_models.color_vector('red')),
    )


def test_a_change_of_meaning_closes_and_opens_a_segment(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(
        *(embedding('red', n) for n in range(10)), *(embedding('blue', n) for n in (10, 11))
    )
    _, change = harness.changes.wait(2)
    at = stamp(START_NS + 2000 * MS)
    assert change == SemanticChange(
        header=Header(stamp=stamp(START_NS + 2200 * MS), frame_id='lens'),
        source='camera',
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        session_id=SESSION_ID,
        segment_id=1,
        segment_start=at,
        score=1.0,
        reason=SemanticChange.REASON_MEANING,
        vector=array.array('f', fake_models.color_vector('blue')),
        has_previous=True,
        previous_segment_id=0,
        previous_start=stamp(START_NS),
        previous_end=at,
        previous_vector=array.array('f', fake_models.color_vector('red')),
    )


def test_late_subscribers_get_open_segments(bench: Bench) -> None:
    """Otherwise, a restarted decoder would publish nothing until the next change."""
    harness = Harness(bench)
    harness.send(
        *(embedding('red', n) for n in range(10)), *(embedding('blue', n) for n in (10, 11))
    )
    _, change = harness.changes.wait(2)
    late = bench.collect(SemanticChange, 'semantic_change')
    [again] = late.wait(1)
    harness.send(embedding('red', 12, prompt='Marker?'))  # its change follows all others
    assert late.wait(2) == harness.changes.wait(4)[2:] and late[1].prompt == 'Marker?'
    change.has_previous, change.previous_vector = False, array.array('f')
    change.previous_segment_id, change.previous_start = 0, Time()
    change.previous_end = Time()
    assert again == change


def test_late_subscribers_get_the_vector_of_the_last_drift(bench: Bench) -> None:
    harness = Harness(bench, change_threshold=90.0, drift_threshold=0.1)
    harness.send(*(embedding('red' if n < 10 else 'blue', n) for n in range(40)))
    drifted = harness.changes.wait(2)[-1]
    assert drifted.reason == SemanticChange.REASON_DRIFT
    harness.send(embedding('red', 40, prompt='Marker?'))  # its change follows all others
    eventually(lambda: harness.changes[-1].prompt == 'Marker?')
    drifts = [c for c in harness.changes if c.reason == SemanticChange.REASON_DRIFT]
    late = bench.collect(SemanticChange, 'semantic_change').wait(2)
    [again] = [change for change in late if change.prompt != 'Marker?']
    assert (again.reason, again.segment_id) == (SemanticChange.REASON_FIRST, 0)
    assert again.vector == drifts[-1].vector


def test_parameters_determine_the_detected_changes(bench: Bench) -> None:
    harness = Harness(bench, confirm_hops=4, min_segment=0.0)
    harness.send(
        *(embedding('red', n) for n in range(3)), *(embedding('blue', n) for n in range(3, 6))
    )
    harness.changes.wait(1)
    harness.send(embedding('blue', 6))
    assert harness.changes.wait(2)[1].header.stamp == stamp(START_NS + 1200 * MS)


def test_deactivation_ends_open_streams_while_it_can_still_publish(bench: Bench) -> None:
    harness = Harness(bench)
    for prompt in ('One?', 'Two?'):
        harness.send(*(embedding('red', n, prompt=prompt) for n in range(3)))
    eventually(lambda: harness.node.health.counts['embeddings'] == 6)
    bench.do(harness.node, harness.node.trigger_deactivate)
    ends = harness.changes.wait(4)[2:]
    assert {change.prompt for change in ends} == {'One?', 'Two?'}
    for change in ends:
        assert change.reason == SemanticChange.REASON_END
        assert change.header == Header(stamp=stamp(START_NS + 400 * MS), frame_id='lens')
        assert (change.segment_id, change.previous_segment_id) == (0, 0)
        assert (change.previous_start, change.previous_end) == (
            stamp(START_NS),
            stamp(START_NS + 400 * MS),
        )
    assert harness.node.phase == 'inactive'


def test_segment_ids_continue_after_a_reactivation(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(embedding('red', 0))
    harness.changes.wait(1)
    bench.do(harness.node, harness.node.trigger_deactivate)
    bench.do(harness.node, harness.node.trigger_activate)
    publisher = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    publisher.publish(embedding('red', 1))
    assert harness.changes.wait(3)[2].segment_id == 1


def test_segment_ids_continue_after_a_cleanup(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(embedding('red', 0))
    harness.changes.wait(1)
    bench.do(harness.node, harness.node.bring_down)
    assert bench.do(harness.node, harness.node.bring_up)
    publisher = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    publisher.publish(embedding('red', 1))
    first, _, second = harness.changes.wait(3)
    assert (first.session_id, second.session_id) == (SESSION_ID, SESSION_ID)
    assert (first.segment_id, second.segment_id) == (0, 1)


class InformedHarness(Harness):
    """Change detection with `model_info`."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._info = bench.publisher(ModelInfo, 'model_info', LATCHED)

    def publish_model_info(self, *prompts: str, **fields: Any) -> None:
        """Publish `model_info` with these prompts; return once it is processed."""
        before = self.node._standing
        info = {'sources': ['camera'], 'model_id': fake_models.FACTS.model_id} | fields
        self._info.publish(ModelInfo(prompts=prompts, **info))
        eventually(lambda: self.node._standing is not before)

    def publish_hop(self, hop: int, *prompts: str) -> None:
        """Publish one hop; return once it is processed."""
        count = self.node.health.counts['embeddings'] + len(prompts)
        self.send(*(embedding('red', hop, prompt=prompt) for prompt in prompts))
        eventually(lambda: self.node.health.counts['embeddings'] == count)

    def change_summaries(self, count: int) -> list[tuple[str, int, int]]:
        """Return prompt, reason and segment of each change."""
        return [(c.prompt, c.reason, c.segment_id) for c in self.changes.wait(count)]


FIRST, END = SemanticChange.REASON_FIRST, SemanticChange.REASON_END


def test_a_removed_prompt_ends_its_stream_and_can_be_added_again(bench: Bench) -> None:
    harness = InformedHarness(bench)
    harness.publish_model_info('One?', 'Two?')
    for n in range(3):
        harness.publish_hop(n, 'One?', 'Two?')
    harness.publish_model_info('One?')
    [*_, ended] = harness.changes.wait(3)
    assert (ended.prompt, ended.reason) == ('Two?', END)
    assert ended.previous_end == stamp(START_NS + 400 * MS)
    harness.publish_hop(3, 'One?')
    harness.publish_model_info('One?', 'Two?')
    harness.publish_hop(30, 'Two?')
    assert harness.change_summaries(4)[2:] == [('Two?', END, 0), ('Two?', FIRST, 1)]


def test_late_embeddings_of_a_removed_prompt_open_no_stream(bench: Bench) -> None:
    harness = InformedHarness(bench)
    harness.publish_model_info('One?')
    harness.publish_hop(0, 'One?')
    harness.publish_model_info()
    harness.publish_hop(1, 'One?')
    status = bench.status(harness.node, lambda s: 'embeddings of unknown streams' in str(s))
    assert values_of(status)['embeddings of unknown streams'] == '1'
    harness.publish_model_info('One?')
    harness.publish_hop(2, 'One?')
    assert harness.change_summaries(3) == [
        ('One?', FIRST, 0),
        ('One?', END, 0),
        ('One?', FIRST, 1),
    ]


@pytest.mark.parametrize('fields', [{'sources': ['rear']}, {'model_id': 'other-1-2'}])
def test_streams_of_a_removed_camera_or_model_end(bench: Bench, fields: dict[str, Any]) -> None:
    harness = InformedHarness(bench)
    harness.publish_hop(0, 'One?')  # before the first model_info
    harness.publish_model_info('One?', **fields)
    assert harness.change_summaries(2) == [('One?', FIRST, 0), ('One?', END, 0)]


def test_streams_of_two_models_are_never_mixed(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(
        *(embedding('red', n) for n in range(6)), embedding('blue', 6, model_id='other-1-2')
    )
    first, second = harness.changes.wait(2)
    assert (first.model_id, second.model_id) == (fake_models.FACTS.model_id, 'other-1-2')
    assert second.reason == SemanticChange.REASON_FIRST
    problem = values_of(bench.status(harness.node, lambda s: s.level == b'\x01'))['last problem']
    assert "'camera'" in problem and "'other-1-2'" in problem


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        ({'vector': array.array('f', [math.nan] * 8)}, 'not finite'),
        ({'vector': array.array('f')}, 'empty'),
        ({'vector': array.array('f', [0.0] * 8)}, 'only zeros'),
        (
            {'vector': array.array('f', [1.0, 0.0])},
            'the embedding has 2 values, but earlier ones have 8',
        ),
        ({'header': Header(stamp=stamp(START_NS + 600 * MS))}, 's is not later than'),
    ],
)
def test_an_invalid_vector_does_not_affect_the_stream(
    bench: Bench, bad: dict[str, Any], message: str
) -> None:
    harness = Harness(bench)
    harness.send(
        *(embedding('red', n) for n in range(6)),
        embedding('green', 6, **bad),
        *(embedding('blue', n) for n in (7, 8)),
    )
    _, change = harness.changes.wait(2)
    assert np.allclose(change.previous_vector, fake_models.color_vector('red'))
    assert np.allclose(change.vector, fake_models.color_vector('blue'))
    assert harness.node.health.counts['invalid embeddings'] == 1
    assert message in values_of(bench.status(harness.node, lambda s: True))['last problem']


def test_a_repeated_frame_confirms_no_change(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(*(embedding('red', n) for n in range(6)), *[embedding('blue', 6)] * 4)
    eventually(lambda: harness.node.health.counts['embeddings without a new frame'] == 3)
    harness.send(embedding('blue', 7))
    assert harness.changes.wait(2)[1].header.stamp == stamp(START_NS + 1400 * MS)


def test_stamps_may_go_back_after_a_reset(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(*(embedding('red', n) for n in range(6)), embedding('red', 2, reset_count=1))
    _, change = harness.changes.wait(2)
    assert change.reason == SemanticChange.REASON_RESET
    assert change.segment_start == stamp(START_NS + 400 * MS)


def test_embeddings_are_queued_for_a_busy_node(bench: Bench) -> None:
    harness = Harness(bench)
    [info] = bench.probe.get_subscriptions_info_by_topic(f'{bench.namespace}/semantic_embedding')
    assert info.qos_profile.reliability == RELIABLE.reliability
    assert (
        harness.node.get_parameter(
            f'qos_overrides.{bench.namespace}/semantic_embedding.subscription.depth'
        ).value
        == 50
    )
