# SPDX-License-Identifier: Apache-2.0
"""Nodes, planner client, `Pipeline.ask` and `vljepa ask` give one question the same answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builtin_interfaces.msg import Duration
from helpers import fake_models
from helpers.node_harness import LATCHED, MS, START_NS, Bench, fake_pool, image_message, stamp
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vljepa_ros.srv import Query

from vljepa_ros.cli.recorded_answer import answer_of
from vljepa_ros.cli.time_spans import Span
from vljepa_ros.client.planner_client import Client
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import AbstainReason, Answer, Basis, Frame
from vljepa_ros.nodes import conversions
from vljepa_ros.nodes.perception import PerceptionNode
from vljepa_ros.nodes.query import QueryNode
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import Source

RED, GREEN = 20, 20  # frames at 10/s; green is unfamiliar
SECOND = 1000 * MS
END_NS = START_NS + (RED + GREEN - 1) * 100 * MS
COLORS = ['red'] * RED + ['green'] * GREEN
NO_RED = ['no red', 'yes']


class ColorSource(Source):
    """Recording of colors."""

    def __init__(self) -> None:
        super().__init__(Path('film'))
        self.start_ns = START_NS

    def items(self) -> Iterator[Frame]:
        for number, color in enumerate(COLORS):
            yield Frame(START_NS + number * 100 * MS, fake_models.solid_image(color))


def model() -> Model:
    vision = fake_models.FakeVision(unfamiliar_colors={'green': 0.75})
    return dataclasses.replace(fake_models.fake_model(), vision=vision)


def message_of(answer: Answer) -> Query.Response:
    """Return every field of an answer as in the message (float32)."""
    response = Query.Response(success=True)
    conversions.fill_answer(response, answer)
    return deserialize_message(serialize_message(response), Query.Response)


@pytest.fixture
def ask_nodes(bench: Bench) -> Any:
    bench.start(PerceptionNode, fake_pool(model))
    bench.start(QueryNode, fake_pool(model))
    images = bench.publisher(Image, 'image')
    processed = bench.collect(Header, 'frame_processed', LATCHED)
    for number, color in enumerate(COLORS):
        images.publish(image_message(color, START_NS + number * 100 * MS))
        processed.wait(number + 1)

    def ask(**fields: Any) -> Query.Response:
        response = bench.call(Query, 'query', Query.Request(**fields))
        response.latency = Duration()
        return response

    return ask


# Prompt, candidates, span, and what the answer must be: text, reason, basis.
NONE, NOT_SEEN, UNFAMILIAR = AbstainReason.NONE, AbstainReason.NOT_SEEN, AbstainReason.UNFAMILIAR
RED_ONLY = (START_NS, START_NS + 1900 * MS)
QUESTIONS = [
    # 2 s of a span of 10 s were seen: too little for a no, because 8 s were not seen.
    ('Is it?', NO_RED, (START_NS - 8 * SECOND, RED_ONLY[1]), ('no red', NOT_SEEN, Basis.FRAMES)),
    ('Is it?', NO_RED, RED_ONLY, ('no red', NONE, Basis.FRAMES)),
    ('What?', [], RED_ONLY, ('the scene is red', NONE, Basis.FRAMES)),
    ('What?', [], (START_NS + 300 * MS, START_NS + 1500 * MS), (None, NONE, Basis.FRAMES)),
    ('What?', [], (START_NS - 8 * SECOND, END_NS), ('the scene is red', NONE, Basis.FRAMES)),
    ('Which?', ['red', 'blue'], (START_NS, END_NS), ('red', NONE, Basis.FRAMES)),
    ('What?', [], (START_NS + 2500 * MS, END_NS), ('', UNFAMILIAR, Basis.FRAMES)),
    ('What?', [], None, ('', UNFAMILIAR, Basis.NOW)),
    ('Is it?', NO_RED, None, ('', UNFAMILIAR, Basis.NOW)),
    (fake_models.UNREADABLE, [], RED_ONLY, ('', AbstainReason.UNREADABLE, Basis.FRAMES)),
]


def test_nodes_client_pipeline_and_cli_give_the_same_answer(bench: Bench, ask_nodes: Any) -> None:
    client = Client(bench.namespace, context=bench.probe.context)
    pipeline = Pipeline(model())
    for frame in ColorSource():
        pipeline.push(frame)
    for prompt, candidates, span, (text, reason, basis) in QUESTIONS:
        start_ns, end_ns = span or (0, 0)
        offline = pipeline.ask(prompt, candidates, '', start_ns, end_ns)
        assert text is None or offline.answer == text, prompt
        assert (offline.abstain_reason, offline.basis) == (reason, basis), prompt
        at = Span(*span) if span else Span(None, END_NS, moment=True)
        recorded = answer_of(model(), ColorSource(), prompt, candidates, at)
        live = ask_nodes(
            prompt=prompt, candidates=candidates, start=stamp(start_ns), end=stamp(end_ns)
        )
        assert live == message_of(offline) == message_of(recorded), prompt
        planned = client.query(prompt, candidates, start_s=start_ns / 1e9, end_s=end_ns / 1e9)
        assert message_of(planned) == live, prompt
    client.close()


def test_the_pipeline_answers_from_memory_if_no_frames_are_stored() -> None:
    pipeline = Pipeline(model())
    for frame in ColorSource():
        pipeline.push(frame)
    pipeline.perceiver.frame_store = None
    answer = pipeline.ask('What is happening?', [], '', *RED_ONLY)
    assert (answer.answer, answer.basis) == ('the scene is red', Basis.MEMORY)
    other = pipeline.ask('Is it hot?', ['yes', 'no'], '', *RED_ONLY)
    assert other.abstain_reason is NOT_SEEN and other.basis is Basis.MEMORY
