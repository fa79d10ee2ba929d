# SPDX-License-Identifier: Apache-2.0
"""Planner client with the real query node and a scripted `predict`."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np
import pytest
import rclpy
from helpers import fake_models
from helpers.node_harness import LATCHED, MS, START_NS, Bench, eventually
from helpers.query_harness import NOW, QueryHarness, hop, predict_color, predict_error
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger
from vljepa_ros.action import Watch
from vljepa_ros.msg import ModelInfo, SemanticEmbedding
from vljepa_ros.srv import Query

from vljepa_ros.client.planner_client import Client
from vljepa_ros.core.errors import BusyError, InputError, NoFrameError
from vljepa_ros.core.types import Basis, Moment


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    with Client(bench.namespace, timeout_s=30.0, context=bench.probe.context) as found:
        yield found


def test_an_answer_has_all_fields_of_the_response(bench: Bench, client: Client) -> None:
    QueryHarness(bench, predict_color('red'))
    answer = client.query('What?', ['blue', 'red'])
    assert (answer.answer, answer.abstained, answer.basis) == ('red', False, Basis.NOW)
    assert answer.ranked[0].text == 'red' and len(answer.ranked) == 2
    assert answer.confidence == answer.ranked[0].score
    assert answer.stamp_ns == NOW and answer.model_id == fake_models.FACTS.model_id
    assert answer.vector is not None and np.allclose(
        answer.vector, fake_models.color_vector('red')
    )
    assert answer.evidence == (Moment('camera', NOW - 700 * MS, NOW, 1.0),)
    assert client.query('What?').answer == 'the scene is red'


def test_spans_are_in_seconds_of_ros_time(bench: Bench, client: Client) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    answer = client.query('What?', start_s=1000.5, end_s=1002.25)
    assert answer.basis is Basis.FRAMES
    [asked] = harness.predict_requests
    assert (asked.start.sec, asked.start.nanosec) == (1000, 500_000_000)
    assert (asked.end.sec, asked.end.nanosec) == (1002, 250_000_000)


def test_search_finds_moments(bench: Bench, client: Client) -> None:
    QueryHarness(bench).fill_memory()
    found = client.search('something red', limit=1)
    assert found == [Moment('camera', START_NS, START_NS + 1800 * MS, 1.0, 'it was red')]


def test_a_bad_question_is_an_input_error(bench: Bench, client: Client) -> None:
    QueryHarness(bench, predict_error(InputError('prompt of 200 tokens is too long')))
    with pytest.raises(InputError, match='200 tokens'):
        client.query('What?')
    with pytest.raises(InputError, match=r'60\.000 s'):
        client.query('What?', start_s=80, end_s=20)
    with pytest.raises(InputError, match=r'text.*empty'):
        client.search('  ')
    with pytest.raises(InputError, match=r'60\.000 s'):
        client.search('red', start_s=80, end_s=20)
    with pytest.raises(InputError, match='1000'):
        client.search('red', 1001)


def test_a_question_before_the_first_frame_is_a_transient_error(
    bench: Bench, client: Client
) -> None:
    QueryHarness(bench, predict_error(NoFrameError('no frame yet')))
    with pytest.raises(NoFrameError):
        client.query('What?')


@pytest.mark.parametrize(
    ('fields', 'tokens'),
    [
        ({'prompt': 5}, ['prompt', 'int']),
        ({'prompt': '\ud800'}, ['surrogate']),
        ({'candidates': [1, 2]}, ['candidate', 'int']),
        ({'candidates': 'yes'}, ['candidates', 'list']),
        ({'source': None}, ['source', 'NoneType']),
        ({'start_s': 1_790_000_000_000.0}, ['start', '1.79e+12', '2147483647']),
        ({'end_s': float('inf')}, ['end', 'inf']),
        ({'end_s': 'now'}, ['end', "'now'"]),
    ],
)
def test_values_that_no_message_can_hold_are_rejected_by_the_client(
    bench: Bench, client: Client, fields: dict[str, Any], tokens: list[str]
) -> None:
    pattern = '.*'.join(map(re.escape, tokens))
    with pytest.raises(InputError, match=pattern):
        client.query(**{'prompt': 'What?'} | fields)
    given = {'text': 'red'} | {k: v for k, v in fields.items() if k.endswith('_s')}
    if len(given) > 1:
        with pytest.raises(InputError, match=pattern):
            client.search(**given)


@pytest.mark.parametrize('limit', [0, -1, 1.5, '5', 2**32])
def test_an_invalid_limit_is_rejected_by_the_client(client: Client, limit: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f'limit ({limit!r})')):
        client.search('red', limit)


def test_transient_errors_become_busy_after_the_timeout(bench: Bench) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    bench.do(harness.node, harness.node.trigger_deactivate)
    with Client(bench.namespace, 0.5, bench.probe.context) as client:
        with pytest.raises(BusyError, match=r'query_node.*inactive'):
            client.query('What?')
        with pytest.raises(BusyError):
            client.watch('it is red').result(30)


def test_a_pending_question_is_answered_after_the_node_is_activated(
    bench: Bench, client: Client
) -> None:
    harness = QueryHarness(bench, predict_color('red'))
    bench.do(harness.node, harness.node.trigger_deactivate)
    later = client.query_later('What?')
    eventually(lambda: harness.node.health.counts['requests refused'])
    bench.do(harness.node, harness.node.trigger_activate)
    assert later.result(30).answer == 'the scene is red'


def test_a_question_without_a_response_times_out(bench: Bench) -> None:
    released = threading.Event()

    def never(request: Query.Request, response: Query.Response) -> Query.Response:
        released.wait(10)
        return response

    bench.probe.create_service(Query, 'query', never)
    with Client(bench.namespace, 0.4, bench.probe.context) as client:
        later = client.query_later('What?')
        with pytest.raises(BusyError, match=r'query.* 0\.4 s'):
            later.result(30)
    released.set()


def test_a_request_to_a_dead_server_is_repeated_to_its_replacement(
    bench: Bench, client: Client
) -> None:
    taken: list[str] = []

    async def never(request: Query.Request, response: Query.Response) -> None:
        taken.append(request.prompt)
        await Future()

    dead = Node('query_node', namespace=bench.namespace, context=bench.probe.context)
    dead.create_service(Query, 'query', never)
    executor = SingleThreadedExecutor(context=bench.probe.context)
    executor.add_node(dead)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        later = client.query_later('What?')
        eventually(lambda: taken)
        harness = QueryHarness(bench, predict_color('red'))
        assert later.result(30).answer == 'the scene is red'
        assert len(harness.predict_requests) == 1  # sent once to each server
    finally:
        executor.shutdown()
        thread.join()
        dead.destroy_node()


def test_a_missing_stack_is_reported_within_the_timeout(bench: Bench) -> None:
    with Client('/nowhere', timeout_s=0.3, context=bench.probe.context) as client:
        began_s = time.monotonic()
        with pytest.raises(BusyError, match=r'/nowhere/query.* 0\.3 s'):
            client.query('What?')
        with pytest.raises(BusyError, match='/nowhere/watch'):
            client.watch('it is red').result()
        assert time.monotonic() - began_s < 3


def test_a_question_waits_for_a_stack_that_starts_later(bench: Bench, client: Client) -> None:
    later = client.query_later('What?')
    with (
        Client(bench.namespace, 0.2, bench.probe.context) as impatient,
        pytest.raises(BusyError),
    ):
        impatient.query('What?')
    assert not later.done()
    QueryHarness(bench, predict_color('red'))
    assert later.result(30).answer == 'the scene is red'


def test_a_burst_of_64_questions_gets_64_answers(bench: Bench, client: Client) -> None:
    QueryHarness(bench, predict_color('red'))
    asked = [client.query_later('What?') for _ in range(64)]
    assert [later.result(60).answer for later in asked] == ['the scene is red'] * 64


def test_futures_can_be_awaited(bench: Bench, client: Client) -> None:
    QueryHarness(bench, predict_color('red'))

    async def both() -> list[str]:
        asked = [client.query_later('What?', candidates=c) for c in (['red', 'blue'], [])]
        return [a.answer for a in await asyncio.gather(*map(asyncio.wrap_future, asked))]

    assert asyncio.run(both()) == ['red', 'the scene is red']


def test_a_question_in_a_callback_of_another_node_does_not_deadlock(
    bench: Bench, client: Client
) -> None:
    QueryHarness(bench, predict_color('red'))

    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, client.query('What?').answer
        return response

    planner = Node('planner', namespace=bench.namespace)  # the probe serves `predict`
    planner.create_service(Trigger, 'planner', answer)
    bench.spin(planner)
    response = bench.call(Trigger, 'planner', Trigger.Request())
    assert response.message == 'the scene is red'


# Watching.


def test_a_watch_fires_with_its_moment(bench: Bench, client: Client) -> None:
    QueryHarness(bench)
    hops = bench.publisher(SemanticEmbedding, 'semantic_embedding')
    watching = client.watch('it is blue')
    eventually(lambda: watching.goal is not None)
    hops.publish(hop('red', 0))
    with pytest.raises(FutureTimeoutError):
        watching.result(0.2)
    assert not watching.done()
    for n in (1, 2, 3):
        hops.publish(hop('blue', n))
    moment = watching.result(30)
    assert moment is not None and moment.text == 'it is blue'
    assert watching.score == 1.0


def test_a_canceled_or_timed_out_watch_has_no_moment(bench: Bench, client: Client) -> None:
    QueryHarness(bench)
    cancelled, over = client.watch('it is blue'), client.watch('it is red', timeout_s=0.2)
    cancelled.cancel()
    assert cancelled.result(30) is None and over.result(30) is None
    assert cancelled.is_cancelled and not over.is_cancelled


def test_a_rejected_watch_raises_its_error(bench: Bench, client: Client) -> None:
    QueryHarness(bench)
    for fields in ({'condition': ' '}, {'threshold': 2.0}, {'timeout_s': -1.0}, {'condition': 3}):
        with pytest.raises(InputError):
            client.watch(**{'condition': 'it is red'} | fields).result(30)


def test_a_watch_of_an_unknown_camera_is_bad_input(bench: Bench, client: Client) -> None:
    """The error is permanent, so that a planner does not repeat the request."""
    QueryHarness(bench)
    bench.publisher(ModelInfo, 'model_info', LATCHED).publish(ModelInfo(sources=['front']))
    with pytest.raises(InputError, match=r"'raer'.*front"):
        client.watch('it is red', source='raer').result(30)


def test_waiting_in_a_callback_of_the_client_raises(bench: Bench, client: Client) -> None:
    """Waiting there would be a deadlock."""
    errors: list[Exception | None] = []
    for wait in (lambda: client.query('What?'), lambda: client.search('red'), client.close):
        later = client.query_later('What?')
        later.add_done_callback(lambda _, wait=wait: errors.append(exception_of(wait)))  # type: ignore[misc]
    QueryHarness(bench, predict_color('red'))
    eventually(lambda: len(errors) == 3, 10.0)
    assert all(isinstance(e, RuntimeError) and 'callback' in str(e) for e in errors)
    assert client.query('What?').answer == 'the scene is red'


def exception_of(call: Callable[[], Any]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def test_a_watch_whose_node_stops_raises_an_error(bench: Bench, client: Client) -> None:
    harness = QueryHarness(bench)
    watching = client.watch('it is blue')
    eventually(lambda: harness.watch_count == 1)
    bench.do(harness.node, harness.node.trigger_deactivate)
    with pytest.raises(BusyError, match=r'query_node.*deactivated'):
        watching.result(30)


class SilentServer:
    """Action server that accepts every goal and never responds, until `end`."""

    def __init__(self, bench: Bench) -> None:
        self.node = Node('query_node', namespace=bench.namespace, context=bench.probe.context)
        self.server = ActionServer(self.node, Watch, 'watch', self._never)
        self.executor = SingleThreadedExecutor(context=bench.probe.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin)
        self.thread.start()

    async def _never(self, _: object) -> None:
        await Future()

    def end(self) -> None:
        self.executor.shutdown()
        self.thread.join()
        self.server.destroy()
        self.node.destroy_node()


@pytest.mark.parametrize('is_replaced', [False, True])
def test_a_watch_whose_node_died_raises_an_error(
    bench: Bench, client: Client, is_replaced: bool
) -> None:
    first = SilentServer(bench)
    watching = client.watch('red')
    eventually(lambda: watching.servers)
    second = SilentServer(bench) if is_replaced else None
    first.end()
    try:
        with pytest.raises(BusyError, match='watch'):
            watching.result(5.0)
    finally:
        if second:
            second.end()


def test_a_watch_is_canceled_if_its_future_is_canceled(bench: Bench, client: Client) -> None:
    harness = QueryHarness(bench)

    async def impatient() -> None:
        watching = client.watch('it is blue')
        await asyncio.wait_for(asyncio.wrap_future(watching.future), 0.3)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(impatient())
    eventually(lambda: harness.watch_count == 0)


def test_calls_of_a_closed_client_fail_immediately(bench: Bench) -> None:
    QueryHarness(bench, predict_color('red'))
    client = Client(bench.namespace, context=bench.probe.context)
    client.close()
    began_s = time.monotonic()
    for future in (client.query_later('What?'), client.search_later('red')):
        with pytest.raises(BusyError, match='closed'):
            future.result(1)
    with pytest.raises(BusyError, match='closed'):
        client.watch('it is red').result(1)
    assert time.monotonic() - began_s < 0.5


def test_waiting_calls_end_when_ros_is_shut_down(bench: Bench) -> None:
    """Requests to a node that never responds end when the client's context is shut down."""
    context = Context()
    rclpy.init(context=context)
    client = Client('missing', context=context)
    waiting = client.query_later('What?')
    watching = client.watch('it is red')
    with Client('missing', 0.2, context) as impatient, pytest.raises(BusyError):
        impatient.query('What?')
    assert not waiting.done() and not watching.done()
    rclpy.shutdown(context=context)
    with pytest.raises(BusyError, match='closed'):
        waiting.result(3)
    with pytest.raises(BusyError, match='closed'):
        watching.result(3)


def test_closing_cancels_active_watches(bench: Bench) -> None:
    harness = QueryHarness(bench)
    with Client(bench.namespace, context=bench.probe.context) as client:
        watching = client.watch('it is blue')
        eventually(lambda: harness.watch_count == 1)
    assert watching.result(1) is None
    eventually(lambda: harness.watch_count == 0)
