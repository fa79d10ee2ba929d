# SPDX-License-Identifier: Apache-2.0
"""Work in several processes: that of `vljepa data`, and that of `vljepa evaluate`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vljepa_ros.core.errors import VljepaError

T = TypeVar('T')
R = TypeVar('R')


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Processes:
    """A pool whose processes end with this one, and at Ctrl-C at once, without a word.

    Each calls `start(*given)` first. `advice`: what to do where one dies, for the error.
    """

    def __init__(
        self,
        count: int,
        advice: str,
        start: Callable[..., None] | None = None,
        given: tuple[Any, ...] = (),
    ) -> None:
        self.count, self._advice = count, advice
        self._others = multiprocessing.active_children()
        self._pool = ProcessPoolExecutor(
            count, multiprocessing.get_context('spawn'), _begin, (pickle.dumps((start, given)),)
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error:  # what runs is not waited for
            for process in set(multiprocessing.active_children()) - set(self._others):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[T], R], items: Iterable[T], at_once: int = 1) -> Iterator[R]:
        """What `work`, a function of a module, makes of each item, in their order.

        A process takes so many items `at_once`. Raises VljepaError where one died.
        """
        try:
            yield from self._pool.map(work, items, chunksize=at_once)
        except BrokenProcessPool:
            raise VljepaError(
                f'a process died, for lack of memory perhaps: {self._advice}'
            ) from None


def _begin(pickled: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    start, given = pickle.loads(pickled)  # not sooner: what is imported for it takes seconds
    # A pool's processes wait for work for ever where the parent was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start:
        start(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
