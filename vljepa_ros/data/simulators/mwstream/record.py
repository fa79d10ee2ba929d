# SPDX-License-Identifier: Apache-2.0
"""What is recorded of an episode before any picture is drawn. No simulator."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpisodePlan:
    """What was drawn for one episode; times in frames, noise as a share of the full action.

    `ending`: 'success', 'stopped' (the policy stops after `stop_steps` control steps), 'wrong'
    (another task's policy until contact) or 'undone' (success, then back).
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
    """The simulator's state at one frame.

    joints: all that a picture needs. gripper: 0 closed .. 1 open. opening: the object's joint
    between its ends, 0..1, nan where it has none. object_state: its name, '' where it has none.
    """

    joints: NDArray[np.float64]
    gripper: float
    contact: bool
    holding: bool
    opening: float
    object_state: str


@dataclass
class Episode:
    """The recorded frames: instant, phase and task of each."""

    plan: EpisodePlan
    instants: list[Instant] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    success: bool = False


@dataclass(frozen=True)
class Thing:
    """A distractor on the table: its kind, color, place (m) and scale (1: as `SHAPES` has it)."""

    kind: str
    colour: str
    place_m: tuple[float, float]
    scale: float = 1.0


@dataclass(frozen=True)
class Prop:
    """A thing beside a task: there from frame `first` of its episode to before `last`."""

    thing: Thing
    first: int
    last: int

    @property
    def name(self) -> str:
        """What a sentence calls it: 'blue tin'."""
        return f'{self.thing.colour} {self.thing.kind}'
