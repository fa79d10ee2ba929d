# SPDX-License-Identifier: Apache-2.0
"""Restarts of processes by the launch file; needs launch_testing and the built package."""

from __future__ import annotations

import os
import signal
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
from helpers.launched_stack import in_domain, stack
from helpers.tiny_streaming import save_tiny
from launch import LaunchDescription
from launch.actions import GroupAction
from launch_ros.actions import PushRosNamespace
from launch_testing.actions import ReadyToTest

from vljepa_ros.cli.ros_environment import reserve_domain
from vljepa_ros.core.exit_status import ExitStatus

DOMAIN, LOCK = reserve_domain()
FOLDER = tempfile.TemporaryDirectory(prefix='vljepa_ros_test_')


@pytest.mark.launch_test
def generate_test_description() -> tuple[LaunchDescription, dict[str, Any]]:
    """Launch one robot with a model and one whose model is unknown, inside a group."""
    model = save_tiny(Path(FOLDER.name) / 'tiny')
    return LaunchDescription(
        [
            GroupAction(
                [
                    *in_domain(DOMAIN),
                    PushRosNamespace('lab'),
                    stack('good', model, composed='true'),
                    stack('bad', 'nope', composed='true'),
                ]
            ),
            ReadyToTest(),
        ]
    ), {}


def command_line(process: Path) -> str:
    """Return the command line of a process, given its folder in /proc; '' if it has ended."""
    try:
        return (process / 'cmdline').read_text()
    except OSError:
        return ''


def process_of(namespace: str) -> int:
    """Return the process id of the stack in a namespace."""
    return next(
        int(process.name)
        for process in Path('/proc').glob('[0-9]*')
        if f'__ns:={namespace}' in command_line(process)
    )


class TestRestart(unittest.TestCase):
    """Tests while the stacks run."""

    def test_a_killed_stack_is_active_again_in_its_namespace_and_domain(
        self, proc_output: Any
    ) -> None:
        active = '[lab.good.perception_node]: active'
        proc_output.assertWaitFor(active, timeout=120)
        first = process_of('/lab/good')
        os.kill(first, signal.SIGKILL)
        proc_output.assertWaitFor(active, timeout=120, process='stack-3')
        second = process_of('/lab/good')
        environment = Path(f'/proc/{second}/environ').read_text()
        assert second != first and f'ROS_DOMAIN_ID={DOMAIN}\0' in environment


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Tests after Ctrl-C."""

    def test_a_stack_with_an_unknown_model_ran_once(self, proc_info: Any) -> None:
        statuses = [proc_info[name].returncode for name in proc_info.process_names()]
        assert sorted(statuses) == [-signal.SIGKILL, 0, ExitStatus.CONFIGURATION]
        FOLDER.cleanup()
