# SPDX-License-Identifier: Apache-2.0
"""Items are read ahead in a thread, in order, with errors and the end at their places."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vljepa_ros.sources.read_ahead import read_ahead


class Numbers:
    """Generator of numbers that records its thread and how far it was read."""

    def __init__(self, end: int, fails_at: int | None = None) -> None:
        self.read: list[int] = []
        self.threads: set[int] = set()
        self.closed = False
        self._end, self._fails_at = end, fails_at
        self.reached = threading.Condition()

    def items(self) -> Iterator[int]:
        try:
            for number in range(self._end):
                if number == self._fails_at:
                    raise ValueError(f'damaged at {number}')
                with self.reached:
                    self.read.append(number)
                    self.reached.notify_all()
                yield number
        finally:
            self.threads.add(threading.get_ident())
            self.closed = True


@pytest.mark.parametrize('count', [0, 1, 3, 8, 100])
def test_all_items_in_order(count: int) -> None:
    numbers = Numbers(count)
    assert list(read_ahead(numbers.items())) == list(range(count))
    assert numbers.closed and threading.get_ident() not in numbers.threads


def test_items_are_read_while_the_first_is_used_but_only_so_many() -> None:
    numbers = Numbers(100)
    found = read_ahead(numbers.items(), 4)
    assert next(found) == 0
    with numbers.reached:
        assert numbers.reached.wait_for(lambda: len(numbers.read) >= 5, 10)
    assert next(found) == 1
    with numbers.reached:
        assert numbers.reached.wait_for(lambda: len(numbers.read) >= 6, 10)
    found.close()
    assert len(numbers.read) == 6 and numbers.closed


def test_an_error_is_raised_after_the_items_before_it() -> None:
    found, seen = read_ahead(Numbers(10, fails_at=3).items()), []
    with pytest.raises(ValueError, match='3'):
        for number in found:
            seen.append(number)
    assert seen == [0, 1, 2]


def test_leaving_early_closes_the_generator_in_its_thread_and_ends_the_thread() -> None:
    before, numbers = threading.active_count(), Numbers(1000)
    for number in read_ahead(numbers.items()):
        if number == 5:
            break
    del number
    assert numbers.closed and len(numbers.read) < 20
    assert threading.get_ident() not in numbers.threads
    assert threading.active_count() == before
