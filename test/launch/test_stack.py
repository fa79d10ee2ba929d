# SPDX-License-Identifier: Apache-2.0
"""The launch file as a robot runs it; needs launch_testing and the built package."""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest

# launch_testing runs this file by itself, without pytest's search path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

pytest.importorskip(
    'launch_testing', reason='launch_testing is not installed: it comes with ROS, not from PyPI'
)
pytest.importorskip('launch_ros', reason='launch_ros is not installed: it comes with ROS')

import launch_testing
import launch_testing.asserts
import rclpy
from helpers.launched_stack import in_domain, stack
from helpers.tiny_streaming import save_tiny
from launch import LaunchDescription
from launch.actions import GroupAction
from launch_ros.actions import PushRosNamespace
from launch_testing.actions import ReadyToTest
from lifecycle_msgs.srv import GetState

from vljepa_ros.cli.ros_environment import reserve_domain

NODES = ('perception_node', 'change_detection_node', 'decoder_node', 'query_node')
DOMAIN, LOCK = reserve_domain()
FOLDER = tempfile.TemporaryDirectory(prefix='vljepa_ros_test_')


@pytest.mark.launch_test
def generate_test_description() -> tuple[LaunchDescription, dict[str, Any]]:
    """Launch one robot in four processes and another in one process, in separate namespaces."""
    model = save_tiny(Path(FOLDER.name) / 'tiny')
    camera = {'image': 'camera/image_raw', 'image_transport': 'compressed'}
    return LaunchDescription(
        [
            *in_domain(DOMAIN),
            GroupAction(
                [
                    PushRosNamespace('lab'),
                    stack('four', model, composed='false', **camera),
                    stack('one', model, composed='true', **camera),
                ]
            ),
            ReadyToTest(),
        ]
    ), {}


class TestStack(unittest.TestCase):
    """Tests while the stack runs."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.context = rclpy.Context()
        rclpy.init(context=cls.context, domain_id=DOMAIN)
        cls.node = rclpy.create_node('probe', context=cls.context)
        cls.executor = rclpy.executors.SingleThreadedExecutor(context=cls.context)
        cls.executor.add_node(cls.node)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.node.destroy_node()
        rclpy.shutdown(context=cls.context)

    def test_every_node_becomes_active(self, proc_output: Any) -> None:
        for namespace in ('four', 'one'):
            for name in NODES:
                proc_output.assertWaitFor(f'[lab.{namespace}.{name}]: active', timeout=120)

    def test_get_state_returns_active(self, proc_output: Any) -> None:
        for namespace in ('four', 'one'):
            proc_output.assertWaitFor(f'[lab.{namespace}.perception_node]: active', timeout=120)
            client = self.node.create_client(
                GetState, f'/lab/{namespace}/perception_node/get_state'
            )
            assert client.wait_for_service(20.0)
            future = client.call_async(GetState.Request())
            self.executor.spin_until_future_complete(future, 20.0)
            assert future.result().current_state.label == 'active'

    def test_the_image_topic_is_in_the_callers_namespace(self, proc_output: Any) -> None:
        proc_output.assertWaitFor('/lab/camera/image_raw/compressed', timeout=120)


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Tests after Ctrl-C."""

    def test_every_process_exits_with_status_0(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, [0])
        FOLDER.cleanup()
