# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from helpers import fake_models
from helpers.node_harness import (
    LATCHED,
    MS,
    START_NS,
    Bench,
    eventually,
    fake_pool,
    stamp,
    values_of,
)
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Header
from vljepa_ros.msg import Candidate, SemanticChange, TextEvent

from vljepa_ros.core.protocols import Model
from vljepa_ros.nodes import qos
from vljepa_ros.nodes.decoder import DecoderNode

RED, BLUE = (array.array('f', fake_models.color_vector(c)) for c in ('red', 'blue'))


def change(number: int = 1, **changes: Any) -> SemanticChange:
    """Return a change from red to blue."""
    message = SemanticChange(
        header=Header(stamp=stamp(START_NS + 2200 * MS), frame_id='lens'),
        source='camera',
        prompt='What?',
        model_id=fake_models.FACTS.model_id,
        session_id='session',
        segment_id=number,
        segment_start=stamp(START_NS + 2000 * MS),
        score=0.9,
        reason=SemanticChange.REASON_MEANING,
        vector=BLUE,
        has_previous=True,
        previous_segment_id=number - 1,
        previous_start=stamp(START_NS),
        previous_end=stamp(START_NS + 2000 * MS),
        previous_vector=RED,
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class Harness:
    """Decoder node with changes as input and events as output."""

    def __init__(self, bench: Bench, language: Any = None) -> None:
        self.language = language or fake_models.FakeLanguage()
        pool = fake_pool(lambda: Model(fake_models.FACTS, None, self.language))
        self.node = bench.start(DecoderNode, pool)
        self.events = bench.collect(TextEvent, 'text_event', LATCHED)
        self.publisher = bench.publisher(SemanticChange, 'semantic_change')

    def send(self, *messages: SemanticChange) -> None:
        for message in messages:
            self.publisher.publish(message)


def test_a_change_yields_an_ended_and_a_started_event(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(change())
    ended, started = harness.events.wait(2)
    common: dict[str, Any] = {
        'header': Header(stamp=stamp(START_NS + 2200 * MS), frame_id='lens'),
        'source': 'camera',
        'prompt': 'What?',
        'model_id': fake_models.FACTS.model_id,
        'session_id': 'session',
        'confidence': 1.0,
        'alternatives': [Candidate(text='other', score=float(np.float32(0.1)))],
    }
    assert ended == TextEvent(
        segment_id=0,
        start=stamp(START_NS),
        end=stamp(START_NS + 2000 * MS),
        state=TextEvent.STATE_ENDED,
        text='the scene is red',
        **common,
    )
    assert started == TextEvent(
        segment_id=1,
        start=stamp(START_NS + 2000 * MS),
        end=stamp(START_NS + 2200 * MS),
        state=TextEvent.STATE_STARTED,
        text='the scene is blue',
        **common,
    )


@pytest.mark.parametrize(
    ('reason', 'states'),
    [
        (SemanticChange.REASON_FIRST, [TextEvent.STATE_STARTED]),
        (SemanticChange.REASON_DRIFT, [TextEvent.STATE_UPDATED]),
    ],
)
def test_reasons_without_a_previous_segment(bench: Bench, reason: int, states: list[int]) -> None:
    harness = Harness(bench)
    harness.send(change(reason=reason, has_previous=False, previous_vector=array.array('f')))
    assert [event.state for event in harness.events.wait(1)] == states


def test_an_end_yields_only_an_ended_event(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(change(reason=SemanticChange.REASON_END), change(2))
    assert [e.state for e in harness.events.wait(3)] == [
        TextEvent.STATE_ENDED,
        TextEvent.STATE_ENDED,
        TextEvent.STATE_STARTED,
    ]


def test_each_change_costs_one_decode(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(*(change(n) for n in range(1, 21)))
    harness.events.wait(40)
    # One more: the segment before the first had no text here.
    status = bench.status(harness.node, lambda s: values_of(s).get('decodes') == '21')
    assert values_of(status)['events'] == '40'
    assert values_of(status)['model'] == fake_models.FACTS.model_id


def test_a_republished_opening_change_gives_one_event(bench: Bench) -> None:
    harness = Harness(bench)
    again = change(2, has_previous=False, previous_vector=array.array('f'))
    harness.send(again, again, change(3))
    texts = [(e.segment_id, e.state) for e in harness.events.wait(3)]
    assert texts == [
        (2, TextEvent.STATE_STARTED),
        (2, TextEvent.STATE_ENDED),
        (3, TextEvent.STATE_STARTED),
    ]
    assert harness.node.describe()['decodes'] == '2'


def test_events_are_latched_for_late_joining_subscribers(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(change())
    harness.events.wait(2)
    late = bench.collect(TextEvent, 'text_event', LATCHED)
    assert [event.text for event in late.wait(2)] == ['the scene is red', 'the scene is blue']


@pytest.mark.parametrize(
    ('bad', 'message', 'counter'),
    [
        (
            {'model_id': 'other-1-2'},
            "model 'other-1-2' cannot be decoded by model 'fake-",
            'refused',
        ),
        ({'reason': 99}, 'reason 99', 'refused'),
        ({'vector': array.array('f')}, 'empty or not finite', 'refused'),
    ],
)
def test_a_bad_change_is_refused_and_the_next_is_decoded(
    bench: Bench, bad: dict[str, Any], message: str, counter: str
) -> None:
    harness = Harness(bench)
    harness.send(change(1, **bad), change(2))
    assert [event.segment_id for event in harness.events.wait(2)] == [1, 2]
    assert harness.node.health.counts[counter] == 1
    assert message in values_of(bench.status(harness.node, lambda s: True))['last problem']


class FaultyLanguage(fake_models.FakeLanguage):
    """Text side that fails once."""

    def decode(self, vectors: Any) -> Any:
        if self.decoded == 0:
            self.decoded = 1
            raise RuntimeError('no memory')
        return super().decode(vectors)


def test_an_exception_in_the_decoder_is_reported_and_the_node_continues(bench: Bench) -> None:
    harness = Harness(bench, FaultyLanguage())
    harness.send(change(1), change(2))
    assert [event.segment_id for event in harness.events.wait(2)] == [1, 2]
    assert (
        bench.status(harness.node, lambda s: s.level == b'\x02').message
        == 'RuntimeError: no memory'
    )
    assert harness.node.health.counts['errors in the model thread'] == 1


class SlowLanguage(fake_models.FakeLanguage):
    """Text side that can be slowed down."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()

    def decode(self, vectors: Any) -> Any:
        self.entered.set()
        time.sleep(0.3)
        return super().decode(vectors)


def test_received_changes_are_decoded_before_deactivation_ends(bench: Bench) -> None:
    harness = Harness(bench, SlowLanguage())
    harness.send(change(1), change(2))
    eventually(lambda: harness.node.backlog == 2)
    bench.do(harness.node, harness.node.trigger_deactivate)
    assert len(harness.events.wait(4, 1.0)) == 4
    assert harness.node.phase == 'inactive'


def test_changes_beyond_the_maximum_backlog_are_dropped_and_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.model_requests'], 'MAX_BACKLOG', 1)
    language = SlowLanguage()
    harness = Harness(bench, language)
    harness.send(change(1))
    assert language.entered.wait(5)
    harness.send(change(2))
    eventually(lambda: harness.node.health.counts['dropped messages'] == 1)
    assert len(harness.events.wait(2)) == 2
    assert 'dropping' in values_of(bench.status(harness.node, lambda s: True))['last problem']


def test_shutdown_waits_for_the_last_changes(bench: Bench) -> None:
    harness = Harness(bench)
    waiting, sleep = threading.Event(), harness.node.sleep

    async def recorded_sleep(seconds: float) -> None:
        waiting.set()
        await sleep(seconds)

    harness.node.sleep = recorded_sleep
    down = harness.node.executor.create_task(harness.node.bring_down)
    assert waiting.wait(5)
    harness.send(change())  # the sender was interrupted at the same time
    harness.events.wait(2)
    assert not down.done()
    bench.do(bench.probe, bench.probe.destroy_publisher, harness.publisher)
    eventually(down.done, 30.0)
    assert harness.node.phase == 'unconfigured'


def test_shutdown_waits_for_the_last_changes_for_a_limited_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules['vljepa_ros.nodes.decoder'], 'LISTEN_ON_S', 0.2)
    harness = Harness(bench)
    bench.do(harness.node, harness.node.bring_down)
    assert harness.node.phase == 'unconfigured'


def test_a_topics_durability_can_be_overridden(bench: Bench) -> None:
    topic = f'{bench.namespace}/text_event'
    name = f'qos_overrides__{topic}__publisher__durability'
    bench.start(DecoderNode, **{name: 'volatile'})
    [info] = bench.probe.get_publishers_info_by_topic(topic)
    assert info.qos_profile.durability == DurabilityPolicy.VOLATILE
    # Nodes of one process share the profiles: an override changes none of them.
    assert qos.EVENTS.durability == DurabilityPolicy.TRANSIENT_LOCAL


def test_the_text_of_an_unfamiliar_segment_is_withheld(bench: Bench) -> None:
    harness = Harness(bench)
    harness.send(change(unfamiliar=0.5, previous_unfamiliar=0.25))
    ended, started = harness.events.wait(2)
    assert (ended.text, ended.abstained, ended.unfamiliar) == ('the scene is red', False, 0.25)
    assert (started.text, started.confidence, started.alternatives) == ('', 0.0, [])
    assert started.abstained and started.unfamiliar == 0.5
    assert started.abstain_reason == TextEvent.ABSTAIN_UNFAMILIAR
    assert harness.language.decoded == 1  # it is not decoded
