# SPDX-License-Identifier: Apache-2.0
"""Forwarding of Python log records of vljepa_ros to the ROS logger of a node."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARY = 'vljepa_ros'


class _RosHandler(logging.Handler):
    """Logging handler that forwards records to a ROS logger.

    rclpy allows one severity per call site, so each severity has its own call.
    """

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
    """Forward log records of vljepa_ros, from level INFO up, to a ROS logger within a context."""
    library, handler = logging.getLogger(LIBRARY), _RosHandler(logger)
    before = library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)
