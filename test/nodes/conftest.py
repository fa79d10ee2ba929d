# SPDX-License-Identifier: Apache-2.0
"""Nodes in this process with the fake model, spun in threads of their own, and a probe beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')
pytest.importorskip('vljepa_ros.msg', reason='needs the built interfaces')

import rclpy
from bench import Bench

from vljepa_ros.cli.ros_environment import reserve_domain


@pytest.fixture(scope='session')
def ros() -> Iterator[None]:
    """Give rclpy a domain of its own, on loopback."""
    number, lock = reserve_domain()
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    rclpy.init(domain_id=number)
    yield
    rclpy.try_shutdown()
    lock.close()


@pytest.fixture
def bench(ros: None) -> Iterator[Bench]:
    """A namespace of its own for each test."""
    made = Bench()
    yield made
    made.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if 'test/nodes' in str(item.path) or 'test/system' in str(item.path):
            item.add_marker(pytest.mark.ros)
