# SPDX-License-Identifier: Apache-2.0
"""Generation of one Meta-World stream from a seed: episodes, light, lens covers and distractors.

The stream is rendered by the cameras of one of these `views`:

    home         one of four zoomed viewpoints per stream
    wide         a new random camera around the workbench for each episode
    wide-fixed   one such camera for the whole stream
    wide-cuts    a new such camera every `CUT_FRAMES` frames, for training: many more cameras
                 for the same number of rendered frames

The frames are (T, S, S, 3) uint8 at 10 frames/s. Annotations cover the stream without gaps. The
state has one value per frame for each of its arrays (`STATE`, `PLACES`, `WORKSPACE`, `progress`,
and optional depth images). The episodes depend on split and seed only, so they are the same in all
views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.concepts import MWSTREAM
from vljepa_ros.data.format import Annotation, StreamData
from vljepa_ros.data.lens import Lens, Level, draw_cover, draw_light
from vljepa_ros.data.simulators.mwstream.cameras import (
    VIEWPOINTS,
    PinholeCamera,
    draw_home,
    draw_wide,
)
from vljepa_ros.data.simulators.mwstream.episode import simulate
from vljepa_ros.data.simulators.mwstream.image_format import ImageFormat, draw_format
from vljepa_ros.data.simulators.mwstream.labels import (
    RATE_HZ,
    SEEN_FRAMES,
    annotate,
    labels_of,
    stamps_ns,
)
from vljepa_ros.data.simulators.mwstream.record import Episode, EpisodePlan, Prop
from vljepa_ros.data.simulators.mwstream.scene import (
    Appearance,
    Scene,
    draw_appearance,
    draw_thing,
    draw_wide_appearance,
)
from vljepa_ros.data.simulators.mwstream.tasks import (
    COLOR_NAMES,
    TEST_TASKS,
    TRAIN_TASKS,
    UNDONE_BY,
    training_colors,
)
from vljepa_ros.data.splits import CUTS, FIXED, HOME, TRAIN, folder_name
from vljepa_ros.data.workspace import WORKSPACE

SIZE = 192
QUALITY = 95  # JPEG quality of stored frames
TRIES = 3  # maximum number of attempts to draw an episode that succeeds
STATE = ('gripper', 'contact', 'holding', 'opening', 'light', 'cover')
PLACES = ('object_x', 'object_y', 'gripper_x', 'gripper_y', 'object_size')
WORKSPACE_PX = 5.2  # projected size (of 96 pixels across the workspace); home views: a little more
LENS_NOISE, WIDE_LENS_NOISE = (0.5, 3.0), (0.5, 7.0)  # gray levels
MOVING_CAMERAS = 0.25  # fraction of the wide cameras that pan or shake
PATH_POINTS = 8  # points of the object's path that a camera should have in its image
SHARE_SAMPLES = 4  # frames of a phase `act` in which the object's visibility is measured
LEAST_VISIBLE = 0.35  # minimum visible fraction of the object's pixels; below it, `hidden` is set
THING_SCALE = (0.75, 1.3)
DEPTH_SIDE = 48
CUT_FRAMES = 16  # frames per shot of the views `wide-cuts`: eight tubelets of the model `small`


@dataclass(frozen=True)
class Shot:
    """Camera and image format of an episode, from frame `first` to the next shot or the end.

    Attributes:
        camera: Camera without pan and shake.
        appearance: Light, colors and textures.
        format: Simulated recording pipeline.
        pan_rad: Amplitude of the camera's horizontal pan.
        shake_rad: Standard deviation of the camera's random rotation in each frame.
        period_s: Period of the pan.
        first: First frame, counted from the start of the episode.
    """

    camera: PinholeCamera
    appearance: Appearance
    format: ImageFormat = field(default_factory=ImageFormat)
    pan_rad: float = 0.0
    shake_rad: float = 0.0
    period_s: float = 1.0
    first: int = 0

    @property
    def moves(self) -> bool:
        """Return whether the camera pans or shakes."""
        return self.pan_rad > 0 or self.shake_rad > 0

    def turn_rad(self, at_s: float, rng: np.random.Generator) -> tuple[float, float]:
        """Return the camera's rotation to the right and upward, in radians, at time `at_s`."""
        if not self.moves:
            return 0.0, 0.0
        right, up = rng.normal(0.0, self.shake_rad, 2)
        return float(self.pan_rad * np.sin(2 * np.pi * at_s / self.period_s) + right), float(up)

    def described(self) -> dict[str, Any]:
        """Return camera, image format and texture as JSON values for a stream's meta.json."""
        made = self.format
        return {
            **self.camera.described(),
            'aspect': made.aspect,
            'fit': made.fit,
            'resolution': made.resolution,
            'codec': made.codec,
            'quality': made.quality,
            'texture': '+'.join(name or 'own' for name in self.appearance.textures),
            'pan_deg': round(float(np.degrees(self.pan_rad)), 2),
            'shake_deg': round(float(np.degrees(self.shake_rad)), 3),
            'held_out': [*self.camera.held_out, *self.appearance.held_out, *made.held_out],
        }


@dataclass(frozen=True)
class Style:
    """Parameters of the random streams of a split.

    Attributes:
        rest_s: Range of the rest before an episode, in seconds.
        hold_s: Range of the time that the final pose is held, in seconds.
        speeds: Probabilities of 1, 2, ... control steps per frame.
        light_gap_s: Mean random time between dark intervals (see `draw_light`).
        dark_s: Range of the length of dark and of covered intervals, in seconds.
        noise: Upper limit of the action noise (see `EpisodePlan`).
        held_out_colors: Whether combinations of task and color unseen in training may appear.
        cover_gap_s: Mean random time between covered intervals (see `draw_cover`).
        stopped: Fraction of the episodes in which the policy stops early.
        wrong: Fraction of the episodes with another task's policy, if the task has an opposite.
        undone: Fraction of the episodes that undo their result, if the task has an opposite.
        things: Fraction of the episodes with a distractor.
        moving_things: Fraction of the distractors that appear, disappear or both.
    """

    rest_s: tuple[float, float]
    hold_s: tuple[float, float]
    speeds: tuple[float, ...]  # probability of 1, 2, ... control steps per frame
    light_gap_s: float
    dark_s: tuple[float, float]
    noise: float
    held_out_colors: bool  # whether combinations unseen in training may appear
    cover_gap_s: float = 60.0
    stopped: float = 0.06
    wrong: float = 0.03
    undone: float = 0.08  # fraction among tasks that have an opposite
    things: float = 0.55
    moving_things: float = 0.6  # fraction of the distractors that appear, disappear or both


TRAINING = Style((1.5, 6.0), (1.5, 3.0), (0.6, 0.25, 0.1, 0.05), 45.0, (2.0, 5.0), 0.2, False)
EVALUATION = Style((4.0, 12.0), (1.5, 3.0), (1.0,), 75.0, (3.0, 7.0), 0.1, True)
# The sample bag is short: shorter rests, no failures, lens covers or distractors.
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
    """Generator of Meta-World streams, which keeps the scene of each task for later streams."""

    def __init__(self, size: int = SIZE, depth: bool = False) -> None:
        """Create a generator; scenes are created on first use.

        Args:
            size: Width and height of the frames in pixels.
            depth: Whether to render depth images of `DEPTH_SIDE` x `DEPTH_SIDE` pixels as well.
        """
        self._size, self._depth = size, depth
        self._scenes: dict[str, Scene] = {}

    def scene(self, task: str) -> Scene:
        """Return the scene of a task, which is created on first use."""
        if task not in self._scenes:
            self._scenes[task] = Scene(task, self._size)
        return self._scenes[task]

    def film(self, split: str, seed: int, seconds: float, views: str = HOME) -> StreamData:
        """Generate one stream of Meta-World.

        Args:
            split: Name of the split; it determines tasks and style.
            seed: Seed of all random values.
            seconds: Length of the stream.
            views: Cameras of the stream (see the module's docstring).
        """
        style, frames = STYLES[split], round(seconds * RATE_HZ)
        rng = np.random.default_rng([seed, 1])
        home = draw_home(rng, str(rng.choice(list(VIEWPOINTS))))
        episodes = self._episodes(seed, frames, style, SPLIT_TASKS.get(split, TRAIN_TASKS), rng)
        props = [self._prop(episode, style, rng) for episode in episodes]
        light = draw_light(frames, RATE_HZ, style.light_gap_s, style.dark_s, rng)
        cover = draw_cover(light, RATE_HZ, style.cover_gap_s, style.dark_s, rng)
        draws = np.random.default_rng([seed, 2])  # for cameras and rendering
        if views == HOME:
            shots = [[Shot(home, draw_appearance(draws))] for _ in episodes]
        elif views == CUTS:
            shots = [self._cut_shots(episode, split == TRAIN, draws) for episode in episodes]
        else:
            wide = self._wide_shots(episodes, views == FIXED, split == TRAIN, draws)
            shots = [[shot] for shot in wide]
        if views != HOME:
            props = [_scaled(prop, draws) for prop in props]
        noise = float(draws.uniform(*(LENS_NOISE if views == HOME else WIDE_LENS_NOISE)))
        rendered = RenderedStream(frames, Lens(self._size, draws, noise), light, cover, draws)
        for episode, prop, own in zip(episodes, props, shots, strict=True):
            rendered.add(self.scene(episode.plan.task), episode, prop, own, self._depth)
        labels = [
            label
            for i, (episode, prop) in enumerate(zip(episodes, props, strict=True))
            for label in labels_of(episode, i, prop)
        ][:frames]
        meta = {
            'simulator': MWSTREAM,
            'seed': seed,
            'split': split,
            'views': views,
            'rate_hz': RATE_HZ,
            'cameras': [shot.described() for own in shots for shot in own],
            'looks': [asdict(own[0].appearance) for own in shots],
            'episodes': [_described(episode) for episode in episodes],
            'things': [asdict(prop) if prop else None for prop in props],
            'visible': [{k: round(v, 3) for k, v in found.items()} for found in rendered.visible],
        }
        if views == CUTS:
            meta['shots'] = rendered.starts
        return StreamData(
            f'{folder_name(split, views)}-{seed:05d}',
            np.concatenate(rendered.images),
            stamps_ns(frames),
            tuple(_with_hidden(annotate(labels, light, cover), rendered.starts, rendered.visible)),
            meta,
            state_of(episodes, light, cover) | rendered.state(episodes),
            quality=QUALITY,
        )

    def _wide_shots(
        self,
        episodes: Sequence[Episode],
        fixed: bool,
        for_training: bool,
        rng: np.random.Generator,
    ) -> list[Shot]:
        paths = [self._path(episode) for episode in episodes]
        shots: list[Shot] = []
        for path in paths:
            appearance = draw_wide_appearance(rng, for_training)
            if fixed and shots:
                shots.append(
                    replace(
                        shots[0],
                        appearance=replace(appearance, textures=shots[0].appearance.textures),
                    )
                )
                continue
            points = np.concatenate(paths) if fixed else path
            shots.append(_draw_shot(points, appearance, for_training, rng))
        return shots

    def _cut_shots(
        self, episode: Episode, for_training: bool, rng: np.random.Generator
    ) -> list[Shot]:
        """Draw a new shot for every `CUT_FRAMES` frames of an episode, all with one appearance."""
        path, appearance = self._path(episode), draw_wide_appearance(rng, for_training)
        firsts = range(0, len(episode.instants), CUT_FRAMES)
        return [_draw_shot(path, appearance, for_training, rng, first) for first in firsts]

    def _path(self, episode: Episode) -> NDArray[np.float64]:
        """Return `PATH_POINTS` positions (N, 3) of the episode's object, evenly spaced in time."""
        scene = self.scene(episode.plan.task)
        scene.reset(list(episode.plan.seed))
        at = np.linspace(0, len(episode.instants) - 1, PATH_POINTS).round().astype(int)
        return np.array([scene.object_position_in(episode.instants[i].joints) for i in at])

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
            # Not within the episode's first or last second, where its label would hide a phase.
            times = rng.integers(SEEN_FRAMES, count - SEEN_FRAMES, 2)
            way = int(rng.integers(3))
            first = int(times.min()) if way != 1 else 0
            last = int(times.max()) if way != 0 else count
            if way == 2 and last - first < 2 * SEEN_FRAMES:
                last = count
        return Prop(thing, first, last)


class RenderedStream:
    """Rendered frames of a stream, to which episodes are added one after another.

    Attributes:
        images: Frames (N, S, S, 3) of each shot.
        starts: First frame of each shot in the stream.
        visible: For each shot, the mean visible fraction of the object by task.
    """

    def __init__(
        self, frames: int, lens: Lens, light: Level, cover: Level, rng: np.random.Generator
    ) -> None:
        self._lens, self._light, self._cover, self._rng = lens, light, cover, rng
        self._left, self._at = frames, 0
        self.images: list[NDArray[np.uint8]] = []
        self.starts: list[int] = []
        self.visible: list[dict[str, float]] = []
        self._places: list[tuple[float, ...]] = []
        self._depths: list[NDArray[np.float16]] = []

    def add(
        self,
        scene: Scene,
        episode: Episode,
        prop: Prop | None,
        shots: Sequence[Shot],
        depth: bool,
    ) -> None:
        """Render an episode, up to the end of the stream.

        Args:
            scene: Scene of the episode's task.
            episode: Recorded episode.
            prop: Distractor, if any.
            shots: Shots of the episode in order of time, all with the same appearance.
            depth: Whether to render depth images as well.
        """
        appearance = shots[0].appearance
        scene.replay(list(episode.plan.seed), appearance)
        scene.dress(shots[0].camera, appearance, episode.plan.colour)
        ends = [*(shot.first for shot in shots[1:]), len(episode.instants)]
        for shot, end in zip(shots, ends, strict=True):
            if not self._left:
                break
            self._shoot(scene, episode, prop, shot, end, depth)
        scene.close()

    def _shoot(
        self,
        scene: Scene,
        episode: Episode,
        prop: Prop | None,
        shot: Shot,
        end: int,
        depth: bool,
    ) -> None:
        """Render the frames of one shot, up to frame `end` of the episode or the stream's end."""
        scene.aim(shot.camera)
        self.starts.append(self._at)
        taken = []
        previous: tuple[Any, float, bool] | None = None
        for i in range(shot.first, min(end, shot.first + self._left)):
            instant = episode.instants[i]
            level = float(self._light[self._at])
            there = prop is not None and prop.first <= i < prop.last
            same = previous is not None and previous[1:] == (level, there) and not shot.moves
            if previous is None or not same or (previous[0] != instant.joints).any():
                if shot.moves:
                    scene.aim(shot.camera, shot.turn_rad(self._at / RATE_HZ, self._rng))
                clean = scene.render(instant.joints, level, prop.thing if prop and there else None)
                places, size = scene.places()
                where = (*shot.format.place(places).ravel().tolist(), size)
                where += _workspace(*scene.workspace(), shot.format)
                previous = (instant.joints, level, there)
                if depth:
                    seen_m = scene.depth(instant.joints, DEPTH_SIDE)
            taken.append(self._lens.apply(clean, self._cover, self._at))
            self._places.append(where)
            if depth:
                self._depths.append(seen_m)
            self._at += 1
        if taken:
            self.images.append(shot.format.apply(np.stack(taken)))
        self._left -= len(taken)
        scene.aim(shot.camera)
        self.visible.append(_visible_shares(scene, episode, shot.first, end))

    def state(self, episodes: Sequence[Episode]) -> dict[str, NDArray[Any]]:
        """Return object positions, `progress` and optional `depth` as arrays (T, ...) by name."""
        names = (*PLACES, *WORKSPACE)
        columns = np.array(self._places, np.float16).reshape(-1, len(names)).T
        found: dict[str, NDArray[Any]] = dict(zip(names, columns, strict=True))
        found['progress'] = np.concatenate([progress(e) for e in episodes])[: len(self._light)]
        if self._depths:
            found['depth'] = np.stack(self._depths)
        return found


def _workspace(
    place: NDArray[np.float64], size_px: float, image: ImageFormat
) -> tuple[float, float, float, float]:
    """Return the workspace (center x, center y, width, height) in fractions of the image.

    Args:
        place: Center (2,) in the square rendering, in fractions.
        size_px: Projected size at the center (see `WORKSPACE_PX`).
        image: Format of the image.
    """
    [[x, y]] = image.place(place[None])
    width = size_px / WORKSPACE_PX
    is_squeezed = image.fit == 'resize'
    return float(x), float(y), width, width / image.visible_height if is_squeezed else width


def progress(episode: Episode) -> NDArray[np.float16]:
    """Return the progress of the task in each frame, (T,) from 0 to 1.

    It is NaN at rest and in attempts that fail.
    """
    phases, tasks = np.array(episode.phases), np.array(episode.tasks)
    found = np.full(len(phases), np.nan)
    for task in dict.fromkeys(episode.tasks):
        own = tasks == task
        trying = np.flatnonzero(own & ~np.isin(phases, ['rest', 'done']))
        done = np.flatnonzero(own & (phases == 'done'))
        if len(trying) and len(done) and done[0] > trying[0]:
            found[trying] = (trying - trying[0]) / (done[0] - trying[0])
            found[done] = 1.0
    return found.astype(np.float16)


def _visible_shares(scene: Scene, episode: Episode, first: int, end: int) -> dict[str, float]:
    """Return, by task, the mean visible fraction of the object in the phase `act`.

    Args:
        scene: Scene with the shot's camera.
        episode: Recorded episode.
        first: First frame of the shot in the episode.
        end: Frame after the shot.
    """
    found = {}
    samples = SHARE_SAMPLES if end - first > CUT_FRAMES else 1
    for task in dict.fromkeys(episode.tasks):
        acts = [
            i for i in range(first, end) if episode.phases[i] == 'act' and episode.tasks[i] == task
        ]
        if acts:
            at = np.unique(np.linspace(acts[0], acts[-1], samples).round().astype(int))
            shares = [scene.visible_share(episode.instants[i].joints) for i in at]
            found[task] = float(np.mean(shares))
    return found


def _with_hidden(
    annotations: Sequence[Annotation], starts: Sequence[int], visible: Sequence[dict[str, float]]
) -> list[Annotation]:
    """Set `hidden` in annotations of phase `act` whose object is not sufficiently visible.

    An annotation is split where a new shot makes the object visible or hides it.

    Args:
        annotations: Annotations of the stream.
        starts: First frame of each shot.
        visible: Visible fraction of the object by task, for each shot.
    """
    found: list[Annotation] = []
    for item in annotations:
        if item.phase != 'act':
            found.append(item)
            continue
        begin, end = round(item.start * RATE_HZ), round(item.end * RATE_HZ)
        cuts = sorted({begin, *(cut for cut in starts if begin < cut < end)})
        parts = list[Annotation]()
        for cut in cuts:
            shot = int(np.searchsorted(starts, cut, side='right')) - 1
            is_hidden = visible[shot].get(item.task, 1.0) < LEAST_VISIBLE
            if parts and parts[-1].hidden == is_hidden:
                continue
            parts.append(replace(item, start=cut / RATE_HZ, hidden=is_hidden))
        ends = [*(part.start for part in parts[1:]), item.end]
        found += [replace(part, end=at) for part, at in zip(parts, ends, strict=True)]
    return found


def _described(episode: Episode) -> dict[str, Any]:
    """Return an episode's parameters and results as JSON values for meta.json.

    Frame numbers count from the first frame of the episode.
    """
    done = episode.phases.index('done') if 'done' in episode.phases else -1
    return {
        **asdict(episode.plan),
        'frames': len(episode.instants),
        'success': episode.success,
        'success_frame': done,
        'failure_frame': -1 if episode.success else len(episode.instants) - 1,
    }


def _scaled(prop: Prop | None, rng: np.random.Generator) -> Prop | None:
    """Return the same distractor with a random scale, or None if there is none."""
    scale = round(float(rng.uniform(*THING_SCALE)), 3)
    return replace(prop, thing=replace(prop.thing, scale=scale)) if prop else None


def _draw_shot(
    points_m: NDArray[np.float64],
    appearance: Appearance,
    for_training: bool,
    rng: np.random.Generator,
    first: int = 0,
) -> Shot:
    """Draw a shot with a random wide camera and image format; some cameras pan or shake.

    Args:
        points_m: Points (N, 3) that the image should contain (see `draw_wide`).
        appearance: Light, colors and textures.
        for_training: Whether to exclude cameras and formats that are held out of training.
        rng: Random generator.
        first: First frame, counted from the start of the episode.
    """
    image = draw_format(rng, for_training)
    camera = draw_wide(rng, points_m, image.visible_height, for_training)
    return _moved(Shot(camera, appearance, image, first=first), rng)


def _moved(shot: Shot, rng: np.random.Generator) -> Shot:
    """Return the shot with a random pan and possibly shake; most shots remain unchanged."""
    if rng.random() >= MOVING_CAMERAS:
        return shot
    fov = np.radians(shot.camera.fov_deg)
    return replace(
        shot,
        pan_rad=float(rng.uniform(0.03, 0.1) * fov),
        shake_rad=float(rng.choice([0.0, 0.002, 0.005]) * fov),
        period_s=float(rng.uniform(10.0, 30.0)),
    )


def task_of(seed: int, index: int, tasks: tuple[str, ...]) -> str:
    """Return the task of an episode.

    Tasks come from a sequence of random permutations, so that all tasks are equally frequent.

    Args:
        seed: Seed of the stream.
        index: Number of the episode in the stream.
        tasks: Tasks of the split.
    """
    at = 5 * (seed % 10_000) + index
    shuffled = np.random.default_rng([seed // 10_000, at // len(tasks), 3]).permutation(len(tasks))
    return tasks[int(shuffled[at % len(tasks)])]


def draw_ending(task: str, style: Style, rng: np.random.Generator) -> str:
    """Draw an episode's ending: 'success', 'stopped', 'wrong' or 'undone' (see `EpisodePlan`)."""
    shares = {'stopped': style.stopped}
    if task in UNDONE_BY:
        shares |= {'wrong': style.wrong, 'undone': style.undone}
    names = [*shares, 'success']
    weight = [*shares.values(), 1.0 - sum(shares.values())]
    return str(rng.choice(names, p=weight))


def draw_plan(
    task: str, ending: str, seed: tuple[int, ...], style: Style, rng: np.random.Generator
) -> EpisodePlan:
    """Draw the random parameters of one episode, such as color, speed, noise and pauses.

    Args:
        task: Name of the task.
        ending: Ending of the episode (see EpisodePlan).
        seed: Seed of the simulation.
        style: Parameters of the split's random streams.
        rng: Random generator.
    """
    colors = COLOR_NAMES if style.held_out_colors else training_colors(task)
    if ending == 'undone' and not style.held_out_colors:
        colors = tuple(c for c in colors if c in training_colors(UNDONE_BY[task]))
    low, high = style.rest_s
    rest_s = min(low + rng.exponential((high - low) / 4), high)
    return EpisodePlan(
        task=task,
        colour=str(rng.choice(colors)),
        seed=seed,
        steps_per_frame=int(rng.choice(len(style.speeds), p=style.speeds)) + 1,
        noise=round(float(rng.uniform(0.0, style.noise)), 4),
        rest_frames=round(rest_s * RATE_HZ),
        hold_frames=round(float(rng.uniform(*style.hold_s)) * RATE_HZ),
        ending=ending,
        stop_steps=int(rng.integers(15, 70)) if ending == 'stopped' else 0,
    )


def state_of(episodes: list[Episode], light: Level, cover: Level) -> dict[str, NDArray[Any]]:
    """Return the arrays of a stream's state that `STATE` lists: (T,) float16 by name."""
    instants = [instant for episode in episodes for instant in episode.instants][: len(light)]
    found = {name: [float(getattr(i, name)) for i in instants] for name in STATE[:4]}
    levels = {'light': light, 'cover': cover}
    return {name: np.array(values, np.float16) for name, values in (found | levels).items()}
