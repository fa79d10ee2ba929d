# SPDX-License-Identifier: Apache-2.0
"""Records of an episode, from which it is rendered later. No simulator is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpisodePlan:
    """Random parameters of one episode.

    Attributes:
        task: Name of the task.
        colour: Color of the task's object.
        seed: Seed of the simulation.
        steps_per_frame: Number of control steps per frame.
        noise: Standard deviation of the action noise, as a fraction of the full action.
        rest_frames: Frames of rest before the attempt.
        hold_frames: Frames in which the final pose is held.
        ending: 'success', 'stopped' (the policy stops after `stop_steps`), 'wrong' (another task's
            policy runs until contact) or 'undone' (the opposite task follows a success).
        stop_steps: Number of control steps until the policy stops.
    """

    task: str
    colour: str
    seed: tuple[int, ...]
    steps_per_frame: int
    noise: float
    rest_frames: int
    hold_frames: int
    ending: str = 'success'
    stop_steps: int = 0


@dataclass(frozen=True)
class Instant:
    """State of the simulator in one frame.

    Attributes:
        joints: Joint positions, which suffice for rendering.
        gripper: Opening of the gripper, from 0 (closed) to 1 (open).
        contact: Whether the gripper touches the task's object.
        holding: Whether both fingers touch the object.
        opening: Position of the object's joint in its range, from 0 to 1; NaN without a joint.
        object_state: Name of the object's state, or ''.
    """

    joints: NDArray[np.float64]
    gripper: float
    contact: bool
    holding: bool
    opening: float
    object_state: str


@dataclass
class Episode:
    """Recorded episode: the plan, and an instant, a phase and a task for each frame.

    `success` is whether the task succeeded.
    """

    plan: EpisodePlan
    instants: list[Instant] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    success: bool = False


@dataclass(frozen=True)
class Thing:
    """Distractor on the table: an object that has nothing to do with the task.

    Attributes:
        kind: Name of the shape (see `scene.SHAPES`).
        colour: Name of the color.
        place_m: Position (x, y) on the table.
        scale: Size relative to `scene.SHAPES`.
    """

    kind: str
    colour: str
    place_m: tuple[float, float]
    scale: float = 1.0


@dataclass(frozen=True)
class Prop:
    """Distractor that is present in an episode from frame `first` to frame `last` - 1."""

    thing: Thing
    first: int
    last: int

    @property
    def name(self) -> str:
        """Return color and name of the distractor, such as 'blue tin'."""
        return f'{self.thing.colour} {self.thing.kind}'
