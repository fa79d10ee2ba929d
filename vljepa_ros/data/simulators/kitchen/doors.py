# SPDX-License-Identifier: Apache-2.0
"""Movements of the kitchen's doors and their annotations. No simulator is needed.

Openings are (T, D) float64 for D doors in T frames, from 0 (closed) to 1 (fully open). The levels
of light and cover are defined in `data.lens`. A door moves only while the light is on and the lens
is uncovered, so that changes do not coincide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.concepts import ANY
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.lens import COVERED_ABOVE, DARK_BELOW, Level
from vljepa_ros.data.simulators.mwstream.labels import RATE_HZ, FrameLabels, annotate
from vljepa_ros.data.simulators.mwstream.tasks import meaning_of

# Name of a joint in the simulator -> name of its door in sentences.
DOORS = {
    'microwave': 'microwave door',
    'slide_cabinet': 'sliding cabinet door',
    'left_hinge_cabinet': 'left cabinet door',
    'right_hinge_cabinet': 'right cabinet door',
}
MOVE_S, REST_S = (1.0, 3.0), (3.0, 8.0)
WIDE = (0.7, 1.0)  # range of the opening of an open door
FREE_FRAMES = RATE_HZ  # lit and uncovered frames before and after a movement
OPEN, CLOSE = 'door-open', 'door-close'  # tasks of Meta-World with the same concepts
STATES = {OPEN: 'open', CLOSE: 'closed'}

Openings = NDArray[np.float64]


@dataclass(frozen=True)
class Movement:
    """Movement of one door.

    Attributes:
        door: Name of the door's joint (see `DOORS`).
        first: First frame.
        last: Last frame.
        before: Opening at the first frame, from 0 (closed) to 1 (fully open).
        after: Opening at the last frame.
    """

    door: str
    first: int
    last: int
    before: float
    after: float


def draw_movements(light: Level, cover: Level, rng: np.random.Generator) -> list[Movement]:
    """Draw random movements of one door at a time, with rests between them.

    Half of the doors that move are open at first. Doors that never move are closed.

    Args:
        light: Light levels (T,).
        cover: Cover levels (T,).
        rng: Random generator.
    """
    free = (light == 1.0) & (cover == 0.0)
    now = {door: rng.uniform(*WIDE) if rng.random() < 0.5 else 0.0 for door in DOORS}
    found: list[Movement] = []
    at = _frames(REST_S, rng)
    while True:
        door, length = str(rng.choice(list(DOORS))), _frames(MOVE_S, rng)
        first = _next_free(free, at, length)
        if first is None:
            return found
        after = 0.0 if now[door] else float(rng.uniform(*WIDE))
        found.append(Movement(door, first, first + length, now[door], after))
        now[door], at = after, first + length + _frames(REST_S, rng)


def openings(frames: int, movements: Sequence[Movement]) -> Openings:
    """Return the openings (T, D) of all doors; a door that never moves is closed.

    Args:
        frames: Number of frames, T.
        movements: Movements, sorted by time.
    """
    found = np.zeros((frames, len(DOORS)))
    for column, door in enumerate(DOORS):
        own = [m for m in movements if m.door == door]
        if own:
            found[:, column] = own[0].before
        for m in own:
            way = (1.0 - np.cos(np.linspace(0.0, np.pi, m.last - m.first + 1))) / 2.0
            found[m.first : m.last + 1, column] = m.before + (m.after - m.before) * way
            found[m.last + 1 :, column] = m.after
    return found


def annotate_doors(opened: Openings, light: Level, cover: Level) -> tuple[Annotation, ...]:
    """Return annotations that cover a stream of door openings without gaps.

    Their `episode` is the number of the newest movement, from 0.

    Args:
        opened: Openings (T, D).
        light: Light levels (T,).
        cover: Cover levels (T,).
    """
    moved = np.diff(opened, axis=0, prepend=opened[:1])
    names, labels = list(DOORS.values()), list[FrameLabels]()
    task, phase, door, movements = OPEN, 'rest', '', list[str]()
    for change, lit, covered in zip(moved, light, cover, strict=True):
        if change.any():
            column = int(np.argmax(np.abs(change)))
            task, door = (OPEN if change[column] > 0 else CLOSE), names[column]
            if phase != 'act':
                movements.append(door)
            phase = 'act'
        elif lit < DARK_BELOW or covered >= COVERED_ABOVE:
            phase = 'rest'
        elif phase == 'act':
            phase = 'done'
        state = STATES[task] if phase == 'done' else ''
        number = max(len(movements) - 1, 0)
        labels.append(
            FrameLabels(meaning_of(task, phase, ANY), phase, number, task, '', state, '')
        )
    return tuple(_with_kitchen_text(item, movements) for item in annotate(labels, light, cover))


def _with_kitchen_text(item: Annotation, movements: Sequence[str]) -> Annotation:
    """Replace an annotation's text by a sentence about the kitchen, and clear its task.

    The object is the door that moves or has moved, and '' in other phases.
    """
    if item.phase not in ('act', 'done'):
        return replace(item, task='', object='')
    door, opens = movements[item.episode], item.task == OPEN
    verb = {'act': 'opens' if opens else 'closes', 'done': f'is {STATES[item.task]}'}[item.phase]
    return replace(item, task='', object=door, text=f'the {door} {verb}')


def _frames(seconds: tuple[float, float], rng: np.random.Generator) -> int:
    return round(float(rng.uniform(*seconds)) * RATE_HZ)


def _next_free(free: NDArray[np.bool_], at: int, length: int) -> int | None:
    """Return the first frame, not before `at`, at which a movement may start, or None.

    Args:
        free: (T,) bool: whether the light is on and the lens uncovered.
        at: Earliest frame.
        length: Length of the movement in frames.
    """
    for first in range(at, len(free) - length - FREE_FRAMES):
        if free[first - FREE_FRAMES : first + length + FREE_FRAMES].all():
            return first
    return None
