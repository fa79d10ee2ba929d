# SPDX-License-Identifier: Apache-2.0
"""Records of an episode before rendering. No simulator is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpisodePlan:
    """Random parameters of one episode; times in frames, noise as a fraction of the full action.

    `ending`: 'success', 'stopped' (the policy stops after `stop_steps` control steps), 'wrong'
    (another task's policy runs until contact) or 'undone' (success, then the opposite task).
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
    """State of the simulator at one frame.

    joints: positions, sufficient for rendering. gripper: 0 closed .. 1 open. opening: the object's
    joint within its range, 0..1, NaN without a joint. object_state: its name, '' if it has none.
    """

    joints: NDArray[np.float64]
    gripper: float
    contact: bool
    holding: bool
    opening: float
    object_state: str


@dataclass
class Episode:
    """Recorded frames with the instant, phase and task of each."""

    plan: EpisodePlan
    instants: list[Instant] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    success: bool = False


@dataclass(frozen=True)
class Thing:
    """Distractor on the table: kind, color, position (m) and scale (1: as in `SHAPES`)."""

    kind: str
    colour: str
    place_m: tuple[float, float]
    scale: float = 1.0


@dataclass(frozen=True)
class Prop:
    """Distractor next to a task, present from frame `first` of its episode up to before `last`."""

    thing: Thing
    first: int
    last: int

    @property
    def name(self) -> str:
        """Return its name in sentences: 'blue tin'."""
        return f'{self.thing.colour} {self.thing.kind}'
