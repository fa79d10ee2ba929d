# SPDX-License-Identifier: Apache-2.0
"""Behaviors for py_trees (`pip install py_trees`): ask a question, and wait for a condition.

Neither blocks a tick. This tree opens the drawer if it is closed, and waits until it is open:

    opening = [OpenDrawer(), Happens(robot, 'the drawer is open')]
    Selector('drawer', True, [
        Holds(robot, 'Is the drawer open?'),
        Sequence('open it', True, opening),
    ])
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from py_trees.behaviour import Behaviour
from py_trees.common import Status

from vljepa_ros.client.planner_client import Client, Watching
from vljepa_ros.core.errors import VljepaError


class Holds(Behaviour):
    """Succeeds on a confident yes; fails on no, and on an abstention."""

    def __init__(self, robot: Client, question: str, confidence: float = 0.7) -> None:
        super().__init__(question)
        self._robot, self._question, self._confidence = robot, question, confidence
        self._asked: Future[Any] | None = None

    def initialise(self) -> None:
        """Send the question."""
        self._asked = self._robot.query_later(self._question, ['yes', 'no'])

    def update(self) -> Status:
        """Return RUNNING until there is an answer."""
        assert self._asked is not None
        if not self._asked.done():
            return Status.RUNNING
        try:
            found = self._asked.result()
        except VljepaError as error:
            self.feedback_message = str(error)
            return Status.FAILURE
        self.feedback_message = f'{found.answer} ({found.confidence:.0%})'
        sure = not found.abstained and found.confidence >= self._confidence
        return Status.SUCCESS if sure and found.answer == 'yes' else Status.FAILURE


class Happens(Behaviour):
    """Runs until a condition comes true; fails after `timeout_s` of ROS time."""

    def __init__(self, robot: Client, condition: str, timeout_s: float = 30.0) -> None:
        super().__init__(condition)
        self._robot, self._condition, self._timeout_s = robot, condition, timeout_s
        self._watching: Watching | None = None

    def initialise(self) -> None:
        """Start to watch."""
        self._watching = self._robot.watch(self._condition, self._timeout_s)

    def update(self) -> Status:
        """Return RUNNING until the condition is true or the timeout has passed."""
        assert self._watching is not None
        self.feedback_message = f'{self._watching.score:.0%}'
        if not self._watching.done():
            return Status.RUNNING
        try:
            return Status.SUCCESS if self._watching.result() else Status.FAILURE
        except VljepaError as error:
            self.feedback_message = str(error)
            return Status.FAILURE

    def terminate(self, new_status: Status) -> None:
        """Cancel the watch if the tree interrupts this behavior."""
        if self._watching is not None and new_status is Status.INVALID:
            self._watching.cancel()
