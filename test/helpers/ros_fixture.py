# SPDX-License-Identifier: Apache-2.0
"""Fixtures: rclpy in this process, in a domain reserved on this machine, and a probe node."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import rclpy
from helpers.node_harness import Bench

from vljepa_ros.cli.ros_environment import reserve_domain

_domain: list[int] = []


@pytest.fixture(scope='session')
def ros() -> Iterator[int]:
    """Initialize rclpy once for several conftests and return the domain."""
    if not _domain:
        number, lock = reserve_domain()
        os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
        rclpy.init(domain_id=number)
        _domain[:] = [number]
        _locks.append(lock)
    yield _domain[0]


@pytest.fixture
def bench(ros: int) -> Iterator[Bench]:
    """Return a bench with a separate namespace for each test."""
    made = Bench()
    yield made
    made.close()


_locks: list[object] = []  # held until the process ends
