# SPDX-License-Identifier: Apache-2.0
"""Simulation of one episode of a task by a scripted policy, with a phase for every frame.

The phases are `rest`, `reach` (until the arm touches the object), `contact` (until the object
moves), `act` (until success) and `done` (the final state is held). Some episodes fail, because the
policy stops early or belongs to another task. In some episodes, a second policy then undoes the
result. This module does not render; images are rendered later from the recorded joint positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.simulators.mwstream.labels import phases
from vljepa_ros.data.simulators.mwstream.record import Episode, EpisodePlan, Instant
from vljepa_ros.data.simulators.mwstream.scene import Scene
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, UNDONE_BY

MOVED_M = 0.012  # displacement from which an object counts as moving
RESTORED_M = 0.03  # distance to the initial position up to which an object counts as restored
SETTLE_STEPS = 12  # control steps for objects to come to rest after a reset
LIMIT_STEPS = 260  # an episode without success after this number of steps has failed
FOLLOW_STEPS = 4  # control steps that the policy continues after success
LIFT_STEPS = 15  # control steps in which the hand rises before the undo
WRONG_STEPS = 6  # control steps that another task's policy continues after contact


class EpisodeRecorder:
    """Recorder of one episode, which steps the simulator and stores its state for each frame."""

    def __init__(self, scene: Scene, plan: EpisodePlan) -> None:
        self.scene, self._facts = scene, TASKS[plan.task]
        self._rng = np.random.default_rng([*plan.seed, 7])
        self.episode = Episode(plan)
        self.contact, self.succeeded, self.leaving, self.back = False, False, False, False
        self._obs: Any = scene.reset(list(plan.seed))
        for _ in range(SETTLE_STEPS):
            self._obs = scene.env.step(np.array([0.0, 0.0, 0.0, -1.0]))[0]
        self._start = scene.object_position()

    def note(self) -> None:
        """Record the current state as one frame."""
        before, after = self._facts.before, self._facts.after
        name = after if self.succeeded and not self.leaving else ''
        name = before if not self.moved or self.back else name
        self.episode.instants.append(
            Instant(
                self.scene.state(),
                float(self._obs[3]),
                *self.scene.grip(),
                self.scene.opening(),
                name,
            )
        )

    def act(self, policy: Any) -> NDArray[np.float64]:
        """Run one control step of the policy, with noise, and return the action."""
        action = np.asarray(policy.get_action(self._obs), dtype=np.float64)
        action[:3] += self._rng.normal(0.0, self.episode.plan.noise, 3)
        action = np.clip(action, -1.0, 1.0)
        self.step(action)
        return action

    def step(self, action: NDArray[np.float64]) -> None:
        """Run one control step with `action`, and update the flags for contact and success."""
        self._obs, _, _, _, info = self.scene.env.step(action)
        self.contact = self.contact or self.scene.grip()[0]
        self.succeeded = self.succeeded or bool(info['success'] > 0)

    @property
    def displacement(self) -> float:
        """Return the object's distance from its initial position in meters."""
        return float(np.linalg.norm(self.scene.object_position() - self._start))

    @property
    def moved(self) -> bool:
        """Return whether the object is more than `MOVED_M` from its initial position."""
        return self.displacement > MOVED_M


@dataclass
class AttemptEvents:
    """Frame numbers of the first contact, movement and success in an attempt; -1 if absent."""

    contact: int = -1
    moved: int = -1
    success: int = -1

    def note(self, frame: int, contact: bool, moved: bool, success: bool) -> None:
        """Store `frame` as the frame number of each event that occurs for the first time.

        The flags are whether the gripper has touched the object, the object has moved, and the
        task has succeeded. A movement also counts as contact.
        """
        self.contact = frame if self.contact < 0 and (contact or moved) else self.contact
        self.moved = frame if self.moved < 0 and moved else self.moved
        self.success = frame if self.success < 0 and success else self.success


def simulate(scene: Scene, plan: EpisodePlan) -> Episode:
    """Run one episode (rest, attempt, hold and possibly an undo) and return its record."""
    recorder = EpisodeRecorder(scene, plan)
    episode = recorder.episode
    for _ in range(plan.rest_frames):
        recorder.note()
    _label(episode, ['rest'] * plan.rest_frames, plan.task)
    policy = scene.policy(UNDONE_BY[plan.task] if plan.ending == 'wrong' else plan.task)
    events, grip = _attempt(recorder, policy)
    episode.success = events.success >= 0
    ended = episode.success or plan.ending in ('stopped', 'wrong')
    _hold(recorder, plan.hold_frames if ended else 0, grip)
    _label_attempt(episode, events, plan.task)
    if plan.ending == 'undone' and episode.success:
        _undo(recorder)
    return episode


def _attempt(recorder: EpisodeRecorder, policy: Any) -> tuple[AttemptEvents, float]:
    """Run the policy until success, its planned stop or the step limit.

    Returns:
        The frame numbers of contact, movement and success, and the last gripper command.
    """
    episode, plan = recorder.episode, recorder.episode.plan
    events, action, follow, touched = AttemptEvents(), np.zeros(4), 0, 0
    limit = plan.stop_steps if plan.ending == 'stopped' else LIMIT_STEPS
    for step in range(limit):
        action = recorder.act(policy)
        if step % plan.steps_per_frame == 0:
            recorder.note()
        events.note(len(episode.instants), recorder.contact, recorder.moved, recorder.succeeded)
        follow += recorder.succeeded
        touched += recorder.contact
        if follow > FOLLOW_STEPS or (plan.ending == 'wrong' and touched > WRONG_STEPS):
            break
    if plan.ending == 'wrong':
        events = AttemptEvents()  # no result, even if the simulator reports success
    return events, float(action[3])


def _undo(recorder: EpisodeRecorder) -> None:
    """Undo the result of the episode with the policy of the opposite task."""
    episode, plan = recorder.episode, recorder.episode.plan
    back = UNDONE_BY[plan.task]
    for step in range(LIFT_STEPS):
        recorder.step(np.array([0.0, 0.0, 1.0, -1.0]))
        if step % plan.steps_per_frame == 0:
            recorder.note()
    _label(episode, ['done'] * (len(episode.instants) - len(episode.phases)), plan.task)
    policy, events, follow, action = recorder.scene.policy(back), AttemptEvents(), 0, np.zeros(4)
    far, recorder.contact = recorder.displacement, False
    for step in range(LIMIT_STEPS):
        action = recorder.act(policy)
        moved = abs(recorder.displacement - far) > MOVED_M
        recorder.leaving = recorder.leaving or moved
        recorder.back = recorder.back or recorder.displacement < RESTORED_M
        if step % plan.steps_per_frame == 0:
            recorder.note()
        events.note(len(episode.instants), recorder.contact, moved, recorder.back)
        follow += recorder.back
        if follow > FOLLOW_STEPS:
            break
    _hold(recorder, plan.hold_frames if recorder.back else 0, float(action[3]))
    _label_attempt(episode, events, back)


def _hold(recorder: EpisodeRecorder, frames: int, grip: float) -> None:
    """Hold the arm in place for `frames` frames with the gripper command `grip`."""
    for _ in range(frames):
        for _ in range(recorder.episode.plan.steps_per_frame):
            recorder.step(np.array([0.0, 0.0, 0.0, grip]))
        recorder.note()


def _label_attempt(episode: Episode, events: AttemptEvents, task: str) -> None:
    """Add phases to the frames of an attempt; frames held after a failure get the phase `rest`."""
    first, count = len(episode.phases), len(episode.instants)
    held = 0
    if events.success < 0 and episode.plan.ending in ('stopped', 'wrong'):
        held = episode.plan.hold_frames
    names = phases(
        count - first - held,
        *(m - first if m >= 0 else -1 for m in (events.contact, events.moved, events.success)),
    )
    _label(episode, [*names, *['rest'] * held], task)


def _label(episode: Episode, names: list[str], task: str) -> None:
    episode.phases += names
    episode.tasks += [task] * len(names)
