# SPDX-License-Identifier: Apache-2.0
"""Lines that the library logs, where a node's own lines go: the console, its file and /rosout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARY = 'vljepa_ros'


class _RosHandler(logging.Handler):
    """rclpy knows a place in the code by its one severity: each has its own line."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextmanager
def forwarded(logger: Any) -> Iterator[None]:
    """Meanwhile the library's lines, from INFO on, are those of a node's `logger`."""
    library, handler = logging.getLogger(LIBRARY), _RosHandler(logger)
    before = library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)
