# SPDX-License-Identifier: Apache-2.0
"""Real processes over DDS, with a tiny model of random weights, and a probe in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')
pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')

from helpers.ros_fixture import ros  # noqa: F401
from helpers.ros_processes import RosProcesses


@pytest.fixture(scope='module')
def processes(ros: int) -> Iterator[RosProcesses]:  # noqa: F811
    """Start processes that end with the test module."""
    made = RosProcesses(ros)
    yield made
    made.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'test/system' in str(item.path):
            item.add_marker(pytest.mark.ros)
            item.add_marker(pytest.mark.slow)
