# SPDX-License-Identifier: Apache-2.0
"""One stream: episodes of different tasks and colours, rests, light, covers and things that come
and go, all from a seed.

The stream's frames are (T, 96, 96, 3) uint8 at 10 frames/s; its annotations tile it, and its state
is one number a frame of each of `STATE`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import StreamData
from vljepa_ros.data.mwstream.cover import Lens, Level, draw_cover, draw_light
from vljepa_ros.data.mwstream.episode import simulate
from vljepa_ros.data.mwstream.labels import RATE_HZ, SEEN_FRAMES, annotate, moments_of, stamps_ns
from vljepa_ros.data.mwstream.record import Episode, EpisodePlan, Prop
from vljepa_ros.data.mwstream.scene import (
    VIEWPOINTS,
    Scene,
    View,
    draw_look,
    draw_thing,
    draw_view,
)
from vljepa_ros.data.mwstream.tasks import (
    COLOUR_NAMES,
    TEST_TASKS,
    TRAIN_TASKS,
    UNDONE_BY,
    training_colours,
)

SIZE = 96
TRIES = 3  # an episode that fails is drawn again, at most this often
STATE = ('gripper', 'contact', 'holding', 'opening', 'light', 'cover')


@dataclass(frozen=True)
class Style:
    """How a split's streams are drawn; times in seconds, shares of the episodes."""

    rest_s: tuple[float, float]
    hold_s: tuple[float, float]
    speeds: tuple[float, ...]  # probability of 1, 2, ... control steps a frame
    light_gap_s: float
    dark_s: tuple[float, float]
    noise: float
    held_out_colours: bool  # whether combinations unseen in training may appear
    cover_gap_s: float = 60.0
    stopped: float = 0.06
    wrong: float = 0.03
    undone: float = 0.08  # of the tasks that can be
    things: float = 0.55
    moving_things: float = 0.6  # of those: come, go or both


TRAINING = Style((1.5, 6.0), (1.5, 3.0), (0.6, 0.25, 0.1, 0.05), 45.0, (2.0, 5.0), 0.2, False)
EVALUATION = Style((4.0, 12.0), (1.5, 3.0), (1.0,), 75.0, (3.0, 7.0), 0.1, True)
# The sample bag is short: briefer rests, and only what training has in other combinations.
SAMPLE = Style(
    (3.0, 5.0), (1.5, 3.0), (1.0,), 60.0, (4.0, 6.0), 0.1, False, 1e9, 0.0, 0.0, 0.0, 0.0, 0.0
)
STYLES = {
    'train': TRAINING,
    'validation': EVALUATION,
    'test': EVALUATION,
    'unseen': EVALUATION,
    'sample': SAMPLE,
}
SPLIT_TASKS = {'unseen': TEST_TASKS}  # all other splits: TRAIN_TASKS


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

    def film(self, split: str, seed: int, seconds: float) -> StreamData:
        """The stream of one seed."""
        style, frames = STYLES[split], round(seconds * RATE_HZ)
        rng = np.random.default_rng([seed, 1])
        view = draw_view(rng, str(rng.choice(list(VIEWPOINTS))))
        episodes = self._episodes(seed, frames, style, SPLIT_TASKS.get(split, TRAIN_TASKS), rng)
        props = [self._prop(episode, style, rng) for episode in episodes]
        light = draw_light(frames, RATE_HZ, style.light_gap_s, style.dark_s, rng)
        cover = draw_cover(light, RATE_HZ, style.cover_gap_s, style.dark_s, rng)
        pictures, looks = self._pictures(episodes, props, view, light, cover, rng)
        moments = [
            moment
            for i, (episode, prop) in enumerate(zip(episodes, props, strict=True))
            for moment in moments_of(episode, i, prop)
        ][:frames]
        meta = {
            'seed': seed,
            'split': split,
            'rate_hz': RATE_HZ,
            'camera': asdict(view),
            'looks': looks,
            'episodes': [
                {**asdict(e.plan), 'frames': len(e.instants), 'success': e.success}
                for e in episodes
            ],
            'things': [asdict(prop) if prop else None for prop in props],
        }
        return StreamData(
            f'{split}-{seed:05d}',
            pictures,
            stamps_ns(frames),
            tuple(annotate(moments, light, cover)),
            meta,
            state_of(episodes, light, cover),
        )

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
            ending = draw_ending(task, style, rng)
            for attempt in range(TRIES):
                plan = draw_plan(task, ending, (seed, len(episodes), attempt), style, rng)
                episode = simulate(self.scene(task), plan)
                if episode.success or ending in ('stopped', 'wrong'):
                    break
            episodes.append(episode)
            total += len(episode.instants)
        return episodes

    def _prop(self, episode: Episode, style: Style, rng: np.random.Generator) -> Prop | None:
        if rng.random() >= style.things:
            return None
        scene, plan = self.scene(episode.plan.task), episode.plan
        scene.reset(list(plan.seed))
        taken = [scene.object_position()]
        for instant in (episode.instants[0], episode.instants[-1]):
            taken.append(scene.object_position_in(instant.joints))
        thing = draw_thing(rng, plan.colour, np.array(taken))
        if thing is None:
            return None
        count = len(episode.instants)
        first, last = 0, count
        if rng.random() < style.moving_things and count > 6 * SEEN_FRAMES:
            # Not within a second of a cut: it would be all of what is said.
            times = rng.integers(SEEN_FRAMES, count - SEEN_FRAMES, 2)
            way = int(rng.integers(3))
            first = int(times.min()) if way != 1 else 0
            last = int(times.max()) if way != 0 else count
            if way == 2 and last - first < 2 * SEEN_FRAMES:
                last = count
        return Prop(thing, first, last)

    def _pictures(
        self,
        episodes: list[Episode],
        props: list[Prop | None],
        view: View,
        light: Level,
        cover: Level,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
        frames, at, looks = len(light), 0, []
        pictures = np.empty((frames, self._size, self._size, 3), dtype=np.uint8)
        lens = Lens(self._size, rng)
        for episode, prop in zip(episodes, props, strict=True):
            scene, look = self.scene(episode.plan.task), draw_look(rng)
            scene.replay(list(episode.plan.seed))
            scene.dress(view, look, episode.plan.colour)
            looks.append(asdict(look))
            previous: tuple[Any, float, bool] | None = None
            for i, instant in enumerate(episode.instants[: frames - at]):
                level, there = float(light[at]), prop is not None and prop.first <= i < prop.last
                same = previous is not None and previous[1:] == (level, there)
                if previous is None or not same or (previous[0] != instant.joints).any():
                    thing = prop.thing if prop and there else None
                    clean = scene.render(instant.joints, level, thing)
                    previous = (instant.joints, level, there)
                pictures[at] = lens.picture(clean, cover, at)
                at += 1
            scene.close()
        return pictures, looks


def task_of(seed: int, index: int, tasks: tuple[str, ...]) -> str:
    """The task of a stream's episode, from one endless deck: any run of streams covers all."""
    at = 5 * (seed % 10_000) + index
    shuffled = np.random.default_rng([seed // 10_000, at // len(tasks), 3]).permutation(len(tasks))
    return tasks[int(shuffled[at % len(tasks)])]


def draw_ending(task: str, style: Style, rng: np.random.Generator) -> str:
    """How an episode ends (see EpisodePlan)."""
    shares = {'stopped': style.stopped}
    if task in UNDONE_BY:
        shares |= {'wrong': style.wrong, 'undone': style.undone}
    names = [*shares, 'success']
    weight = [*shares.values(), 1.0 - sum(shares.values())]
    return str(rng.choice(names, p=weight))


def draw_plan(
    task: str, ending: str, seed: tuple[int, ...], style: Style, rng: np.random.Generator
) -> EpisodePlan:
    """Colour, speed, noise and the pauses of one episode."""
    colours = COLOUR_NAMES if style.held_out_colours else training_colours(task)
    if ending == 'undone' and not style.held_out_colours:
        colours = tuple(c for c in colours if c in training_colours(UNDONE_BY[task]))
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
        ending=ending,
        stop_steps=int(rng.integers(15, 70)) if ending == 'stopped' else 0,
    )


def state_of(episodes: list[Episode], light: Level, cover: Level) -> dict[str, NDArray[Any]]:
    """(T,) arrays of what the simulator knows, float16."""
    instants = [instant for episode in episodes for instant in episode.instants][: len(light)]
    found = {name: [float(getattr(i, name)) for i in instants] for name in STATE[:4]}
    levels = {'light': light, 'cover': cover}
    return {name: np.array(values, np.float16) for name, values in (found | levels).items()}
