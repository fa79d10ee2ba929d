# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError

import pytest

from vljepa_ros.runtime.model_thread import ModelThread


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    made = ModelThread('test')
    yield made
    made.stop()


class Gate:
    """Blocks the thread until it is opened, so that the queue behind it is known."""

    def __init__(self, thread: ModelThread) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        thread.call(self._hold)
        assert self._entered.wait(5)

    def _hold(self) -> None:
        self._entered.set()
        assert self._open.wait(5)

    def open(self) -> None:
        self._open.set()


def test_a_busy_thread_keeps_the_newest_item_of_each_key(thread: ModelThread) -> None:
    processed: list[tuple[str, int]] = []
    gate = Gate(thread)
    displaced = [
        thread.offer(key, number, lambda item, key=key: processed.append((key, item)))
        for key, number in (('a', 1), ('b', 1), ('a', 2), ('a', 3))
    ]
    gate.open()
    assert thread.settle(5)
    assert displaced == [None, None, 1, 2]
    assert processed == [('a', 3), ('b', 1)]


def test_all_calls_run_in_order(thread: ModelThread) -> None:
    gate = Gate(thread)
    futures = [thread.call(lambda n=n: n) for n in range(100)]
    assert thread.waiting == 100
    gate.open()
    assert [f.result(5) for f in futures] == list(range(100))


def test_frames_and_calls_alternate(thread: ModelThread) -> None:
    order: list[str] = []
    gate = Gate(thread)
    for key in 'ab':
        thread.offer(key, key, order.append)
    for number in '12':
        thread.call(order.append, number)
    gate.open()
    assert thread.settle(5)
    assert order == ['a', '1', 'b', '2']


def test_other_work_runs_between_the_steps_of_a_call(thread: ModelThread) -> None:
    order: list[str] = []

    def steps() -> Generator[None, None, str]:
        for number in range(3):
            order.append(f'step {number}')
            yield
        return 'done'

    gate = Gate(thread)
    found = thread.call_by_steps(steps())
    thread.call(order.append, 'call')
    thread.offer('camera', 'frame', order.append)
    gate.open()
    assert found.result(5) == 'done'
    assert order == ['frame', 'step 0', 'call', 'step 1', 'step 2']


def test_generators_run_one_after_the_other(thread: ModelThread) -> None:
    order: list[str] = []

    def steps(name: str) -> Generator[None, None, str]:
        for number in range(2):
            order.append(f'{name} {number}')
            yield
        return name

    gate = Gate(thread)
    found = [thread.call_by_steps(steps(name)) for name in 'abc']
    found[1].cancel()
    gate.open()
    assert [found[0].result(5), found[2].result(5)] == ['a', 'c']
    assert order == ['a 0', 'a 1', 'c 0', 'c 1']


def test_a_canceled_generator_runs_no_more_steps(thread: ModelThread) -> None:
    taken = [0]

    def steps() -> Generator[None, None, None]:
        while True:
            taken[0] += 1
            yield

    found = thread.call_by_steps(steps())
    while not taken[0]:
        pass
    assert found.cancel()
    assert thread.settle(5)
    after = taken[0]
    assert thread.settle(5) and taken[0] == after
    assert thread.call_by_steps(iter_once()).result(5) == 'next'


def iter_once() -> Generator[None, None, str]:
    yield
    return 'next'


def test_an_exception_in_a_step_is_raised_to_the_caller(thread: ModelThread) -> None:
    def steps() -> Generator[None, None, None]:
        yield
        raise ValueError('in the second step')

    with pytest.raises(ValueError, match='in the second step'):
        thread.call_by_steps(steps()).result(5)
    assert thread.call(lambda: 7).result(5) == 7


def test_a_call_by_steps_ends_with_the_thread(thread: ModelThread) -> None:
    def steps() -> Generator[None, None, None]:
        while True:
            yield

    found = thread.call_by_steps(steps())
    assert thread.stop()
    with pytest.raises((RuntimeError, CancelledError)):  # while it waits, or while it runs
        found.result(5)


def test_an_exception_is_raised_to_the_caller_and_the_thread_continues(
    thread: ModelThread,
) -> None:
    failed = thread.call(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(5)
    assert thread.call(lambda: 'alive').result(5) == 'alive'


def test_an_exception_in_a_handler_is_reported_and_the_thread_continues(
    thread: ModelThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[type] = []
    monkeypatch.setattr(threading, 'excepthook', lambda args: reported.append(args.exc_type))
    thread.offer('a', 0, lambda item: 1 / item)
    assert thread.settle(5)
    assert reported == [ZeroDivisionError]


def test_withdrawn_items_are_not_processed(thread: ModelThread) -> None:
    processed: list[int] = []
    gate = Gate(thread)
    thread.offer('a', 7, processed.append)
    assert thread.withdraw('a') == 7
    assert thread.withdraw('a') is None
    gate.open()
    assert thread.settle(5)
    assert processed == []


def test_settle_reports_work_that_takes_too_long(thread: ModelThread) -> None:
    gate = Gate(thread)
    assert not thread.settle(0.05)
    gate.open()
    assert thread.settle(5)


def test_stop_cancels_pending_work_and_rejects_more(thread: ModelThread) -> None:
    gate = Gate(thread)
    waiting = thread.call(lambda: None)
    threading.Timer(0.05, gate.open).start()
    assert thread.stop(5)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError):
        thread.call(lambda: None)
