# SPDX-License-Identifier: Apache-2.0
"""Nodes in this process with the fake model, each in its own thread, and a probe node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')
pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')

from helpers.node_harness import Bench
from helpers.ros_fixture import ros  # noqa: F401


@pytest.fixture
def bench(ros: int) -> Iterator[Bench]:  # noqa: F811
    """Return a bench with a separate namespace for each test."""
    made = Bench()
    yield made
    made.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'test/nodes' in str(item.path):
            item.add_marker(pytest.mark.ros)
