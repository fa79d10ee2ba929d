# SPDX-License-Identifier: Apache-2.0
"""Process pool of the commands `vljepa data` and `vljepa evaluate`."""

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


class ProcessPool:
    """Process pool whose worker processes exit with the parent, and silently on Ctrl-C."""

    def __init__(
        self,
        count: int,
        advice: str,
        start: Callable[..., None] | None = None,
        given: tuple[Any, ...] = (),
    ) -> None:
        """Create the pool.

        Args:
            count: Number of worker processes.
            advice: Remedy to name in the error message if a worker process dies.
            start: Function that each worker process calls first.
            given: Arguments of `start`.
        """
        self.count, self._advice = count, advice
        self._others = multiprocessing.active_children()
        self._pool = ProcessPoolExecutor(
            count, multiprocessing.get_context('spawn'), _begin, (pickle.dumps((start, given)),)
        )

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error:  # do not wait for running work
            for process in set(multiprocessing.active_children()) - set(self._others):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[T], R], items: Iterable[T], at_once: int = 1) -> Iterator[R]:
        """Apply a function to each item in parallel, and yield the results in order of the items.

        Args:
            work: Function to call; it is pickled by name, so it must be defined in a module.
            items: Arguments, one per call.
            at_once: Number of items that are sent to a process at a time.

        Raises:
            VljepaError: A worker process died.
        """
        try:
            yield from self._pool.map(work, items, chunksize=at_once)
        except BrokenProcessPool:
            raise VljepaError(
                f'a worker process died, possibly because memory ran out: {self._advice}'
            ) from None


def _begin(pickled: bytes) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    start, given = pickle.loads(pickled)  # unpickled late, because its imports take seconds
    # If the parent is killed, the processes of a pool would wait for work forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start:
        start(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
