# SPDX-License-Identifier: Apache-2.0
"""Base class of nodes that pass work to a model thread without blocking their executor.

An error while processing a message is logged, counted and shown in the diagnostics. An error while
serving a request is returned in the response.
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
ACKNOWLEDGED_S = 1.0  # maximum wait for acknowledgements before a publisher is destroyed
LOOK_BACK_S = 8.0  # maximum time that the vision side spends on a question about the past
MAX_BACKLOG = 10_000  # messages that wait for the model thread


class ModelNode(Node):
    """ROS node that passes work to the model thread `thread`; `phase` is its lifecycle state."""

    thread: ModelThread

    if TYPE_CHECKING:  # methods of LifecycleNodeMixin, another base class of every node

        def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Any:
            """Create a publisher that publishes only while the node is active."""

        def destroy_lifecycle_publisher(self, publisher: Any) -> bool:
            """Destroy a lifecycle publisher."""

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
        """Whether the node is active and thus processes requests and messages."""
        return self.phase == 'active'

    # Problems.

    def report_problem(self, kind: str, error: Exception | str, level: Level = Level.WARN) -> None:
        """Report a problem: count it, show it in the diagnostics, and log it with a rate limit.

        Args:
            kind: Name of the counter; the rate limit applies to each kind separately.
            error: Exception or text.
            level: Level in the log and diagnostics.
        """
        line = self.health.report_problem(kind, describe_error(error), level)
        if line and level is Level.ERROR:
            self.get_logger().error(line)  # rclpy allows only one severity per call site
        elif line:
            self.get_logger().warning(line)

    def condition(self, name: str, text: str, level: Level = Level.WARN) -> None:
        """Set a persistent condition of the diagnostics, and log it if it is new.

        Args:
            name: Identifier of the condition.
            text: One line that describes it; '' clears the condition.
            level: Level in the diagnostics.
        """
        if self.health.condition(name, text, level) and text:
            self.get_logger().warning(text)

    def guarded(self, function: Callable[[], None]) -> None:
        """Call a function in the current thread; report its exceptions instead of raising them."""
        try:
            function()
        except VljepaError as error:
            self.report_problem('refused', error)
        except Exception as error:
            self.report_problem('errors in the model thread', error, Level.ERROR)

    # Requests.

    async def serve(self, response: Any, work: Callable[[], Awaitable[None]]) -> Any:
        """Serve a request and return its response.

        Args:
            response: Response of the service. `success` is set, and after an error also
                `error_code` and `message`.
            work: Sets the other fields. It is called only if the node is active and fewer than
                `max_waiting` requests are pending.
        """
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
        """Return the error for requests that arrive while the node is not active."""
        return InactiveError(f'inactive: {self.get_name()} is {self.phase}')

    def _failure(self, error: Exception) -> tuple[ErrorCode, str]:
        """Count a failed request; return its error code and its error message in one line."""
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
            profile: QoS profile, which the parameters `qos_overrides` can override.
            matched: Called with rclpy's event info when a subscription appears or disappears.
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
        """Create a subscription; the parameters `qos_overrides` can override its QoS `profile`."""
        return self.create_subscription(
            kind, name, callback, qos.own(profile), qos_overriding_options=qos.OVERRIDABLE
        )

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Schedule `function(*args)` in this node's executor; callable from any thread."""
        executor = self.executor
        if executor is None:
            return

        def run() -> None:
            function(*args)
            executor.wake()  # rclpy in Kilted checks waiting coroutines before it runs this task

        executor.create_task(run)

    def enqueue(self, function: Callable[..., None], *args: Any) -> None:
        """Queue `function(*args)` for the model thread; exceptions are reported, not raised.

        Calls run in order. A call is dropped and reported if `MAX_BACKLOG` calls are pending.
        """
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
        """Call `function(*args)` in the model thread; return an awaitable of its result."""
        return self._awaitable(self.thread.call(function, *args))

    async def by_steps(self, steps: Generator[None, None, T], seconds: float) -> T:
        """Run a generator step by step in the model thread, and return its return value.

        Args:
            steps: Generator; other work of the thread runs between two steps.
            seconds: Timeout on the steady clock.

        Raises:
            BusyError: The generator did not finish in time and was stopped.
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
        """Cancel all generators of `by_steps`; the model thread stops them at their next step."""
        for outcome in self._stepping:
            outcome.cancel()

    def _awaitable(self, outcome: ThreadFuture[T]) -> Future:
        done: Future = Future()
        outcome.add_done_callback(lambda outcome: self.post(_copy, outcome, done))
        return done

    async def within(self, future: Future, seconds: float) -> bool:
        """Await a future for at most `seconds` of the steady clock; cancel it on timeout.

        Returns:
            Whether the future was done in time.
        """
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
        """Sleep for `seconds` of the steady clock without blocking the executor."""
        await self.within(Future(), seconds)


def describe_error(error: Exception | str) -> str:
    """Return an error as one line of text; the type is included unless it is a VljepaError."""
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
