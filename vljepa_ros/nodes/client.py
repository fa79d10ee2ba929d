# SPDX-License-Identifier: Apache-2.0
"""A planner's way to the stack: questions, search and watching, in Python.

    with Client() as robot:
        robot.query('Is the drawer open?', ['yes', 'no']).answer
        robot.watch('the arm is at rest', timeout_s=30).result()

Each call has a form that waits and one, `..._later`, that gives a `concurrent.futures.Future`:
to be polled by a behaviour tree, or awaited by `asyncio.wrap_future`. The client has a node and a
thread of its own, so that it may be used in any callback of any executor. Times are seconds of ROS
time; errors are those of `vljepa_ros.errors`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
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
from vljepa_ros.errors import BusyError, InputError, VljepaError
from vljepa_ros.nodes import conversions, qos
from vljepa_ros.srv import Query, Search
from vljepa_ros.stream.types import Answer, Basis, Candidate, Moment

DEPTH = 256  # answers that are kept, as the services keep requests
CALL_S = 10.0  # how long a call waits, if it is not told otherwise
LOOK_AGAIN_S = 0.05  # how often to look whether a service has come
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
BUSY = ('busy', 'inactive', 'nobody serves')  # how refusals begin that time may heal
T = TypeVar('T')


@dataclass(frozen=True)
class _Waiting:
    """What is done as soon as a service is there, or what is not given in time."""

    is_there: Callable[[], bool]
    begin: Callable[[], None]
    future: Future[Any]
    until_s: float
    name: str


class Watching:
    """A condition that is watched for; `score` is its newest, 0..1."""

    def __init__(self, cancel: Callable[[Watching], None]) -> None:
        self._cancel = cancel
        self._ended: Future[Moment | None] = Future()
        self.score = 0.0
        self.goal: Any = None
        self.is_cancelled = False

    @property
    def future(self) -> Future[Moment | None]:
        """For those who poll, or await."""
        return self._ended

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.done()

    def result(self, timeout_s: float | None = None) -> Moment | None:
        """The moment that made it fire; None where its time was over, or it was cancelled.

        Raises:
            InputError: it was refused, or the node stopped.
            TimeoutError: it waits still (concurrent.futures' own before Python 3.11).
        """
        return self._ended.result(timeout_s)

    def cancel(self) -> None:
        """Watch no more; `result` is None."""
        self.is_cancelled = True
        self._cancel(self)


class Client:
    """Asks the stack in one namespace."""

    def __init__(
        self,
        namespace: str = 'vljepa',
        timeout_s: float = CALL_S,
        context: Context | None = None,
    ) -> None:
        """`timeout_s`: for the stack to be there, and for each answer.

        Makes its own ROS context where `context` is none and rclpy is not initialised.
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
            'watch',
            goal_service_qos_profile=deep,
            result_service_qos_profile=deep,
            cancel_service_qos_profile=deep,
            feedback_sub_qos_profile=deep,
        )
        self._waiting: list[_Waiting] = []  # for a service that is not there yet
        self._node.create_timer(LOOK_AGAIN_S, self._look_again, clock=STEADY)
        self._thread = threading.Thread(target=self._spin, name='vljepa client', daemon=True)
        self._thread.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave ROS. What is still asked is not answered."""
        self._executor.shutdown()
        self._thread.join()
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
        """Answer a question about now, or about a span (0: until now).

        With candidates the best of them; without, the model's own words. Look at `abstained`
        before acting on it.

        Raises InputError: a bad question. Raises BusyError: no answer in time.
        """
        later = self.query_later(prompt, candidates, source, start_s, end_s)
        return self._wait(later, self._query)

    def query_later(
        self,
        prompt: str,
        candidates: Sequence[str] = (),
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> Future[Answer]:
        """As `query`, at once."""
        request = Query.Request(
            prompt=prompt,
            candidates=list(candidates),
            source=source,
            start=_time(start_s),
            end=_time(end_s),
        )
        return self._call(self._query, request, _answer)

    def search(
        self,
        text: str,
        limit: int = 10,
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> list[Moment]:
        """The remembered moments that a text describes best.

        Raises InputError: a bad text or source. Raises BusyError: no answer in time.
        """
        later = self.search_later(text, limit, source, start_s, end_s)
        return self._wait(later, self._search)

    def search_later(
        self,
        text: str,
        limit: int = 10,
        source: str = '',
        start_s: float = 0.0,
        end_s: float = 0.0,
    ) -> Future[list[Moment]]:
        """As `search`, at once."""
        request = Search.Request(
            text=text, limit=limit, source=source, start=_time(start_s), end=_time(end_s)
        )
        return self._call(self._search, request, lambda r: [_moment(m) for m in r.moments])

    def watch(
        self,
        condition: str,
        timeout_s: float = 0.0,
        source: str = '',
        until_not: bool = False,
        threshold: float = 0.0,
    ) -> Watching:
        """Watch for a statement to come true, or with `until_not` to be true no more.

        `timeout_s` is ROS time (0: for ever), `threshold` a score of 0..1 (0: the node's own).
        """
        goal = Watch.Goal(
            condition=condition,
            source=source,
            until_not=until_not,
            threshold=threshold,
            timeout=conversions.to_duration(round(timeout_s * 1e9)),
        )
        watching = Watching(self._cancel)
        self._when_there(
            self._watch.server_is_ready,
            lambda: self._begin(goal, watching),
            watching.future,
            'watch',
        )
        return watching

    # In the client's own thread.

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _later(self, function: Callable[..., None], *args: Any) -> None:
        self._executor.create_task(function, *args)

    def _call(self, client: Any, request: Any, read: Callable[[Any], T]) -> Future[T]:
        found: Future[T] = Future()

        def send() -> None:
            client.call_async(request).add_done_callback(receive)

        def receive(called: Any) -> None:
            response = called.result()
            _settle(found, read(response) if response.success else _refusal(response.message))

        self._when_there(client.service_is_ready, send, found, client.srv_name)
        return found

    def _when_there(
        self,
        is_there: Callable[[], bool],
        begin: Callable[[], None],
        future: Future[Any],
        name: str,
    ) -> None:
        """Begin as soon as the service is there: what is sent before is lost."""
        waiting = _Waiting(is_there, begin, future, time.monotonic() + self._timeout_s, name)

        def wait() -> None:
            self._waiting.append(waiting)
            self._look_again()

        self._later(wait)

    def _look_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if item.is_there():
                item.begin()
            elif time.monotonic() < item.until_s:
                self._waiting.append(item)
            else:
                name = self._node.resolve_service_name(item.name)
                error = BusyError(f'nobody serves {name} (waited {self._timeout_s:g} s)')
                _settle(item.future, error)

    def _wait(self, later: Future[T], client: Any) -> T:
        try:
            return later.result(2 * self._timeout_s)  # for the service, and for its answer
        except FutureTimeoutError:
            later.cancel()
            name = self._node.resolve_service_name(client.srv_name)
            raise BusyError(f'{name} did not answer within {2 * self._timeout_s:g} s') from None

    def _begin(self, goal: Watch.Goal, watching: Watching) -> None:
        def hear(message: Any) -> None:
            watching.score = float(message.feedback.score)

        def accepted(sent: Any) -> None:
            watching.goal = sent.result()
            if not watching.goal.accepted:
                text = f"watch for '{goal.condition}' was refused: see query_node's log"
                _settle(watching.future, InputError(text))
                return
            watching.goal.get_result_async().add_done_callback(ended)
            if watching.is_cancelled:
                self._cancel(watching)

        def ended(got: Any) -> None:
            result = got.result().result
            if result.fired:
                _settle(watching.future, _moment(result.moment))
            elif watching.is_cancelled or result.message == 'timeout':
                _settle(watching.future, None)
            else:
                _settle(watching.future, InputError(result.message))

        self._watch.send_goal_async(goal, feedback_callback=hear).add_done_callback(accepted)

    def _cancel(self, watching: Watching) -> None:
        if watching.goal is not None and watching.goal.accepted and not watching.done():
            self._later(watching.goal.cancel_goal_async)


def _settle(future: Future[Any], value: Any) -> None:
    """Give a result, or an error; the first one counts, and nobody may want it any more."""
    with suppress(InvalidStateError):
        if isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)


def _refusal(message: str) -> VljepaError:
    return BusyError(message) if message.startswith(BUSY) else InputError(message)


def _time(seconds: float) -> Any:
    return conversions.to_time(round(seconds * 1e9))


def _moment(message: Any) -> Moment:
    return Moment(
        message.source,
        conversions.to_ns(message.start),
        conversions.to_ns(message.end),
        message.score,
        message.text,
    )


def _answer(response: Any) -> Answer:
    return Answer(
        response.answer,
        response.confidence,
        response.abstained,
        conversions.to_ns(response.stamp),
        response.model_id,
        conversions.from_floats(response.vector),
        tuple(Candidate(c.text, c.score) for c in response.ranked),
        tuple(_moment(m) for m in response.evidence),
        Basis(response.basis),
    )
