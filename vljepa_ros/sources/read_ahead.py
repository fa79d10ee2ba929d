# SPDX-License-Identifier: Apache-2.0
"""Reading ahead in a thread, so that images are decoded while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar('T')
AHEAD = 8  # items that are read in advance; 50 MB of 1080p images


def read_ahead(items: Iterator[T], count: int = AHEAD) -> Generator[T, None, None]:
    """Yield the items of an iterator in their order; a thread produces the next ones meanwhile.

    An error of the iterator is raised at its place in the order. When the iteration ends early, a
    generator is closed in its thread.

    Args:
        items: Iterator, or generator that was not started: it runs completely in the thread.
        count: Maximum number of items that are produced in advance.
    """
    end = object()
    with ThreadPoolExecutor(1, 'read_ahead') as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]  # not `end`
        finally:
            for future in pending:
                future.cancel()
            if isinstance(items, Generator):
                with suppress(RuntimeError):  # the interpreter is exiting
                    pool.submit(items.close)
