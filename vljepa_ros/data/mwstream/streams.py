# SPDX-License-Identifier: Apache-2.0
"""A stream: episodes of different tasks one after another, seen by one camera; the light goes.

Everything follows from one seed. Frames come at 10 a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vljepa_ros.data.format import Annotation, StreamWriter
from vljepa_ros.data.mwstream.episode import Plan, Take, play
from vljepa_ros.data.mwstream.scene import VIEWPOINTS, Look, Scene, View, draw_look, draw_view
from vljepa_ros.data.mwstream.tasks import COLOUR_NAMES, tasks

RATE_HZ = 10
DARK_LEVEL = 0.15  # below this share of the light it is dark


@dataclass(frozen=True)
class Style:
    """How the streams of a split are drawn; durations in frames."""

    rest: tuple[int, int]
    done: tuple[int, int]
    steps_per_frame: tuple[int, ...]
    noise: float
    dark_share: float
    image_size: int = 96


TRAINING = Style((10, 45), (10, 25), (1, 1, 1, 2), 0.1, 0.25)
EVALUATION = Style((40, 80), (15, 30), (1,), 0.05, 0.2)


class Studio:
    """Makes and keeps the scenes of one process; OSMesa renders one at a time."""

    def __init__(self, image_size: int) -> None:
        self._size, self._scenes = image_size, dict[str, Scene]()

    def play(
        self, task: str, plan: Plan, view: View, look: Look, light: Callable[[int], float]
    ) -> Take:
        """One episode of `task`."""
        if task not in self._scenes:
            self._scenes[task] = Scene(task, tasks()[task].bodies, self._size)
        scene = self._scenes[task]
        scene.open()
        try:
            return play(scene, plan, view, look, light)
        finally:
            scene.close()


class LightSwitch:
    """At most one outage an episode; a light level for each frame."""

    def __init__(self, rng: np.random.Generator, share: float) -> None:
        self._on = bool(rng.random() < share)
        self._start, self._length = int(rng.integers(5, 80)), int(rng.integers(15, 40))
        self._ramp = int(rng.choice([1, 1, 8]))
        self._low = float(rng.uniform(0.0, 0.06))

    def __call__(self, frame: int) -> float:
        """Light level of a frame, 0..1."""
        if not self._on:
            return 1.0
        into, left = frame - self._start, self._start + self._length - frame
        shade = min(max(min(into, left) / self._ramp, 0.0), 1.0)
        return 1.0 - shade * (1.0 - self._low)


def write_stream(
    studio: Studio, folder: Path, seed: int, seconds: float, names: Iterable[str], style: Style
) -> None:
    """Render one stream of `seconds` of the tasks `names`, in order, into `folder`."""
    rng = np.random.default_rng(seed)
    view = draw_view(rng, str(rng.choice(list(VIEWPOINTS))))
    with StreamWriter(folder, RATE_HZ) as writer:
        episodes: list[dict[str, Any]] = []
        for number, task in enumerate(names):
            if writer.frame_count >= seconds * RATE_HZ:
                break
            plan, look = draw_plan(rng, seed, number, style), draw_look(rng)
            light = LightSwitch(rng, style.dark_share)
            take = studio.play(task, plan, view, look, light)
            episodes.append({
                'task': task, 'first_frame': writer.frame_count, 'succeeded': take.succeeded,
                **dataclasses.asdict(plan), 'look': dataclasses.asdict(look),
            })
            append(writer, task, plan.colour, take, light)
        writer.finish({
            'seed': seed, 'view': dataclasses.asdict(view), 'episodes': episodes,
        })


def draw_plan(rng: np.random.Generator, seed: int, number: int, style: Style) -> Plan:
    """One episode's plan; its own seed follows from the stream's and its number in it."""
    return Plan(
        seed=seed * 1000 + number,
        colour=str(rng.choice(COLOUR_NAMES)),
        rest_frames=int(rng.integers(*style.rest)),
        done_frames=int(rng.integers(*style.done)),
        act_frames=140,
        steps_per_frame=int(rng.choice(style.steps_per_frame)),
        noise=style.noise * float(rng.random()),
    )


def append(writer: StreamWriter, task: str, colour: str, take: Take, light: LightSwitch) -> None:
    """Add an episode's frames and annotations: runs of equal labels, dark over everything."""
    first = writer.frame_count
    writer.add(take.frames)
    labels = [
        'dark' if light(n) < DARK_LEVEL else phase for n, phase in enumerate(take.phases)
    ]
    begin = 0
    for end in range(1, len(labels) + 1):
        if end == len(labels) or labels[end] != labels[begin]:
            phase = labels[begin]
            writer.annotate(Annotation(
                start=(first + begin) / RATE_HZ, end=(first + end) / RATE_HZ,
                meaning=tasks()[task].meaning(phase, colour), phase=phase, task=task,
                object=tasks()[task].object, colour=colour, light=phase != 'dark',
                success=take.phases[begin] == 'done',
            ))
            begin = end


