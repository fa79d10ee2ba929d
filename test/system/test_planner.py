# SPDX-License-Identifier: Apache-2.0
"""Planner requests with the shipped model on the sample bag, over real services and actions.

Expectations come from the ground truth: when the light goes off, and absent objects.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from helpers.node_harness import RELIABLE, Bench, eventually
from helpers.ros_processes import NODES, ROOT, Process, RosProcesses, play
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from vljepa_ros.msg import SemanticEmbedding

from vljepa_ros.client.planner_client import Client, Watching
from vljepa_ros.core.errors import BusyError
from vljepa_ros.core.types import Answer, Basis
from vljepa_ros.nodes.conversions import to_ns

SAMPLE = ROOT / 'samples' / 'bench'
GROUND_TRUTH = json.loads((SAMPLE / 'ground_truth.json').read_text())
START_S = GROUND_TRUTH['start_ns'] / 1e9
YES_NO = ['yes', 'no']
PROMPTS = ['What is happening?', 'Is the light on?']


def span(phase: str) -> tuple[float, float]:
    """Return the first annotation of a phase, in seconds of ROS time."""
    found = next(item for item in GROUND_TRUTH['annotations'] if item['phase'] == phase)
    return START_S + found['start'], START_S + found['end']


class Robot:
    """Stack with a memory on disk, and a planner with Watch goals."""

    def __init__(self, processes: RosProcesses, domain: int, folder: Path) -> None:
        self._processes, self._domain = processes, domain
        self._values: dict[str, Any] = {
            'device': 'cpu',
            'threads': 1,
            'model': 'small',
            'memory_path': str(folder / 'memory.sqlite'),
        }
        camera = {'camera.topic': '/camera/image_raw', 'camera.transport': 'compressed'}
        self.nodes = {name: self.start(name, camera) for name in NODES}
        for node in self.nodes.values():
            node.wait_for_line('active')
        self.client = Client('/planner', timeout_s=30.0, context=rclpy.get_default_context())
        self.bench = Bench()
        self.embeddings = self.bench.collect(
            SemanticEmbedding, '/planner/semantic_embedding', RELIABLE
        )
        self.watched: dict[str, Watching] = {}

    def start(self, name: str, more: dict[str, Any]) -> Process:
        """Start one of the nodes."""
        values = self._values | (more if name == 'perception_node' else {})
        return self._processes.start(name, '/planner', values)

    def set_prompts(self, prompts: list[str]) -> None:
        """Set prompts while perception_node is active."""
        name = '/planner/perception_node/set_parameters'
        parameter = Parameter('prompts', value=prompts).to_parameter_msg()
        found = self.bench.call(SetParameters, name, SetParameters.Request(parameters=[parameter]))
        assert found.results[0].successful, found.results[0].reason

    def watch(self) -> None:
        """Watch for conditions that become true or end in the sample, and one that never holds."""
        for text in ('the light is off', 'the yellow globe is gone'):
            self.watched[text] = self.client.watch(text)
        self.watched['until not'] = self.client.watch('the arm is at rest', until_not=True)
        self.watched['over'] = self.client.watch('the yellow globe is gone', timeout_s=1.0)
        eventually(lambda: all(w.goal and w.goal.accepted for w in self.watched.values()))

    def play_sample(self) -> None:
        """Play the whole sample."""
        found = play(self._domain, SAMPLE, '--lossless', '--namespace', 'planner')
        assert found.returncode == 0, found.stderr


@pytest.fixture(scope='module')
def robot(
    ros: int, processes: RosProcesses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    made = Robot(processes, ros, tmp_path_factory.mktemp('planner'))
    made.set_prompts(PROMPTS)
    made.watch()
    made.play_sample()
    yield made
    made.client.close()
    made.bench.close()


def test_a_watch_fires_only_when_the_light_goes_off(robot: Robot) -> None:
    dark_s, _ = span('dark')
    moment = robot.watched['the light is off'].result(10)
    assert moment is not None
    assert dark_s - 0.5 <= moment.end_ns / 1e9 <= dark_s + 2.0
    assert not robot.watched['the yellow globe is gone'].done()
    robot.watched['the yellow globe is gone'].cancel()


def test_a_watch_ends_by_condition_timeout_or_cancellation(robot: Robot) -> None:
    _, begun_s = span('rest')
    moment = robot.watched['until not'].result(10)
    assert moment is not None
    assert begun_s <= moment.end_ns / 1e9 <= begun_s + 2.0
    assert robot.watched['over'].result(10) is None and not robot.watched['over'].is_cancelled
    late = robot.client.watch('the yellow globe is gone')
    late.cancel()
    assert late.result(10) is None


def test_questions_about_now_use_the_newest_image(robot: Robot) -> None:
    newest_ns = max(to_ns(message.header.stamp) for message in robot.embeddings)
    answer = robot.client.query('Is the light on?', YES_NO)
    assert (answer.answer, answer.basis, answer.stamp_ns) == ('yes', Basis.NOW, newest_ns)
    description = robot.client.query('What is the robot doing?')
    assert description.answer and description.stamp_ns == newest_ns


def test_each_standing_prompt_is_a_separate_stream(robot: Robot) -> None:
    stamps = {
        prompt: [to_ns(m.header.stamp) for m in robot.embeddings if m.prompt == prompt]
        for prompt in PROMPTS
    }
    assert len(stamps[PROMPTS[0]]) > 500 and stamps[PROMPTS[0]] == stamps[PROMPTS[1]]
    assert {m.prompt for m in robot.embeddings} == set(PROMPTS)
    both = robot.client.search('it is dark', limit=10)
    starts = [(m.source, m.start_ns, m.end_ns) for m in both]
    assert len(set(starts)) == len(starts) == 10


def ask_about(robot: Robot, start_s: float, end_s: float) -> Answer:
    """Ask about a span; a busy machine may not evaluate its frames within the node's limit."""
    for _ in range(4):
        with contextlib.suppress(BusyError):
            return robot.client.query('Is the light off?', YES_NO, start_s=start_s, end_s=end_s)
    raise AssertionError('busy in four attempts')


def test_past_spans_are_evaluated_from_stored_frames(robot: Robot) -> None:
    dark_s, light_s = span('dark')
    in_it = ask_about(robot, dark_s + 1.0, light_s - 0.5)
    assert (in_it.answer, in_it.basis) == ('yes', Basis.FRAMES) and not in_it.abstained
    before = ask_about(robot, START_S, START_S + 8)
    assert (before.answer, before.basis) == ('no', Basis.FRAMES)
    assert all(START_S <= m.start_ns / 1e9 <= START_S + 8 for m in before.evidence)


def test_a_question_about_an_unseen_span_is_an_abstention(robot: Robot) -> None:
    dark_s, light_s = span('dark')
    answer = robot.client.query(
        'Is the drawer open?', YES_NO, start_s=dark_s + 1.5, end_s=light_s - 0.5
    )
    assert answer.abstained


def test_search_finds_the_darkness(robot: Robot) -> None:
    dark_s, light_s = span('dark')
    first = robot.client.search('it is dark', limit=3)[0]
    middle_s = (first.start_ns + first.end_ns) / 2e9
    assert dark_s - 1.0 <= middle_s <= light_s + 1.0


def test_stored_data_survives_a_killed_node(robot: Robot) -> None:
    dark_s, light_s = span('dark')
    before = robot.client.search('it is dark', limit=1)[0]
    robot.nodes['query_node'].kill()
    robot.nodes['query_node'] = robot.start('query_node', {})
    robot.nodes['query_node'].wait_for_line('active')
    after = robot.client.search('it is dark', limit=1)[0]
    assert (after.start_ns, after.end_ns, after.text) == (
        before.start_ns,
        before.end_ns,
        before.text,
    )
    answer = robot.client.query('', start_s=dark_s + 1.0, end_s=light_s - 0.5)
    assert answer.answer and answer.basis in (Basis.FRAMES, Basis.MEMORY)
