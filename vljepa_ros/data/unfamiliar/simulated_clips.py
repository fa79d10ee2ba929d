# SPDX-License-Identifier: Apache-2.0
"""Clips of simulated scenes that are absent from training: robots, hands, animals and tables.

The models are files of Python packages (requirements/data.txt, evaluate.txt). None of the
packages' code is imported, and no physics is simulated: the joint values are sines over time.
Needs mujoco. The Franka kitchen of the suite `transfer` is not among the scenes.

Clips are (T, S, S, 3) uint8.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.simulators.mwstream.rendering import Renderer, prepare_model
from vljepa_ros.data.unfamiliar import tables

Frames = NDArray[np.uint8]
Point = tuple[float, float, float]

RATE_HZ = 10.0
ROBOT = ('base', 'pedestal', 'right_arm_base_link', 'hand', 'mocap')


@dataclass(frozen=True)
class SceneFile:
    """MuJoCo model file of a Python package, with the options for rendering it.

    Ranges are (minimum, maximum) of a uniform distribution.

    Attributes:
        package: Name of the package, or '' for a random table without a file.
        path: Path of the model file in the package.
        target_m: Point that the camera is aimed at, before jitter.
        distance_m: Range of the camera's distance from this point.
        azimuth_deg: Range of the camera's azimuth.
        elevation_deg: Range of the camera's elevation.
        fov_deg: Range of the camera's vertical field of view.
        start: Initial values of joints by name; these joints do not move.
        hidden: Names of bodies that are not rendered, including their children.
        swing: Amplitude of the joints' movement, as a fraction of their ranges.
        table: Whether to add a table below the model.
    """

    package: str
    path: str
    target_m: Point
    distance_m: tuple[float, float]
    azimuth_deg: tuple[float, float] = (0.0, 360.0)
    elevation_deg: tuple[float, float] = (-60.0, -15.0)
    fov_deg: tuple[float, float] = (30.0, 50.0)
    start: tuple[tuple[str, float], ...] = ()
    hidden: tuple[str, ...] = ()
    swing: float = 0.25
    table: bool = False


FETCH = (('robot0:slide0', 0.405), ('robot0:slide1', 0.48), ('robot0:slide2', 0.0))
METAWORLD = 'assets/sawyer_xyz'
GYM_ROBOTICS = 'envs/assets'


def _fetch(name: str) -> SceneFile:
    return SceneFile(
        'gymnasium_robotics', f'{GYM_ROBOTICS}/fetch/{name}.xml', (1.25, 0.75, 0.5), (1.0, 1.6),
        start=FETCH, swing=0.06,
    )  # fmt: skip


def _hand(name: str) -> SceneFile:
    return SceneFile(
        'gymnasium_robotics', f'{GYM_ROBOTICS}/hand/{name}.xml', (1.0, 0.95, 0.18), (0.5, 0.9)
    )


def _adroit(name: str) -> SceneFile:
    path = f'{GYM_ROBOTICS}/adroit_hand/adroit_{name}.xml'
    return SceneFile('gymnasium_robotics', path, (0.0, -0.1, 0.2), (0.8, 1.4), swing=0.15)


def _suite(name: str, target_m: Point, distance_m: tuple[float, float]) -> SceneFile:
    return SceneFile('dm_control', f'suite/{name}.xml', target_m, distance_m)


def _empty_bench(name: str) -> SceneFile:
    return SceneFile(
        'metaworld', f'{METAWORLD}/sawyer_{name}.xml', (0.0, 0.65, 0.05), (1.2, 1.8),
        elevation_deg=(-70.0, -25.0), fov_deg=(26.0, 36.0), hidden=ROBOT, swing=0.0,
    )  # fmt: skip


SCENES: dict[str, dict[str, SceneFile]] = {
    'shadow hand': {n: _hand(f'manipulate_{n}') for n in ('block', 'egg', 'pen')},
    'adroit hand': {n: _adroit(n) for n in ('door', 'hammer', 'pen', 'relocate')},
    'control suite': {
        'walker': _suite('walker', (0.0, 0.0, 0.9), (2.0, 3.5)),
        'cheetah': _suite('cheetah', (0.0, 0.0, 0.5), (1.5, 3.0)),
        'humanoid': _suite('humanoid', (0.0, 0.0, 1.0), (2.0, 3.5)),
        'quadruped': _suite('quadruped', (0.0, 0.0, 0.5), (2.0, 4.0)),
        'manipulator': _suite('manipulator', (0.0, 0.0, 0.4), (1.0, 2.0)),
        'finger': _suite('finger', (0.0, 0.0, 0.3), (0.8, 1.5)),
        'cartpole': _suite('cartpole', (0.0, 0.0, 1.0), (2.0, 4.0)),
    },
    'fetch arm': {n: _fetch(n) for n in ('pick_and_place', 'push', 'slide')},
    'two ViperX arms': {
        n: SceneFile(
            'gym_aloha', f'assets/bimanual_viperx_{n}.xml', (0.0, 0.55, 0.15), (0.9, 1.6),
            swing=0.12,
        )
        for n in ('transfer_cube', 'insertion')
    },
    'jaco arm': {
        'arm': SceneFile(
            'dm_control', 'third_party/kinova/jaco_arm.xml', (0.2, 0.0, 0.25), (1.0, 1.6),
            swing=0.15, table=True,
        )
    },
    'plain table': {
        'table': SceneFile('', '', (0.0, 0.0, 0.05), (0.8, 1.9), elevation_deg=(-75.0, -15.0))
    },
    'empty bench': {n: _empty_bench(n) for n in ('reach_v3', 'push_v3', 'drawer', 'door_pull')},
}  # fmt: skip


def make(kind: str, seed: int, count: int, size: int) -> Frames:
    """Return one clip (count, size, size, 3) uint8 of a simulated scene.

    Args:
        kind: Name in `SCENES`.
        seed: Seed of the scene, its camera, light and movement.
        count: Number of frames.
        size: Width and height of the frames in pixels.

    Raises:
        InputError: mujoco or the scene's package is not installed.
    """
    require(kind)
    rng = np.random.default_rng([seed, 11])
    names = sorted(SCENES[kind])
    scene = SCENES[kind][names[seed % len(names)]]
    return _SceneRenderer(scene, rng, size).frames(count)


def require(kind: str) -> None:
    """Check that the packages of a kind in `SCENES` are installed. Raises InputError."""
    packages = {'mujoco', *(scene.package for scene in SCENES[kind].values())} - {''}
    absent = sorted(name for name in packages if importlib.util.find_spec(name) is None)
    if absent:
        raise InputError(
            f"scenes '{kind}' need the Python packages {' and '.join(absent)}: "
            'pip install -r requirements/data.txt -r requirements/evaluate.txt'
        )


class _SceneRenderer:
    """Renderer of one scene with a random camera, light and movement."""

    def __init__(self, scene: SceneFile, rng: np.random.Generator, size: int) -> None:
        os.environ.setdefault('MUJOCO_GL', 'osmesa')
        os.environ.setdefault('LP_NUM_THREADS', '1')
        import mujoco

        self._mujoco, self._scene, self._size = mujoco, scene, size
        self._model: Any = _compiled(scene, rng)
        self._data = mujoco.MjData(self._model)
        prepare_model(self._model, size)
        self._model.site_rgba[:, 3] = 0.0
        self._dress(rng)
        self._camera = self._drawn_camera(rng)
        self._backdrop = rng.uniform(0.3, 0.8, 3)
        self._motion = self._drawn_motion(rng)

    def frames(self, count: int) -> Frames:
        """Render a clip (count, S, S, 3) uint8."""
        mujoco, images = self._mujoco, []
        renderer = Renderer(self._model, self._size)
        try:
            for index in range(count):
                self._data.qpos[:] = self._motion(index / RATE_HZ)
                mujoco.mj_kinematics(self._model, self._data)
                mujoco.mj_camlight(self._model, self._data)
                renderer.update(self._data, self._camera)
                self._add_backdrop(renderer.scene)
                images.append(renderer.image())
        finally:
            renderer.close()
        return np.stack(images)

    def _dress(self, rng: np.random.Generator) -> None:
        level = float(rng.uniform(0.75, 1.2))
        for name in ('light_diffuse', 'light_ambient', 'light_specular'):
            getattr(self._model, name)[:] *= level
        for body in range(self._model.nbody):
            if self._is_hidden(body):
                geoms = self._model.geom_bodyid == body
                self._model.geom_matid[geoms], self._model.geom_rgba[geoms, 3] = -1, 0.0

    def _is_hidden(self, body: int) -> bool:
        while body:
            if self._model.body(body).name in self._scene.hidden:
                return True
            body = int(self._model.body_parentid[body])
        return False

    def _drawn_camera(self, rng: np.random.Generator) -> Any:
        scene, camera = self._scene, self._mujoco.MjvCamera()
        camera.type = self._mujoco.mjtCamera.mjCAMERA_FREE
        camera.azimuth = rng.uniform(*scene.azimuth_deg)
        camera.elevation = rng.uniform(*scene.elevation_deg)
        camera.distance = rng.uniform(*scene.distance_m)
        camera.lookat[:] = np.array(scene.target_m) + rng.uniform(-0.06, 0.06, 3)
        self._model.vis.global_.fovy = rng.uniform(*scene.fov_deg)
        return camera

    def _drawn_motion(self, rng: np.random.Generator) -> Callable[[float], NDArray[np.float64]]:
        """Return a function from time (s) to joint values: slow sines within joint ranges."""
        model = self._model
        start = np.array(model.qpos0)
        if model.nkey:
            start = np.array(model.key_qpos[0])
        for name, value in self._scene.start:
            start[model.jnt_qposadr[model.joint(name).id]] = value
        hinged = (self._mujoco.mjtJoint.mjJNT_HINGE, self._mujoco.mjtJoint.mjJNT_SLIDE)
        own = [j for j in range(model.njnt) if model.jnt_type[j] in hinged]
        own = [j for j in own if model.joint(j).name not in dict(self._scene.start)]
        at = np.array([model.jnt_qposadr[j] for j in own], np.int64)
        low, high = np.array([self._range(j) for j in own]).reshape(-1, 2).T
        still = rng.random() < 0.2
        reach = self._scene.swing * (high - low) * (0.0 if still else 1.0)
        speed, phase = rng.uniform(0.5, 3.0, len(own)), rng.uniform(0, 2 * np.pi, len(own))
        middle = np.clip(
            start[at] + 0.5 * self._scene.swing * (high - low) * rng.uniform(-1, 1, len(own)),
            low, high,
        )  # fmt: skip

        def motion(at_s: float) -> NDArray[np.float64]:
            values = start.copy()
            moved = middle + reach * np.sin(speed * at_s + phase)
            values[at] = np.clip(moved, low, high)
            return values

        return motion

    def _range(self, joint: int) -> tuple[float, float]:
        """Return a joint's limits; if it is unlimited, 0.8 rad (or m) around its initial value."""
        if self._model.jnt_limited[joint]:
            low, high = self._model.jnt_range[joint]
            return float(low), float(high)
        begin = float(self._model.qpos0[self._model.jnt_qposadr[joint]])
        return begin - 0.8, begin + 0.8

    def _add_backdrop(self, scene: Any) -> None:
        """Add distant walls of one color to the scene, to replace the black background."""
        color = np.array((*self._backdrop, 1.0), np.float32)
        box = self._mujoco.mjtGeom.mjGEOM_BOX
        for x, y in ((6.0, 0.0), (-6.0, 0.0), (0.0, 6.0), (0.0, -6.0)):
            size = np.array((0.01, 6.0, 6.0) if x else (6.0, 0.01, 6.0))
            geom, place = scene.geoms[scene.ngeom], np.array((x, y, 0.0))
            self._mujoco.mjv_initGeom(geom, box, size, place, np.eye(3).ravel(), color)
            scene.ngeom += 1


def _compiled(scene: SceneFile, rng: np.random.Generator) -> Any:
    """Return the compiled MuJoCo model of a scene; a scene without a package is a random table."""
    import mujoco

    if not scene.package:
        return tables.model(rng)
    spec = importlib.util.find_spec(scene.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / scene.path
        if path.is_file() and scene.table:
            made = mujoco.MjSpec.from_file(str(path))
            box, world = mujoco.mjtGeom.mjGEOM_BOX, made.worldbody
            world.add_geom(
                type=box, size=[0.5, 0.6, 0.02], pos=[0.2, 0, -0.02], rgba=[0.55, 0.45, 0.35, 1]
            )
            world.add_geom(
                type=box, size=[2.5, 2.5, 0.02], pos=[0, 0, -0.8], rgba=[0.5, 0.5, 0.52, 1]
            )
            world.add_light(pos=[0.5, 0.5, 2.0], dir=[-0.2, -0.2, -1.0])
            return made.compile()
        if path.is_file():
            return mujoco.MjModel.from_xml_path(str(path))
    raise InputError(
        f'the installed version of {scene.package} has no {scene.path}: '
        'install the version that requirements/ pins'
    )
