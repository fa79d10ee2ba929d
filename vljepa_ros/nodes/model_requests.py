# SPDX-License-Identifier: Apache-2.0
"""How a node works without ever blocking its executor: requests, the model thread, steady waiting.

Whatever goes wrong becomes a line in the log, a counter and a diagnostic, or a response's message.
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
LOOK_BACK_S = 8.0  # the longest that the eyes look at the past
MAX_BACKLOG = 10_000  # messages that wait for the model thread


class ModelNode(Node):
    """A node with a model thread beside it; `phase` is its lifecycle state."""

    thread: ModelThread

    if TYPE_CHECKING:  # of LifecycleNodeMixin, which every node class has as well

        def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Any:
            """Create a publisher that follows the node's state."""

        def destroy_lifecycle_publisher(self, publisher: Any) -> bool:
            """Destroy one of these publishers."""

    def __init__(self, name: str, **options: Any) -> None:
        """`options` go to rclpy's Node."""
        super().__init__(name, **options)
        # Reentrant: a request that waits holds up no other.
        self.group = ReentrantCallbackGroup()
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.health = Health()
        self.phase = 'unconfigured'
        self.backlog = 0  # messages that wait for the model thread
        self.max_waiting = 0  # requests that may be in hand
        self._in_hand = 0
        self._stepping: set[ThreadFuture[Any]] = set()

    @property
    def is_active(self) -> bool:
        """Whether requests and messages are served."""
        return self.phase == 'active'

    # Trouble.

    def trouble(self, kind: str, error: Exception | str, level: Level = Level.WARN) -> None:
        """Count it, show it in the diagnostics, log it unless one of its kind was just logged."""
        line = self.health.trouble(kind, describe_error(error), level)
        if line and level is Level.ERROR:
            self.get_logger().error(line)  # rclpy refuses a line of code that changes its severity
        elif line:
            self.get_logger().warning(line)

    def condition(self, name: str, text: str, level: Level = Level.WARN) -> None:
        """Set or clear (empty text) a lasting condition; logged when it changes."""
        if self.health.condition(name, text, level) and text:
            self.get_logger().warning(text)

    def guarded(self, function: Callable[[], None]) -> None:
        """Run in the model thread; whatever it raises is reported and survived."""
        try:
            function()
        except VljepaError as error:
            self.trouble('refused', error)
        except Exception as error:
            self.trouble('errors in the model thread', error, Level.ERROR)

    # Requests.

    async def serve(self, response: Any, work: Callable[[], Awaitable[None]]) -> Any:
        """Fill a response by `work`; an error becomes its `error_code` and `message`."""
        try:
            if not self.is_active:
                raise self.inactive()
            if self._in_hand >= self.max_waiting:
                raise BusyError(f'busy: {self._in_hand} requests are in hand')
            self._in_hand += 1
            try:
                await work()
            finally:
                self._in_hand -= 1
            response.success = True
            self.health.count('requests answered')
        except Exception as error:
            response.success = False
            response.error_code, response.message = self._refusal(error)
        return response

    def inactive(self) -> InactiveError:
        """The error of every request while the node is not active."""
        return InactiveError(f'inactive: {self.get_name()} is {self.phase}')

    def _refusal(self, error: Exception) -> tuple[ErrorCode, str]:
        """The code of an error in a request, and one line."""
        if not isinstance(error, VljepaError):
            if self.is_active:
                self.trouble('requests failed', error, Level.ERROR)
                return ErrorCode.INTERNAL, describe_error(error)
            error = self.inactive()  # deactivated meanwhile, which took away what the work needs
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
        """A lifecycle publisher whose QoS parameters can override; `matched` hears who listens."""
        return self.create_lifecycle_publisher(
            kind,
            name,
            profile,
            event_callbacks=PublisherEventCallbacks(matched=matched) if matched else None,
            callback_group=self.group,
            qos_overriding_options=qos.OVERRIDABLE,
        )

    def retire(self, publisher: Any) -> None:
        """Destroy a lifecycle publisher once its last words have arrived, or after a second."""
        publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_S))
        self.destroy_lifecycle_publisher(publisher)

    def subscriber(
        self, kind: type, name: str, callback: Callable[..., None], profile: QoSProfile
    ) -> Any:
        """A subscription whose QoS parameters can override."""
        return self.create_subscription(
            kind, name, callback, profile, qos_overriding_options=qos.OVERRIDABLE
        )

    def post(self, function: Callable[..., None], *args: Any) -> None:
        """Run in this node's executor, from any thread."""
        executor = self.executor
        if executor is None:
            return

        def run() -> None:
            function(*args)
            executor.wake()  # rclpy looks at coroutines that wait before this, in Kilted

        executor.create_task(run)

    def enqueue(self, function: Callable[..., None], *args: Any) -> None:
        """Run in the model thread, in order; beyond the backlog it is dropped, and counted."""
        if self.backlog >= MAX_BACKLOG:
            self.trouble(
                'dropped messages', f'{self.backlog} messages wait already: one is dropped'
            )
            return
        self.backlog += 1
        work = partial(self.guarded, partial(function, *args))
        self.thread.call(work).add_done_callback(lambda _: self.post(self._dequeued))

    def _dequeued(self) -> None:
        self.backlog -= 1

    def in_thread(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Await a call in the model thread without holding up the executor."""
        return self._handed_over(self.thread.call(function, *args))

    async def by_steps(self, steps: Generator[None, None, T], seconds: float) -> T:
        """Await a generator that runs in the model thread, one step at a time.

        Raises BusyError where that takes longer, on the steady clock; then it is ended.
        """
        outcome = self.thread.call_by_steps(steps)
        self._stepping.add(outcome)
        done = self._handed_over(outcome)
        try:
            if not await self.within(done, seconds):
                raise BusyError(f'not done within {seconds:g} s')
            found: T = done.result()
            return found
        finally:
            outcome.cancel()
            self._stepping.discard(outcome)

    def end_steps(self) -> None:
        """End what runs by steps: no more of it runs once the thread has settled."""
        for outcome in self._stepping:
            outcome.cancel()

    def _handed_over(self, outcome: ThreadFuture[T]) -> Future:
        done: Future = Future()
        outcome.add_done_callback(lambda outcome: self.post(_copy, outcome, done))
        return done

    async def within(self, future: Future, seconds: float) -> bool:
        """Await a future for that long on the steady clock; late, it is cancelled, and False."""
        ended: Future = Future()  # not every rclpy ends the await of a cancelled future

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
    """One line; what we did not raise on purpose says its type."""
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
