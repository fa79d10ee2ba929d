# SPDX-License-Identifier: Apache-2.0
"""ROS client and nodes in this process, with a probe node."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')
pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')

from helpers.ros_fixture import bench, ros  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'test/client' in str(item.path):
            item.add_marker(pytest.mark.ros)
