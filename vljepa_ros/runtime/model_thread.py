# SPDX-License-Identifier: Apache-2.0
"""Model thread, which owns one side of a model and alternates between frames and calls.

All code that uses the model runs in this thread. Therefore, callbacks do not wait for the model,
and the model needs no lock. This module does not import ROS.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

T = TypeVar('T')
Handler = Callable[[Any], None]


class ModelThread:
    """Thread that runs queued work, one item at a time.

    `offer` queues only the newest item of each key (the newest frame of each camera); `call`
    queues every call, in order. If both are pending they alternate, so that neither frames nor
    calls starve.
    """

    def __init__(self, name: str) -> None:
        """Start a daemon thread with this name."""
        self._ready = threading.Condition()
        self._newest: OrderedDict[str, tuple[Handler, Any]] = OrderedDict()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._stepped: deque[tuple[Future[Any], Generator[None, None, Any]]] = deque()
        self._is_stepping = self._stopping = False
        self._call_next = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, key: str, item: Any, handler: Handler) -> Any | None:
        """Queue an item, replacing the pending item with the same key.

        Args:
            key: Name of the camera.
            item: Argument of the handler.
            handler: Function that the model thread calls with the item.

        Returns:
            The pending item that was replaced, or None.
        """
        with self._ready:
            displaced = self._newest.get(key)
            self._newest[key] = (handler, item)  # keeps its position in the queue of cameras
            self._ready.notify()
        return displaced[1] if displaced else None

    def withdraw(self, key: str) -> Any | None:
        """Remove and return the pending item with this key; return None if there is none."""
        with self._ready:
            taken = self._newest.pop(key, None)
        return taken[1] if taken else None

    def call(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Queue `function(*args)` after the pending calls, and return the future of its result.

        Raises:
            RuntimeError: The thread has stopped.
        """
        future: Future[T] = Future()
        with self._ready:
            if self._stopping:
                raise RuntimeError('the model thread has stopped')
            self._calls.append((future, lambda: function(*args)))
            self._ready.notify()
        return future

    def call_by_steps(self, steps: Generator[None, None, T]) -> Future[T]:
        """Queue a generator that runs step by step, and return the future of its return value.

        Each step is one call, and other work can run between two steps. Generators run one at a
        time, in order. Cancel the future to stop its generator.
        """
        future: Future[T] = Future()
        with self._ready:
            self._stepped.append((future, steps))
            begin, self._is_stepping = not self._is_stepping, True
        if begin:
            self._go_on()
        return future

    def _go_on(self) -> None:
        try:
            self.call(self._step).add_done_callback(self._on_step)
        except RuntimeError:  # the thread has stopped
            self._cancel_steps()

    def _step(self) -> None:
        future, steps = self._stepped[0]
        try:
            if not future.cancelled():
                next(steps)
                return
        except StopIteration as end:
            if future.set_running_or_notify_cancel():
                future.set_result(end.value)
        except Exception as error:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        steps.close()
        with self._ready:
            self._stepped.popleft()

    def _on_step(self, call: Future[None]) -> None:
        if call.cancelled():
            self._cancel_steps()
            return
        with self._ready:
            self._is_stepping = bool(self._stepped)
        if self._is_stepping:
            self._go_on()

    def _cancel_steps(self) -> None:
        with self._ready:
            stepped, self._stepped, self._is_stepping = self._stepped, deque(), False
        for future, _ in stepped:
            future.cancel()

    def settle(self, timeout_s: float) -> bool:
        """Wait until all earlier calls are done; return False on timeout.

        In the model thread itself, this returns True without waiting.
        """
        if threading.current_thread() is self._thread:
            return True
        try:
            self.call(_nothing).result(timeout_s)
        except FutureTimeoutError:  # the builtin TimeoutError from Python 3.11 on
            return False
        return True

    @property
    def waiting(self) -> int:
        """Number of pending calls."""
        return len(self._calls)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop the thread after its current work; cancel pending calls and drop pending items.

        Returns:
            Whether the thread ended within the timeout.
        """
        with self._ready:
            self._stopping = True
            self._newest.clear()
            calls, self._calls = self._calls, deque()
            self._ready.notify()
        for future, _ in calls:
            future.cancel()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:  # unhandled by the handler: report it and continue
                threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), self._thread]))
            del work  # an idle thread must not keep a reference to the last frame

    def _next(self) -> Callable[[], None] | None:
        with self._ready:
            while not (self._newest or self._calls or self._stopping):
                self._ready.wait()
            if self._stopping:
                return None
            call_now = bool(self._calls) and (self._call_next or not self._newest)
            self._call_next = not call_now
            if call_now:
                future, function = self._calls.popleft()
                return lambda: _answer(future, function)
            _, (handler, item) = self._newest.popitem(last=False)
            return lambda: handler(item)


def _nothing() -> None:
    """Do nothing. `settle` queues this call and waits for its result."""


def _answer(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
