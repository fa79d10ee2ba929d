# SPDX-License-Identifier: Apache-2.0
"""Node with a model thread, whose executor is never blocked: requests, messages and waiting.

Errors become a log line, a counter and a diagnostic, or the message of a response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future as ThreadFuture
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future

from vljepa_ros.core.errors import BusyError, ErrorCode, InactiveError, VljepaError
from vljepa_ros.nodes import qos
from vljepa_ros.runtime.health import Health, Level
from vljepa_ros.runtime.model_thread import ModelThread

T = TypeVar('T')
ACKNOWLEDGED_S = 1.0
LOOK_BACK_S = 8.0  # maximum time that the vision side spends on a question about the past
MAX_BACKLOG = 10_000  # messages that wait for the model thread


class ModelNode(Node):
    """A node with a model thread; `phase` is its lifecycle state."""

    thread: ModelThread

    if TYPE_CHECKING:  # methods of LifecycleNodeMixin, another base class of every node

        def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Any:
            """Create a publisher that follows the node's state."""

        def destroy_lifecycle_publisher(self, publisher: Any) -> bool:
            """Destroy one of these publishers."""

    def __init__(self, name: str, **options: Any) -> None:
        """Create the node; `options` are passed to rclpy's Node."""
        super().__init__(name, **options)
        # Reentrant, so that a waiting request does not block others.
        self.group = ReentrantCallbackGroup()
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.health = Health()
        self.phase = 'unconfigured'
        self.backlog = 0  # messages that wait for the model thread
        self.max_waiting = 0  # maximum number of pending requests
        self._pending_requests = 0
        self._stepping: set[ThreadFuture[Any]] = set()

    @property
    def is_active(self) -> bool:
        """Whether the node is active, so that it serves requests and messages."""
        return self.phase == 'active'

    # Problems.

    def report_problem(self, kind: str, error: Exception | str, level: Level = Level.WARN) -> None:
        """Report a problem: count it, add it to the diagnostics, and log it with a rate limit."""
        line = self.health.report_problem(kind, describe_error(error), level)
        if line and level is Level.ERROR:
            self.get_logger().error(line)  # rclpy allows only one severity per call site
        elif line:
            self.get_logger().warning(line)

    def condition(self, name: str, text: str, level: Level = Level.WARN) -> None:
        """Set or clear (empty text) a lasting condition; log it when it changes."""
        if self.health.condition(name, text, level) and text:
            self.get_logger().warning(text)

    def guarded(self, function: Callable[[], None]) -> None:
        """Run a function in the model thread; report its exceptions instead of raising them."""
        try:
            function()
        except VljepaError as error:
            self.report_problem('refused', error)
        except Exception as error:
            self.report_problem('errors in the model thread', error, Level.ERROR)

    # Requests.

    async def serve(self, response: Any, work: Callable[[], Awaitable[None]]) -> Any:
        """Fill a response by `work`; on an error, set its `error_code` and `message`."""
        try:
            if not self.is_active:
                raise self.inactive()
            if self._pending_requests >= self.max_waiting:
                raise BusyError(f'busy: {self._pending_requests} requests are pending')
            self._pending_requests += 1
            try:
                await work()
            finally:
                self._pending_requests -= 1
            response.success = True
            self.health.count('requests answered')
        except Exception as error:
            response.success = False
            response.error_code, response.message = self._failure(error)
        return response

    def inactive(self) -> InactiveError:
        """Return the error of requests that arrive while the node is not active."""
        return InactiveError(f'inactive: {self.get_name()} is {self.phase}')

    def _failure(self, error: Exception) -> tuple[ErrorCode, str]:
        """Return the error code of a failed request and a message of one line."""
        if not isinstance(error, VljepaError):
            if self.is_active:
                self.report_problem('requests failed', error, Level.ERROR)
                return ErrorCode.INTERNAL, describe_error(error)
            error = self.inactive()  # the node was deactivated while it served the request
        self.health.count('requests refused')
        return error.code, describe_error(error)

    # Publishing and waiting.

    def publisher(
        self,
        kind: type,
        name: str,
        profile: QoSProfile,
        matched: Callable[[Any], None] | None = None,
    ) -> Any:
        """Create a lifecycle publisher.

        Args:
            kind: Message type.
            name: Topic name.
            profile: QoS, which parameters can override.
            matched: Called when a subscription appears or disappears.
        """
        return self.create_lifecycle_publisher(
            kind,
            name,
            qos.own(profile),
            event_callbacks=PublisherEventCallbacks(matched=matched) if matched else None,
            callback_group=self.group,
            qos_overriding_options=qos.OVERRIDABLE,
        )

    def retire(self, publisher: Any) -> None:
        """Destroy a lifecycle publisher once its messages are acknowledged, or after 1 s."""
        publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_S))
        self.destroy_lifecycle_publisher(publisher)

    def subscriber(
        self, kind: type, name: str, callback: Callable[..., None], profile: QoSProfile
    ) -> Any:
        """Create a subscription whose QoS parameters can override."""
        return self.create_subscription(
            kind, name, callback, qos.own(profile), qos_overriding_options=qos.OVERRIDABLE
        )

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function in this node's executor; can be called from any thread."""
        executor = self.executor
        if executor is None:
            return

        def run() -> None:
            function(*args)
            executor.wake()  # in Kilted, rclpy checks waiting coroutines before this task runs

        executor.create_task(run)

    def enqueue(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function in the model thread, in order; drop and count it if the queue is full."""
        if self.backlog >= MAX_BACKLOG:
            self.report_problem(
                'dropped messages',
                f'the queue of the model thread is full ({self.backlog} messages): '
                'dropping a message',
            )
            return
        self.backlog += 1
        work = partial(self.guarded, partial(function, *args))
        self.thread.call(work).add_done_callback(lambda _: self.post(self._dequeued))

    def _dequeued(self) -> None:
        self.backlog -= 1

    def in_thread(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Await a call in the model thread without blocking the executor."""
        return self._awaitable(self.thread.call(function, *args))

    async def by_steps(self, steps: Generator[None, None, T], seconds: float) -> T:
        """Await a generator that runs in the model thread, one step at a time.

        Raises:
            BusyError: It did not finish within `seconds` on the steady clock, and was ended.
        """
        outcome = self.thread.call_by_steps(steps)
        self._stepping.add(outcome)
        done = self._awaitable(outcome)
        try:
            if not await self.within(done, seconds):
                raise BusyError(f'the request was not completed within {seconds:g} s')
            found: T = done.result()
            return found
        finally:
            outcome.cancel()
            self._stepping.discard(outcome)

    def end_steps(self) -> None:
        """End all generators that run by steps; none runs after the thread has settled."""
        for outcome in self._stepping:
            outcome.cancel()

    def _awaitable(self, outcome: ThreadFuture[T]) -> Future:
        done: Future = Future()
        outcome.add_done_callback(lambda outcome: self.post(_copy, outcome, done))
        return done

    async def within(self, future: Future, seconds: float) -> bool:
        """Await a future on the steady clock; on timeout, cancel it and return False."""
        ended: Future = Future()  # some versions of rclpy never resume on a canceled future

        def end(_: object = None) -> None:
            if not ended.done():
                ended.set_result(None)
                if self.executor is not None:
                    self.executor.wake()

        timer = self.create_timer(
            max(seconds, 1e-3), end, callback_group=self.group, clock=self.steady
        )
        future.add_done_callback(end)
        try:
            await ended
        finally:
            timer.cancel()
            self.destroy_timer(timer)
        if not future.done():
            future.cancel()
            return False
        return True

    async def sleep(self, seconds: float) -> None:
        """Wait on the steady clock."""
        await self.within(Future(), seconds)


def describe_error(error: Exception | str) -> str:
    """Return an error as one line; errors other than VljepaError include their type."""
    text = ' '.join(str(error).split())
    if isinstance(error, (str, VljepaError)):
        return text
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _copy(outcome: ThreadFuture[Any], done: Future) -> None:
    if done.cancelled():
        return
    if outcome.cancelled():
        done.set_exception(RuntimeError('the model thread has stopped'))
        return
    error = outcome.exception()
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(outcome.result())
