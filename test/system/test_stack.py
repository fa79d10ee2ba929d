# SPDX-License-Identifier: Apache-2.0
"""Two composed stacks in two namespaces of one domain, as two robots would run them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.node_harness import (
    LATCHED,
    MS,
    RELIABLE,
    START_NS,
    Bench,
    Collected,
    eventually,
    image_message,
    publish_until_processed,
    stamp,
    values_of,
)
from helpers.ros_processes import Process, RosProcesses
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vljepa_ros.msg import ModelInfo, SemanticEmbedding, TextEvent
from vljepa_ros.srv import Query

NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')


@dataclass
class Robot:
    """One stack, with a recording of its messages."""

    name: str
    bench: Bench
    process: Process

    def collect(self, kind: type, topic: str) -> Collected:
        latched = topic in ('text_event', 'model_info')
        return self.bench.collect(kind, f'/{self.name}/{topic}', LATCHED if latched else RELIABLE)

    def feed(self, colors: list[str], first: int = 0) -> None:
        """Publish images at the model's rate, each after the previous one was processed."""
        publisher = self.bench.publisher(Image, f'/{self.name}/camera/image_raw')
        processed = self.bench.collect(Header, f'/{self.name}/frame_processed')
        for n, color in enumerate(colors, first):
            message = image_message(color, START_NS + n * 100 * MS, self.name)
            publish_until_processed(publisher, processed, message)
        self.bench.probe.destroy_publisher(publisher)

    def ask(self, prompt: str, **fields: object) -> Query.Response:
        return self.bench.call(
            Query, f'/{self.name}/query', Query.Request(prompt=prompt, **fields)
        )


@pytest.fixture(scope='module')
def robots(processes: RosProcesses, tiny_folder: Path) -> Iterator[tuple[Robot, Robot]]:
    bench = Bench()
    begun = [
        (
            name,
            processes.start(
                'stack',
                f'/{name}',
                {
                    'model': str(tiny_folder),
                    'device': 'cpu',
                    'threads': 1,
                    'predict_timeout': 30.0,  # 64 at once, on a machine that may be busy
                    'camera.topic': f'/{name}/camera/image_raw',
                    'prompts': [f'What does {name} see?'],
                    'change_threshold': 0.001,
                    'confirm_hops': 1,
                    'min_segment': 0.0,
                },
            ),
        )
        for name in ('robot1', 'robot2')
    ]
    one, two = (Robot(name, bench, process) for name, process in begun)
    for robot in (one, two):
        for node in NODES:
            robot.process.wait_for_line(f'[{robot.name}.{node}]: active')
    yield one, two
    bench.close()


@pytest.fixture
def robot(robots: tuple[Robot, Robot]) -> Robot:
    return robots[0]


def test_autostart_activates_every_node(robot: Robot) -> None:
    for node in NODES:
        found = robot.bench.call(GetState, f'/{robot.name}/{node}/get_state', GetState.Request())
        assert found.current_state.label == 'active'


def test_a_missing_camera_is_logged_every_few_seconds(robot: Robot) -> None:
    def count() -> int:
        lines = [line for line in robot.process.lines if '/robot1/camera/image_raw' in line]
        return sum('no publisher' in line for line in lines)

    eventually(lambda: count() >= 2, 20.0)


def test_a_query_before_the_first_frame_returns_no_frame(robot: Robot) -> None:
    response = robot.ask('What?')
    assert not response.success and response.error_code == Query.Response.NO_FRAME


def test_frames_yield_embeddings_events_and_answers(robot: Robot) -> None:
    embeddings = robot.collect(SemanticEmbedding, 'semantic_embedding')
    events = robot.collect(TextEvent, 'text_event')
    [info] = robot.collect(ModelInfo, 'model_info').wait(1)
    assert info.model_id.startswith('tiny-')
    robot.feed(['red'] * 12 + ['blue'] * 12)
    hops = embeddings.wait(12)
    assert [m.header.stamp for m in hops] == [
        stamp(START_NS + (2 * n + 1) * 100 * MS) for n in range(12)
    ]
    assert {(m.source, m.prompt, m.model_id, m.header.frame_id) for m in hops} == {
        ('camera', 'What does robot1 see?', info.model_id, 'robot1')
    }
    started = events.wait(1)[0]
    assert (started.state, started.segment_id) == (TextEvent.STATE_STARTED, 0)
    assert started.start == stamp(START_NS + 100 * MS)
    assert started.model_id == info.model_id
    assert len(started.session_id) == 32
    response = robot.ask('What?', candidates=['red', 'blue'])
    assert response.success
    assert response.stamp == stamp(START_NS + 2300 * MS)
    assert sum(c.score for c in response.ranked) == pytest.approx(1.0, abs=1e-5)


def test_64_queries_at_once_are_all_answered(robot: Robot) -> None:
    client = robot.bench.probe.create_client(
        Query, '/robot1/query', qos_profile=QoSProfile(depth=256)
    )
    assert client.wait_for_service(5)
    futures = [client.call_async(Query.Request(prompt=f'Question {n}?')) for n in range(64)]
    eventually(lambda: all(f.done() for f in futures), 60.0)
    assert [f.result().message for f in futures] == [''] * 64
    assert all(f.result().success for f in futures)


def test_two_robots_in_one_domain_are_independent(robots: tuple[Robot, Robot]) -> None:
    one, two = robots
    embeddings = [robot.collect(SemanticEmbedding, 'semantic_embedding') for robot in robots]
    before = len(embeddings[0])
    two.feed(['green'] * 6)
    assert {m.header.frame_id for m in embeddings[1].wait(3)} == {'robot2'}
    assert {m.prompt for m in embeddings[1]} == {'What does robot2 see?'}
    assert two.ask('What?').stamp == stamp(START_NS + 500 * MS)
    assert one.ask('What?').stamp == stamp(START_NS + 2300 * MS)
    assert len(embeddings[0]) == before


def test_each_node_publishes_diagnostics_under_its_full_name(robots: tuple[Robot, Robot]) -> None:
    bench = robots[0].bench
    wanted = {f'/{robot.name}/{node}' for robot in robots for node in NODES}
    eventually(lambda: wanted <= {s.name for s in bench.diagnostics})
    newest = {s.name: values_of(s) for s in bench.diagnostics}
    assert newest['/robot1/perception_node']['device'] == 'cpu'
    assert newest['/robot1/perception_node']['camera: frames received'] == '24'
    assert newest['/robot1/query_node']['model'].startswith('tiny-')


def test_a_lifecycle_manager_can_reconfigure_a_node(robot: Robot) -> None:
    def change(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        name = '/robot1/perception_node/change_state'
        assert robot.bench.call(ChangeState, name, request, 30.0).success

    infos = robot.collect(ModelInfo, 'model_info')
    infos.wait(1)
    change(Transition.TRANSITION_DEACTIVATE)
    response = robot.ask('What?')
    assert response.error_code == Query.Response.INACTIVE
    assert 'perception_node' in response.message
    change(Transition.TRANSITION_CLEANUP)
    request = SetParameters.Request(parameters=[Parameter('rate', value=5.0).to_parameter_msg()])
    found = robot.bench.call(SetParameters, '/robot1/perception_node/set_parameters', request)
    assert found.results[0].successful
    change(Transition.TRANSITION_CONFIGURE)
    change(Transition.TRANSITION_ACTIVATE)
    assert infos.wait(2)[-1].rate == 5.0
    embeddings = robot.collect(SemanticEmbedding, 'semantic_embedding')
    robot.feed(['red'] * 8, first=100)
    hops = embeddings.wait(2)
    assert hops[1].header.stamp == stamp(START_NS + (100 + 6) * 100 * MS)  # every second frame


def test_ctrl_c_ends_the_streams_and_the_process(robots: tuple[Robot, Robot]) -> None:
    two = robots[1]
    events = two.collect(TextEvent, 'text_event')
    events.wait(1)
    segments = two.process.own_segments()
    assert two.process.interrupt() == 0
    assert not [path for path in segments if path.exists()]  # /dev/shm is unchanged
    eventually(lambda: events[-1].state == TextEvent.STATE_ENDED)
    assert events[-1].end == stamp(START_NS + 500 * MS)
    assert not [line for line in two.process.lines if 'Traceback' in line]
