# SPDX-License-Identifier: Apache-2.0
"""Python client for planners: `query`, `search` and `watch` without ROS code.

    with Client() as robot:
        robot.query('Is the drawer open?', ['yes', 'no']).answer
        robot.watch('the arm is at rest', timeout_s=30).result()

`query` and `search` block. `query_later` and `search_later` return a `concurrent.futures.Future`,
as does the attribute `future` of a watch; a behavior tree can poll it, and asyncio code can await
it with `asyncio.wrap_future`. The client has its own node and thread, so it can be used in any
callback of any executor. Times are seconds of ROS time. Errors are exceptions of
`vljepa_ros.core.errors`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import rclpy
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from vljepa_ros.action import Watch
from vljepa_ros.core.errors import (
    BusyError,
    ErrorCode,
    InactiveError,
    InputError,
    UnavailableError,
    VljepaError,
    error_of,
)
from vljepa_ros.core.settings import check_text, texts_of
from vljepa_ros.core.types import AbstainReason, Answer, Moment
from vljepa_ros.nodes import conversions, qos
from vljepa_ros.query.question import Question
from vljepa_ros.srv import Query, Search

DEPTH = 256  # QoS depth of responses, equal to the default `service_depth` of the nodes
CALL_S = 10.0  # default timeout of a call
LOOK_AGAIN_S = 0.05  # polling period while a service is not available
MISSED_S = 1.0  # period of the check that the servers of accepted Watch goals still exist
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
GRACE_S = 5.0  # additional wait of a blocking call, so that its future fails first
WATCH = 'watch'
CLOSED = 'the client was closed'
T = TypeVar('T')


@dataclass
class _Call:
    """A pending request. It is sent when its server is available and fails at time `until_s`.

    A server that was killed stays in the ROS graph for some seconds and takes requests that it
    never answers: the request is sent again to each server that appears later.
    """

    name: str
    is_there: Callable[[], bool]
    send: Callable[[], Any]
    discard: Callable[[Any], None]
    future: Future[Any]
    until_s: float
    servers: Callable[[], frozenset[bytes]] = frozenset  # of this service, by endpoint
    sent: Any = None  # rclpy's future after sending
    sent_to: frozenset[bytes] = frozenset()  # servers present when it was sent
    inactive_error: VljepaError | None = None  # error of a node that is not active


class Watching:
    """Handle of a Watch goal.

    `score`: score of the newest hop, 0..1. `unfamiliar`: unfamiliarity of the newest hop to the
    model, 0..1; hops with 0.5 or more do not count. `abstain_reason`: set when the watch ends, to
    the reason why the newest hop did not count (NONE if it did).
    """

    def __init__(self, withdraw: Callable[[Watching], None]) -> None:
        self.future: Future[Moment | None] = Future()  # for polling or awaiting
        self.score = self.unfamiliar = 0.0
        self.abstain_reason = AbstainReason.NONE
        self.goal: Any = None
        self.servers: frozenset[bytes] = frozenset()  # servers that can have accepted the goal
        self.is_cancelled = False
        self._withdraw = withdraw
        self.future.add_done_callback(self._on_done)

    def done(self) -> bool:
        """Return whether the watch has ended for any reason."""
        return self.future.done()

    def result(self, timeout_s: float | None = None) -> Moment | None:
        """Wait for the end of the watch and return the moment at which its condition fired.

        Args:
            timeout_s: Maximum wait; None: no limit.

        Returns:
            The moment; None after the timeout of the goal or after `cancel`.

        Raises:
            InputError: The goal is invalid.
            BusyError: The goal was rejected, or query_node was deactivated or disappeared.
            InternalError: The goal failed unexpectedly.
            TimeoutError: The watch is still pending after `timeout_s`
                (concurrent.futures.TimeoutError before Python 3.11).
        """
        return self.future.result(timeout_s)

    def cancel(self) -> None:
        """Cancel the goal, so that `result` returns None."""
        self.is_cancelled = True
        _settle(self.future, None)

    def _on_done(self, future: Future[Moment | None]) -> None:
        if self.is_cancelled or future.cancelled():  # by `cancel`, or by an awaiting caller
            self._withdraw(self)


class Client:
    """Client of the nodes in one namespace, with its own node and thread."""

    def __init__(
        self,
        namespace: str = 'vljepa',
        timeout_s: float = CALL_S,
        context: Context | None = None,
    ) -> None:
        """Create the node of the client and start its thread.

        Args:
            namespace: Namespace of the nodes.
            timeout_s: Timeout of each call, including the wait until query_node is active.
            context: ROS context; None: the default context, or a new context if rclpy is not
                initialized.
        """
        self._timeout_s = timeout_s
        self._own = None
        if context is None and not rclpy.ok():
            context = self._own = Context()
            rclpy.init(context=context)
        self._node = Node('planner', namespace=namespace, context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        deep = qos.service(DEPTH)
        self._query = self._node.create_client(Query, 'query', qos_profile=deep)
        self._search = self._node.create_client(Search, 'search', qos_profile=deep)
        self._watch = ActionClient(
            self._node,
            Watch,
            WATCH,
            goal_service_qos_profile=deep,
            result_service_qos_profile=deep,
            cancel_service_qos_profile=deep,
            feedback_sub_qos_profile=deep,
        )
        self._calls: list[_Call] = []  # calls without a response; changed under the lock
        self._lock = threading.Lock()
        self._watched: set[Watching] = set()  # watches with an accepted goal
        self._stopping = False
        self._node.create_timer(LOOK_AGAIN_S, self._process_calls, clock=STEADY)
        self._node.create_timer(MISSED_S, self._check_servers, clock=STEADY)
        self._thread = threading.Thread(target=self._spin, name='vljepa client', daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client: cancel its Watch goals and let pending calls raise BusyError.

        Raises:
            RuntimeError: Called in a callback of this client.
        """
        self._check_thread()
        self._later(self._end)
        self._thread.join()
        self._executor.shutdown()
        self._watch.destroy()
        self._node.destroy_node()
        if self._own is not None:
            rclpy.shutdown(context=self._own)

    def query(
        self,
        prompt: str,
        candidates: Sequence[str] = (),
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> Answer:
        """Answer a question about the current scene or about a span of the past.

        Check `abstained` of the answer before acting on it.

        Args:
            prompt: The question.
            candidates: Possible answers, of which the best is returned; empty: a generated text.
            source: Name of the camera; empty: the only camera.
            start_s: Start of the span in s of ROS time; 0: the oldest stored data.
            end_s: End of the span in s of ROS time; 0: now. Both 0: the current scene.

        Raises:
            InputError: The question is invalid, or nothing is stored for the span.
            BusyError: There was no answer in time.
            ModelMismatchError: The nodes run different models.
            InternalError: A node failed unexpectedly.
        """
        return self._wait(lambda: self.query_later(prompt, candidates, source, start_s, end_s))

    def query_later(
        self,
        prompt: str,
        candidates: Sequence[str] = (),
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> Future[Answer]:
        """Like `query`, but return a future of the answer immediately."""

        def request() -> Query.Request:
            span_ns = _ns('start', start_s), _ns('end', end_s)
            texts = texts_of(candidates, 'candidates')
            question = Question(prompt, texts, check_text(source, 'source'), *span_ns)
            question.check()
            return conversions.to_query(question)

        return self._call(self._query, request, conversions.from_answer)

    def search(
        self,
        text: str,
        limit: int = 10,
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> list[Moment]:
        """Return the stored moments that match a text, best first.

        Args:
            text: Description of the moments, in plain English.
            limit: Maximum number of moments.
            source: Name of the camera; empty: all cameras.
            start_s: Earliest time in s of ROS time; 0: the oldest stored data.
            end_s: Latest time in s of ROS time; 0: now.

        Raises:
            InputError: An argument is invalid.
            BusyError: There was no answer in time.
            InternalError: query_node failed unexpectedly.
        """
        return self._wait(lambda: self.search_later(text, limit, source, start_s, end_s))

    def search_later(
        self,
        text: str,
        limit: int = 10,
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> Future[list[Moment]]:
        """Like `search`, but return a future of the moments immediately."""

        def request() -> Search.Request:
            if not isinstance(limit, int) or not 1 <= limit < 2**32:
                raise InputError(f'limit ({limit!r}) is not an integer in 1..{2**32 - 1}')
            return Search.Request(
                text=check_text(text, 'text', may_be_empty=False),
                limit=int(limit),
                source=check_text(source, 'source'),
                start=_time('start', start_s),
                end=_time('end', end_s),
            )

        def read(response: Any) -> list[Moment]:
            if response.message:  # what was not searched
                self._node.get_logger().warning(response.message)
            return [conversions.from_moment(moment) for moment in response.moments]

        return self._call(self._search, request, read)

    def watch(
        self,
        condition: str,
        timeout_s: float = 0.0,
        source: str = '',
        until_not: bool = False,
        threshold: float = 0.0,
    ) -> Watching:
        """Start to watch for a statement to become true; return a handle immediately.

        Args:
            condition: The statement, in plain English.
            timeout_s: Maximum duration of the watch, in s of ROS time; 0: no limit.
            source: Name of the camera; empty: any camera.
            until_not: Watch for the statement to become false (score below 0.4 x threshold).
            threshold: Minimum score of a true statement, 0..1; 0: the parameter `watch_threshold`.
        """
        watching = Watching(lambda watching: self._later(self._withdraw, watching))
        try:
            if not 0 <= _number('threshold', threshold) <= 1:
                raise InputError(f'threshold ({threshold}) is not in 0..1')
            goal = Watch.Goal(
                condition=check_text(condition, 'condition', may_be_empty=False),
                source=check_text(source, 'source'),
                until_not=bool(until_not),
                threshold=float(threshold),
                timeout=conversions.to_duration(_ns('timeout', timeout_s)),
            )
        except VljepaError as error:
            _settle(watching.future, error)
            return watching
        call = _Call(
            WATCH,
            self._watch.server_is_ready,
            lambda: self._begin(goal, watching),
            lambda sent: None,
            watching.future,
            time.monotonic() + self._timeout_s,
        )
        self._send_later(call)
        return watching

    # In the client's own thread.

    def _spin(self) -> None:
        while not self._stopping and self._executor.context.ok():
            try:
                self._executor.spin_once()
            except ExternalShutdownException:
                break
            except Exception as error:
                self._node.get_logger().error(f'{type(error).__name__}: {error}')
        self._end()  # also after a shutdown of ROS, so that no caller waits forever

    def _end(self) -> None:
        self._stopping = True
        for watching in list(self._watched):
            watching.cancel()
            with suppress(Exception):  # after a shutdown of ROS the goal cannot be canceled
                self._withdraw(watching)
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            _settle(call.future, BusyError(CLOSED))

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        if not self._stopping:
            self._executor.create_task(function, *args)

    def _send_later(self, call: _Call) -> None:
        """Queue a call for the client's thread; if the client is closed, the call fails."""
        with self._lock:
            self._calls.append(call)
        self._later(self._process_calls)
        if self._stopping:
            _settle(call.future, BusyError(CLOSED))

    def _call(
        self, client: Any, request: Callable[[], Any], read: Callable[[Any], T]
    ) -> Future[T]:
        found: Future[T] = Future()
        try:
            message = request()
        except VljepaError as error:
            _settle(found, error)
            return found

        def send() -> Any:
            sent = client.call_async(message)
            sent.add_done_callback(receive)
            return sent

        def receive(sent: Any) -> None:
            if sent.cancelled() or sent is not call.sent:
                return
            response = sent.result()
            if response.success:
                _settle(found, read(response))
                return
            error = error_of(response.error_code, response.message)
            if isinstance(error, InactiveError):
                call.sent = None  # send again until the timeout
                call.inactive_error = error
            else:
                _settle(found, error)

        call = _Call(
            client.srv_name,
            client.service_is_ready,
            send,
            client.remove_pending_request,
            found,
            time.monotonic() + self._timeout_s,
            lambda: self._readers(client),
        )
        self._send_later(call)
        return found

    def _process_calls(self) -> None:
        """Send the queued calls whose server is available; end the calls that have timed out."""
        with self._lock:
            self._calls = [call for call in self._calls if not call.future.done()]
            calls = list(self._calls)
        for call in calls:
            if time.monotonic() >= call.until_s:
                if call.sent is not None:
                    call.discard(call.sent)
                _settle(call.future, self._timeout_error(call))
            elif call.is_there() and (call.sent is None or call.servers() - call.sent_to):
                self._send(call)

    def _send(self, call: _Call) -> None:
        if call.sent is not None:
            call.discard(call.sent)
        call.sent_to = call.servers()
        try:
            call.sent = call.send()
        except Exception as error:
            _settle(call.future, InputError(f'{type(error).__name__}: {error}'))

    def _readers(self, client: Any) -> frozenset[bytes]:
        """Return the servers of a service: the readers of its requests, a topic of DDS."""
        topic = f'rq{self._node.resolve_service_name(client.srv_name)}Request'
        return _gids(self._node.get_subscriptions_info_by_topic(topic, no_mangle=True))

    def _servers(self) -> frozenset[bytes]:
        return _gids(self._node.get_publishers_info_by_topic(f'{WATCH}/_action/feedback'))

    def _check_servers(self) -> None:
        """End the watches whose action server has disappeared, for example after a crash."""
        there = self._servers() if self._watched else frozenset()
        for watching in list(self._watched):
            if not watching.servers or watching.servers & there:
                watching.servers |= there  # a restarted server can be discovered late
            if watching.servers and not watching.servers & there:
                self._watched.discard(watching)
                name = self._node.resolve_service_name(WATCH)
                text = f'the action server {name} is gone'
                _settle(watching.future, UnavailableError(text))

    def _timeout_error(self, call: _Call) -> VljepaError:
        name = self._node.resolve_service_name(call.name)
        if call.inactive_error:
            return call.inactive_error
        if call.sent is not None:
            return UnavailableError(
                f'{name} did not answer within {self._timeout_s:g} s, '
                'including the wait for the service'
            )
        return UnavailableError(f'no node serves {name} (waited {self._timeout_s:g} s)')

    def _wait(self, ask: Callable[[], Future[T]]) -> T:
        self._check_thread()
        return ask().result(self._timeout_s + GRACE_S)

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                'a blocking call in a callback of this client would deadlock: use the method of '
                'the same name with the suffix _later'
            )

    def _begin(self, goal: Watch.Goal, watching: Watching) -> Any:
        def on_feedback(message: Any) -> None:
            watching.score = float(message.feedback.score)
            watching.unfamiliar = float(message.feedback.unfamiliar)

        def accepted(sent: Any) -> None:
            watching.goal = sent.result()
            if not watching.goal.accepted:
                text = f"watch for '{goal.condition}' was refused: query_node is inactive or busy"
                _settle(watching.future, BusyError(text))
                return
            watching.servers = self._servers()
            self._watched.add(watching)
            watching.goal.get_result_async().add_done_callback(ended)
            with self._lock:
                self._calls = [c for c in self._calls if c.future is not watching.future]
            if watching.done():  # the watch was canceled before the goal was accepted
                self._withdraw(watching)

        def ended(got: Any) -> None:
            self._watched.discard(watching)
            result = got.result().result
            with suppress(InputError):  # an unknown reason, from a newer version of the node
                watching.abstain_reason = conversions.from_abstain_reason(result.abstain_reason)
            if result.fired:
                watching.score = float(result.moment.score)
                _settle(watching.future, conversions.from_moment(result.moment))
            elif result.error_code == ErrorCode.TIMEOUT:
                _settle(watching.future, None)
            elif result.error_code in (ErrorCode.OK, ErrorCode.CANCELED):  # by another client
                reason = result.message or 'see the log of query_node'
                text = f"watch for '{goal.condition}' ended: {reason}"
                _settle(watching.future, BusyError(text))
            else:
                _settle(watching.future, error_of(result.error_code, result.message))

        sent = self._watch.send_goal_async(goal, feedback_callback=on_feedback)
        sent.add_done_callback(accepted)
        return sent

    def _withdraw(self, watching: Watching) -> None:
        if watching in self._watched:
            self._watched.discard(watching)
            watching.goal.cancel_goal_async()


def _settle(future: Future[Any], value: Any) -> None:
    """Set the result or the exception of a future, unless the future is already done."""
    with suppress(InvalidStateError):
        if isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f'{name} ({value!r}) is not a number')
    return float(value)


def _ns(name: str, seconds: object) -> int:
    """Convert a time in seconds to nanoseconds. Raises InputError if it is not in 0..2**31 s."""
    value = _number(name, seconds)
    if not 0 <= value < 2**31:
        raise InputError(f'{name} ({value:g} s) is not in 0..{2**31 - 1}')
    return round(value * 1e9)


def _time(name: str, seconds: object) -> Any:
    return conversions.to_time(_ns(name, seconds))


def _gids(endpoints: Sequence[Any]) -> frozenset[bytes]:
    return frozenset(bytes(endpoint.endpoint_gid) for endpoint in endpoints)
