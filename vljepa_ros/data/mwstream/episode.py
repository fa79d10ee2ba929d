# SPDX-License-Identifier: Apache-2.0
"""Episodes: a scripted policy acts in a scene; every frame gets a phase from simulator state.

Phases of an episode: rest, reach (until the object first moves, but no later than a second before
success), act (until success), done. An episode that does not succeed in time has no done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.mwstream.scene import Look, Scene, View

MOVED_M = 0.008  # displacement of the object that counts as contact
LEAD_FRAMES = 10  # the last second of the approach belongs to the act
SHORT_FRAMES = 8  # a shorter phase joins the next
POSITION = slice(4, 7)  # the main object's position in an observation


@dataclass(frozen=True)
class Plan:
    """What an episode is made of; durations in frames of 0.1 s, steps in control steps of 12.5 ms."""

    seed: int
    colour: str
    rest_frames: int
    done_frames: int
    act_frames: int
    steps_per_frame: int
    noise: float


@dataclass
class Take:
    """A played episode: pictures (T, S, S, 3), one phase a frame, and the simulator's state."""

    frames: NDArray[np.uint8]
    phases: list[str]
    succeeded: bool


def play(
    scene: Scene, plan: Plan, view: View, look: Look, light: Callable[[int], float]
) -> Take:
    """Run one episode. `light` gives the light level (0 dark, 1 normal) of the n-th frame."""
    rng = np.random.default_rng(plan.seed)
    obs = scene.reset(plan.seed, view, look, plan.colour)
    policy, frames = scene.policy(), []
    still = np.array([0.0, 0.0, 0.0, -1.0])
    for _ in range(max(plan.rest_frames, 1)):
        obs = _steps(scene, still, plan.steps_per_frame)
        frames.append(scene.render(light(len(frames))))
    rested, start = len(frames), obs[POSITION].copy()
    moved = success = -1
    while len(frames) < rested + plan.act_frames:
        for _ in range(plan.steps_per_frame):
            action = np.clip(policy.get_action(obs), -1, 1)
            action[:3] += rng.normal(0, plan.noise, 3)
            obs, _, _, _, info = scene.env.step(np.clip(action, -1, 1))
            if success < 0 and info['success'] > 0:
                success = len(frames)
        if moved < 0 and np.linalg.norm(obs[POSITION] - start) > MOVED_M:
            moved = len(frames)
        frames.append(scene.render(light(len(frames))))
        if success >= 0 and len(frames) - success >= plan.done_frames:
            break
    return Take(
        np.stack(frames), phases(len(frames), rested, moved, success), success >= 0
    )


def phases(count: int, rested: int, moved: int, success: int) -> list[str]:
    """One phase a frame from the frame numbers of contact and success (-1: never)."""
    end = success if success >= 0 else count
    act = moved if moved >= 0 else rested
    if success >= 0:
        act = min(act, max(rested, success - LEAD_FRAMES))
    if act - rested < SHORT_FRAMES:
        act = rested
    names = ['rest'] * rested + ['reach'] * (act - rested) + ['act'] * (end - act)
    return names + ['done'] * (count - end)


def _steps(scene: Scene, action: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    for _ in range(count):
        obs = scene.env.step(action)[0]
    return obs  # type: ignore[no-any-return]
