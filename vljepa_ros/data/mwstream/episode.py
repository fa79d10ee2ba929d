# SPDX-License-Identifier: Apache-2.0
"""One scripted episode of a task, with the phase of every frame read from the simulator's state.

Phases run in one direction: rest (the new scene, the arm still), reach (until contact, but no
later than a second before success), act (until success), done (the final state, held). Nothing is
drawn here; pictures are made later from the recorded joints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.mwstream.scene import Scene
from vljepa_ros.data.mwstream.tasks import TASKS

MOVED_M = 0.012  # an object displaced by this much is being moved
LEAD_FRAMES = 10  # the last second before success belongs to the act
SHORT_FRAMES = 8  # a shorter phase joins the next
SETTLE_STEPS = 12  # control steps for things to come to rest after a reset
LIMIT_STEPS = 260  # an episode without success by then has failed
FOLLOW_STEPS = 4  # the policy goes on this long after success


@dataclass(frozen=True)
class EpisodePlan:
    """What was drawn for one episode; times in frames, noise as a share of the full action."""

    task: str
    colour: str
    seed: tuple[int, ...]
    steps_per_frame: int
    noise: float
    rest_frames: int
    hold_frames: int


@dataclass
class Episode:
    """The recorded frames: joints, phase and the object's state of each."""

    plan: EpisodePlan
    states: list[NDArray[np.float64]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    object_states: list[str] = field(default_factory=list)
    success: bool = False


class Recorder:
    """Steps the simulator through one episode, and notes frames."""

    def __init__(self, scene: Scene, plan: EpisodePlan) -> None:
        self._scene, self._facts = scene, TASKS[plan.task]
        self._rng = np.random.default_rng([*plan.seed, 7])
        self.episode = Episode(plan)
        self.contact, self.succeeded = False, False
        self._obs: Any = scene.reset(list(plan.seed))
        for _ in range(SETTLE_STEPS):
            self._obs = scene.env.step(np.array([0.0, 0.0, 0.0, -1.0]))[0]
        self._start = scene.object_position()

    def note(self) -> None:
        """Record the present state as one frame."""
        state = self._facts.before if not self._moved() else ''
        self.episode.states.append(self._scene.state())
        self.episode.object_states.append(self._facts.after if self.succeeded else state)

    def act(self, policy: Any) -> NDArray[np.float64]:
        """One control step of the policy; returns the action."""
        action = np.asarray(policy.get_action(self._obs), dtype=np.float64)
        action[:3] += self._rng.normal(0.0, self.episode.plan.noise, 3)
        action = np.clip(action, -1.0, 1.0)
        self.step(action)
        return action

    def step(self, action: NDArray[np.float64]) -> None:
        """One control step."""
        self._obs, _, _, _, info = self._scene.env.step(action)
        self.contact = self.contact or self._moved() or self._scene.touched()
        self.succeeded = self.succeeded or bool(info['success'] > 0)

    def _moved(self) -> bool:
        return bool(np.linalg.norm(self._scene.object_position() - self._start) > MOVED_M)


def simulate(scene: Scene, plan: EpisodePlan) -> Episode:
    """Run one episode: rest, the policy until success, then the final state held."""
    recorder = Recorder(scene, plan)
    episode, policy = recorder.episode, scene.policy()
    for _ in range(plan.rest_frames):
        recorder.note()
    action, follow, contact, success = np.zeros(4), 0, -1, -1
    for step in range(LIMIT_STEPS):
        action = recorder.act(policy)
        if step % plan.steps_per_frame == 0:
            recorder.note()
        if contact < 0 and recorder.contact:
            contact = len(episode.states)
        if success < 0 and recorder.succeeded:
            success = len(episode.states)
        follow += recorder.succeeded
        if follow > FOLLOW_STEPS:
            break
    for _ in range(plan.hold_frames if recorder.succeeded else 0):
        for _ in range(plan.steps_per_frame):
            recorder.step(np.array([0.0, 0.0, 0.0, action[3]]))
        recorder.note()
    episode.success = recorder.succeeded
    episode.phases = phases(len(episode.states), plan.rest_frames, contact, success)
    return episode


def phases(count: int, rested: int, contact: int, success: int) -> list[str]:
    """One phase a frame, from the frame numbers of contact and success (-1: never)."""
    end = success if success >= 0 else count
    act = contact if contact >= 0 else end
    if success >= 0:
        act = min(act, max(rested, success - LEAD_FRAMES))
    if act - rested < SHORT_FRAMES:
        act = rested
    names = ['rest'] * rested + ['reach'] * (act - rested) + ['act'] * (end - act)
    return names + ['done'] * (count - end)
