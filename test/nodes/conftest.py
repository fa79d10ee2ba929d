# SPDX-License-Identifier: Apache-2.0
"""Nodes in this process with the fake model, each in its own thread, and a probe node."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')
pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')

from helpers import video_interfaces as video_interfaces_module
from helpers import workers
from helpers.ros_fixture import bench, ros  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'test/nodes' in str(item.path):
            item.add_marker(pytest.mark.ros)


@pytest.fixture(scope='session')
def video_interfaces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build the interface packages of video messages, and make them importable."""
    video_interfaces_module.load(
        workers.shared(tmp_path_factory, 'video_interfaces', video_interfaces_module.build)
    )
