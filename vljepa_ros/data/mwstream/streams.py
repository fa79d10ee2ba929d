# SPDX-License-Identifier: Apache-2.0
"""One stream: episodes of different tasks and colours, rests, light off and on, all from a seed.

The stream's frames are (T, 96, 96, 3) uint8 at 10 frames/s; its annotations tile it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Annotation, StreamData
from vljepa_ros.data.mwstream.episode import Episode, EpisodePlan, simulate
from vljepa_ros.data.mwstream.scene import VIEWPOINTS, Scene, View, draw_look, draw_view
from vljepa_ros.data.mwstream.tasks import (
    COLOUR_NAMES,
    TASKS,
    TRAIN_TASKS,
    meaning_of,
    training_colours,
)

RATE_HZ = 10
PERIOD_NS = 100_000_000
FIRST_STAMP_NS = 1_000_000_000
SIZE = 96
SHORTEST_FRAMES = 8  # a phase under 0.8 s joins the next
DARK_BELOW = 0.15
TRIES = 3  # an episode that fails is drawn again, at most this often


@dataclass(frozen=True)
class Style:
    """How a split's streams are drawn; times in seconds."""

    rest_s: tuple[float, float]
    hold_s: tuple[float, float]
    speeds: tuple[float, ...]  # probability of 1, 2, ... control steps a frame
    light_gap_s: float
    dark_s: tuple[float, float]
    noise: float
    held_out_colours: bool  # whether combinations unseen in training may appear


TRAINING = Style((1.5, 6.0), (1.5, 3.0), (0.6, 0.25, 0.1, 0.05), 30.0, (2.0, 6.0), 0.2, False)
EVALUATION = Style((4.0, 12.0), (1.5, 3.0), (1.0,), 60.0, (3.0, 7.0), 0.1, True)
# The sample bag is short: briefer rests, and only what training has in other combinations.
SAMPLE = Style((3.0, 5.0), (1.5, 3.0), (1.0,), 60.0, (4.0, 6.0), 0.1, False)
STYLES = {'train': TRAINING, 'validation': EVALUATION, 'test': EVALUATION, 'sample': SAMPLE}


@dataclass(frozen=True)
class Moment:
    """What is true of one frame."""

    meaning: str
    phase: str
    episode: int
    task: str
    colour: str
    object_state: str


class Director:
    """Draws and films streams; keeps the scenes of the tasks that it has met."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._scenes: dict[str, Scene] = {}

    def scene(self, task: str) -> Scene:
        """The scene of a task, made at its first use."""
        if task not in self._scenes:
            self._scenes[task] = Scene(task, self._size)
        return self._scenes[task]

    def film(
        self, split: str, seed: int, seconds: float, tasks: tuple[str, ...] = TRAIN_TASKS
    ) -> StreamData:
        """The stream of one seed."""
        style, frames = STYLES[split], round(seconds * RATE_HZ)
        rng = np.random.default_rng([seed, 1])
        view = draw_view(rng, str(rng.choice(list(VIEWPOINTS))))
        episodes = self._episodes(seed, frames, style, tasks, rng)
        moments = [m for i, e in enumerate(episodes) for m in moments_of(e, i)][:frames]
        light = draw_light(frames, style, rng)
        pictures, looks = self._pictures(episodes, view, light, rng)
        annotations = annotate(moments, light)
        meta = {
            'seed': seed,
            'split': split,
            'rate_hz': RATE_HZ,
            'camera': asdict(view),
            'looks': looks,
            'episodes': [
                {**asdict(e.plan), 'frames': len(e.states), 'success': e.success} for e in episodes
            ],
        }
        stamps = FIRST_STAMP_NS + PERIOD_NS * np.arange(frames, dtype=np.int64)
        return StreamData(f'{split}-{seed:05d}', pictures, stamps, tuple(annotations), meta)

    def _episodes(
        self,
        seed: int,
        frames: int,
        style: Style,
        tasks: tuple[str, ...],
        rng: np.random.Generator,
    ) -> list[Episode]:
        episodes: list[Episode] = []
        total = 0
        while total < frames:
            task = task_of(seed, len(episodes), tasks)
            for attempt in range(TRIES):
                plan = draw_plan(task, (seed, len(episodes), attempt), style, rng)
                episode = simulate(self.scene(task), plan)
                if episode.success:
                    break
            episodes.append(episode)
            total += len(episode.states)
        return episodes

    def _pictures(
        self,
        episodes: list[Episode],
        view: View,
        light: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
        frames, at, looks = len(light), 0, []
        pictures = np.empty((frames, self._size, self._size, 3), dtype=np.uint8)
        noise = float(rng.uniform(0.5, 3.0))  # of the camera's sensor, in grey levels
        for episode in episodes:
            scene, look = self.scene(episode.plan.task), draw_look(rng)
            scene.replay(list(episode.plan.seed))
            scene.dress(view, look, episode.plan.colour)
            looks.append(asdict(look))
            previous: tuple[Any, float] | None = None
            for state in episode.states[: frames - at]:
                level = float(light[at])
                if previous is None or previous[1] != level or (previous[0] != state).any():
                    clean = scene.render(state, level)
                    previous = (state, level)
                grain = rng.normal(0.0, noise, clean.shape).astype(np.float32)
                pictures[at] = np.clip(clean + grain + 0.5, 0, 255)
                at += 1
            scene.close()
        return pictures, looks


def task_of(seed: int, index: int, tasks: tuple[str, ...]) -> str:
    """The task of a stream's episode, from one endless deck: any run of streams covers all."""
    at = 5 * (seed % 10_000) + index
    shuffled = np.random.default_rng([seed // 10_000, at // len(tasks), 3]).permutation(len(tasks))
    return tasks[int(shuffled[at % len(tasks)])]


def draw_plan(
    task: str, seed: tuple[int, ...], style: Style, rng: np.random.Generator
) -> EpisodePlan:
    """Colour, speed, noise and the pauses of one episode."""
    colours = COLOUR_NAMES if style.held_out_colours else training_colours(task)
    low, high = style.rest_s
    rest_s = min(low + rng.exponential((high - low) / 4), high)
    return EpisodePlan(
        task=task,
        colour=str(rng.choice(colours)),
        seed=seed,
        steps_per_frame=int(rng.choice(len(style.speeds), p=style.speeds)) + 1,
        noise=round(float(rng.uniform(0.0, style.noise)), 4),
        rest_frames=round(rest_s * RATE_HZ),
        hold_frames=round(float(rng.uniform(*style.hold_s)) * RATE_HZ),
    )


def draw_light(frames: int, style: Style, rng: np.random.Generator) -> NDArray[np.float64]:
    """The light's level at every frame: 1, with times of darkness, some entered gradually."""
    level = np.ones(frames)
    at = int(RATE_HZ * (2.0 + rng.exponential(style.light_gap_s)))
    while at < frames:
        dark = int(RATE_HZ * rng.uniform(*style.dark_s))
        fade = 0 if rng.random() < 0.5 else int(RATE_HZ * rng.uniform(0.5, 1.5))
        rest = float(rng.uniform(0.0, 0.04))
        down = np.linspace(1.0, rest, fade + 2)[1:-1]
        shape = np.concatenate([down, np.full(dark, rest), down[::-1]])[: frames - at]
        level[at : at + len(shape)] = shape
        at += len(shape) + int(RATE_HZ * (3.0 + rng.exponential(style.light_gap_s)))
    return level


def moments_of(episode: Episode, index: int) -> list[Moment]:
    """What is true of each frame of an episode."""
    plan = episode.plan
    return [
        Moment(
            meaning_of(plan.task, phase, plan.colour), phase, index, plan.task, plan.colour, state
        )
        for phase, state in zip(episode.phases, episode.object_states, strict=True)
    ]


def annotate(moments: list[Moment], light: NDArray[np.float64]) -> list[Annotation]:
    """Runs of one meaning, dark over all else; a run under 0.8 s joins the next."""
    keys = [
        ('dark', 'dark', m.episode) if level < DARK_BELOW else (m.meaning, m.phase, m.episode)
        for m, level in zip(moments, light, strict=True)
    ]
    runs: list[list[int]] = []
    for i, key in enumerate(keys):
        joins = (
            runs and key[:2] == keys[i - 1][:2] and (key[2] == keys[i - 1][2] or key[0] == 'dark')
        )
        if joins:
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    return [_annotation(moments, keys[r[2]], r) for r in _join_short(runs, keys)]


def _join_short(runs: list[list[int]], keys: list[tuple[str, str, int]]) -> list[list[int]]:
    """Runs as [start, end, a frame that names them]; never names a lit run dark."""
    joined: list[list[int]] = []
    pending = -1
    for index, (start, end) in enumerate(runs):
        begin = start if pending < 0 else pending
        pending = -1
        last = index + 1 == len(runs)
        next_dark = not last and keys[runs[index + 1][0]][0] == 'dark'
        if end - begin >= SHORTEST_FRAMES or keys[start][0] == 'dark':
            joined.append([begin, end, start])
        elif joined and (last or next_dark):
            joined[-1][1] = end
        elif last or next_dark:
            joined.append([begin, end, start])
        else:
            pending = begin
    return joined


def _annotation(moments: list[Moment], key: tuple[str, str, int], run: list[int]) -> Annotation:
    start, end, named = run
    part, moment = moments[start:end], moments[named]
    own = [m for m in part if m.meaning == key[0]] or part
    states = {m.object_state for m in own}
    return Annotation(
        start=start / RATE_HZ,
        end=end / RATE_HZ,
        meaning=key[0],
        phase=key[1],
        task=moment.task,
        object=TASKS[moment.task].object,
        colour=moment.colour,
        light=key[0] != 'dark',
        object_state=states.pop() if len(states) == 1 else '',
        success=key[1] == 'done',
        episode=moment.episode,
    )
