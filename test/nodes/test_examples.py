# SPDX-License-Identifier: Apache-2.0
"""Examples for planners with the real query node."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.node_harness import Bench, eventually
from helpers.query_harness import NOW, QueryHarness, hop, predict_color
from helpers.scripts import load_script
from vljepa_ros.msg import SemanticEmbedding

from vljepa_ros.client.planner_client import Client


@pytest.fixture
def robot(bench: Bench) -> Iterator[Client]:
    with Client(bench.namespace, 5.0, bench.probe.context) as client:
        yield client


def example(name: str) -> Any:
    return load_script(f'examples/{name}.py')


def test_the_script_asks_about_now_and_the_past_and_watches(bench: Bench, robot: Client) -> None:
    QueryHarness(bench, predict_color('red')).fill_memory()
    lines = example('ask').main(robot, 'it is green', 0.2)
    assert len(lines) == 3 and 'light' in lines[0]
    assert 'it is green' in lines[2] and 'not' in lines[2]


# Behaviors.


def ticked(behavior: Any, until: Any) -> Any:
    """Tick a behavior until it has finished."""

    def tick() -> Any:
        behavior.tick_once()
        return behavior.status is not until or None

    eventually(tick, 10.0)
    return behavior.status


def test_a_behaviour_succeeds_on_a_confident_yes_only(bench: Bench, robot: Client) -> None:
    trees = pytest.importorskip('py_trees')
    running = trees.common.Status.RUNNING
    Holds = example('behaviour').Holds  # noqa: N806
    QueryHarness(bench, predict_color('red'))
    behavior = Holds(Scripted('yes', 0.9), 'Is it red?', confidence=0.0)
    assert ticked(behavior, running) is trees.common.Status.SUCCESS
    for answer, confidence in (('no', 0.9), ('yes', 0.3)):
        other = Holds(Scripted(answer, confidence), 'Is it red?')
        assert ticked(other, running) is trees.common.Status.FAILURE
    real = Holds(robot, ' ' * 5000)
    assert ticked(real, running) is trees.common.Status.FAILURE
    assert 'too long' in real.feedback_message


class Scripted:
    """Client with one fixed answer."""

    def __init__(self, answer: str, confidence: float) -> None:
        from concurrent.futures import Future

        from vljepa_ros.core.types import Answer

        self._later: Future[Any] = Future()
        self._later.set_result(Answer(answer, confidence, False, 0, 'm'))

    def query_later(self, *_: object) -> Any:
        return self._later


def test_a_behavior_waits_for_a_condition_without_blocking(bench: Bench, robot: Client) -> None:
    trees = pytest.importorskip('py_trees')
    running = trees.common.Status.RUNNING
    harness = QueryHarness(bench)
    hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    behavior = example('behaviour').Happens(robot, 'it is blue')
    began_s = time.monotonic()
    behavior.tick_once()
    assert behavior.status is running and time.monotonic() - began_s < 0.5
    eventually(lambda: harness.watch_count == 1)
    for n in range(3):
        hops.publish(hop('blue', n))
    assert ticked(behavior, running) is trees.common.Status.SUCCESS
    left = example('behaviour').Happens(robot, 'it is green')
    left.tick_once()
    eventually(lambda: harness.watch_count == 1)
    left.stop(trees.common.Status.INVALID)
    eventually(lambda: harness.watch_count == 0)


# Tools.


def test_tools_are_json_schemas_of_the_client_methods(bench: Bench, robot: Client) -> None:
    tools = example('llm_tools')
    json.dumps(tools.TOOLS)
    QueryHarness(bench, predict_color('red')).fill_memory()
    given = {
        'query': {'prompt': 'What?', 'candidates': ['red', 'blue'], 'start': 1.0, 'end': 2.0},
        'search': {'text': 'it is red', 'limit': 1},
        'watch': {'condition': 'it is red', 'timeout': 0.2, 'until_not': True, 'source': 'camera'},
    }
    for tool in tools.TOOLS:
        function = tool['function']
        schema, arguments = function['parameters'], given[function['name']]
        assert schema['required'][0] in schema['properties']
        assert set(arguments) <= set(schema['properties'])
        found = json.loads(tools.call(robot, function['name'], json.dumps(arguments)))
        assert 'error' not in found, found
    answer = json.loads(tools.call(robot, 'query', '{"prompt": "What?"}'))
    assert answer['answer'] == 'the scene is red' and answer['basis'] == 'NOW'
    assert answer['time'] == NOW / 1e9  # from which a model can count back
    moment = json.loads(tools.call(robot, 'search', '{"text": "red", "limit": 1}'))['moments'][0]
    assert moment['text'] == 'it was red' and moment['score'] == 1.0


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('dance', '{}', "unknown tool 'dance'"),
        ('query', '{', 'Expecting'),
        ('query', '{}', 'prompt'),
        ('query', '{"prompt": "What?", "colour": 1}', 'colour'),
        ('search', '{"text": " "}', 'text is empty'),
    ],
)
def test_errors_of_a_tool_call_are_returned_to_the_model(
    bench: Bench, robot: Client, name: str, arguments: str, message: str
) -> None:
    QueryHarness(bench, predict_color('red'))
    assert message in json.loads(example('llm_tools').call(robot, name, arguments))['error']
