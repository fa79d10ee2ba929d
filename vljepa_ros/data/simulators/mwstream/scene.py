# SPDX-License-Identifier: Apache-2.0
"""Scene of one Meta-World task: physics, camera, colors, light, distractors and rendering.

Needs metaworld and mujoco; only data generation imports this module. Images are (S, S, 3) uint8.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.simulators.mwstream.cameras import (
    HELD_OUT_SHARE,
    WORKSPACE_M,
    PinholeCamera,
    Point,
    project,
)
from vljepa_ros.data.simulators.mwstream.meshes import simplify_mesh
from vljepa_ros.data.simulators.mwstream.record import Thing
from vljepa_ros.data.simulators.mwstream.rendering import Renderer, model_camera, prepare_model
from vljepa_ros.data.simulators.mwstream.surfaces import HELD_OUT_TEXTURES, TEXTURES, Surfaces
from vljepa_ros.data.simulators.mwstream.tasks import COLORS, TASKS

os.environ.setdefault('MUJOCO_GL', 'osmesa')
os.environ.setdefault('LP_NUM_THREADS', '1')

import mujoco
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

MESH_CELL_M = 0.006  # grid cell for simplifying the arm's meshes (rendering cost is per vertex)
BASE_CELL_M = 0.012  # grid cell for the base's meshes
BASE = (  # bodies of the robot's base; home views hide them
    'pedestal',
    'right_arm_base_link',
    'head',
    'screen',
    'torso',
    'controller_box',
    'pedestal_feet',
)
CAMERA = 'corner2'  # the model's camera that is moved to the viewpoint
CLUTTER_KINDS = (
    mujoco.mjtGeom.mjGEOM_CAPSULE,
    mujoco.mjtGeom.mjGEOM_BOX,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
)
MAX_CLUTTER = 3
GRIPPER = ('hand', 'right_hand', 'rightclaw', 'leftclaw', 'rightpad', 'leftpad')


@dataclass(frozen=True)
class Clutter:
    """Gray shape at the edge of the table that no sentence mentions.

    Attributes:
        kind: Type of the MuJoCo geom.
        size_m: Half sizes of the geom.
        place_m: Position of its center.
        color: RGB color, from 0 to 1.
    """

    kind: int
    size_m: Point
    place_m: Point
    color: Point


@dataclass(frozen=True)
class Appearance:
    """Light, colors and textures of a scene. Tints are RGB factors.

    Attributes:
        light: Light level; 1 is normal.
        light_tint: Tint of the light.
        table_tint: Tint of the table.
        room_tint: Tint of floor and walls.
        backdrop: RGB color of the backdrop, from 0 to 1.
        robot_tint: Tint of the robot; varies in wide views only.
        textures: Textures of table, floor and wall; '' for Meta-World's own.
        clutter: Shapes at the edge of the table.
        base_shown: Whether the robot's base and pedestal are rendered.
    """

    light: float
    light_tint: tuple[float, float, float]
    table_tint: tuple[float, float, float]
    room_tint: tuple[float, float, float]
    backdrop: tuple[float, float, float]
    robot_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    textures: tuple[str, str, str] = ('', '', '')
    clutter: tuple[Clutter, ...] = ()
    base_shown: bool = False

    @property
    def held_out(self) -> tuple[str, ...]:
        """Return ('texture',) if a texture is held out of training, otherwise ()."""
        return ('texture',) if set(self.textures) & set(HELD_OUT_TEXTURES) else ()


# Distractors: type of the MuJoCo geom, half sizes (m), height of the center (m).
SHAPES: dict[str, tuple[int, Point, float]] = {
    'tin': (mujoco.mjtGeom.mjGEOM_CYLINDER, (0.038, 0.055, 0.0), 0.055),
    'egg': (mujoco.mjtGeom.mjGEOM_ELLIPSOID, (0.034, 0.034, 0.052), 0.052),
    'brick': (mujoco.mjtGeom.mjGEOM_BOX, (0.065, 0.035, 0.03), 0.03),
    'globe': (mujoco.mjtGeom.mjGEOM_SPHERE, (0.048, 0.048, 0.048), 0.048),
}
FREE_M = 0.2  # minimum distance of a distractor from the task's object


def draw_thing(rng: np.random.Generator, color: str, taken_m: NDArray[np.float64]) -> Thing | None:
    """Draw a random distractor on the table, or return None if no free position is found.

    Args:
        rng: Random generator.
        color: Color of the task's object, which the distractor does not have.
        taken_m: Points (N, 3) from which the distractor keeps the distance `FREE_M`.
    """
    kind = str(rng.choice(list(SHAPES)))
    other = str(rng.choice([name for name in COLORS if name != color]))
    for _ in range(20):
        place = np.array([rng.uniform(-0.33, 0.33), rng.uniform(0.42, 0.8)]).round(3)
        if np.linalg.norm(taken_m[:, :2] - place, axis=1).min() > FREE_M:
            return Thing(kind, other, (float(place[0]), float(place[1])))
    return None


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """Draw light and colors of the surroundings for home views."""

    def tint(low: float, high: float = 1.0) -> tuple[float, float, float]:
        return tuple(rng.uniform(low, high, 3).round(3).tolist())

    light = float(np.round(rng.uniform(0.75, 1.2), 3))
    return Appearance(light, tint(0.9), tint(0.7), tint(0.75), tint(0.3, 0.8))


def draw_wide_appearance(rng: np.random.Generator, for_training: bool) -> Appearance:
    """Draw an appearance for wide views; `for_training` excludes textures held out of training."""

    def tint(low: float, high: float = 1.0) -> Point:
        x, y, z = rng.uniform(low, high, 3).round(3).tolist()
        return x, y, z

    names = [n for n in TEXTURES if n not in HELD_OUT_TEXTURES]
    textures = [str(rng.choice(names)) if rng.random() < 0.6 else '' for _ in range(3)]
    robot = tint(0.35, 1.3) if rng.random() < 0.5 else (1.0, 1.0, 1.0)
    clutter = tuple(_draw_clutter(rng) for _ in range(int(rng.integers(0, MAX_CLUTTER + 1))))
    light = float(np.round(rng.uniform(0.6, 1.3), 3))
    if not for_training and rng.random() < HELD_OUT_SHARE:
        textures[int(rng.integers(3))] = str(rng.choice(HELD_OUT_TEXTURES))
    return Appearance(
        light,
        tint(0.85),
        tint(0.45),
        tint(0.5),
        tint(0.15, 0.95),
        robot,
        (textures[0], textures[1], textures[2]),
        clutter,
        base_shown=True,
    )


def _draw_clutter(rng: np.random.Generator) -> Clutter:
    """Draw a gray shape on the left or right side of the table, outside the workspace."""
    kind = int(CLUTTER_KINDS[int(rng.integers(len(CLUTTER_KINDS)))])
    x, y, z = rng.uniform((0.02, 0.02, 0.01), (0.07, 0.09, 0.12)).round(3).tolist()
    side = float(rng.choice([-1.0, 1.0]))
    place = (round(side * float(rng.uniform(0.42, 0.62)), 3), float(rng.uniform(0.35, 0.95)), z)
    gray = rng.uniform(0.15, 0.8)
    r, g, b = np.clip(gray + rng.uniform(-0.12, 0.12, 3), 0, 1).round(3).tolist()
    return Clutter(kind, (x, y, z), place, (r, g, b))


class Scene:
    """Meta-World environment of one task, with its renderer; it is reset for every episode."""

    def __init__(self, task: str, size: int) -> None:
        self.task, self._size = task, size
        self.env: Any = ENVIRONMENTS[f'{task}-v3-goal-observable'](seed=0)
        self.env._freeze_rand_vec = False
        self.env.seeded_rand_vec = True
        self.env.max_path_length = 10**9
        self.model, self.data = self.env.model, self.env.data
        self._prepare_model()
        facts = TASKS[task]
        bodies = self._bodies_below(facts.bodies)
        self._object_geoms = self._geoms_of(bodies)
        self._painted = [g for g in self._object_geoms if self._is_painted(g, facts.paint)]
        self._gripper_geoms = self._geoms_of({self.model.body(n).id for n in GRIPPER})
        self._finger_geoms = [
            self._geoms_of({self.model.body(side + part).id for part in ('claw', 'pad')})
            for side in ('right', 'left')
        ]
        self._original = {
            name: getattr(self.model, name).copy()
            for name in (
                'geom_rgba',
                'geom_matid',
                'mat_rgba',
                'light_diffuse',
                'light_ambient',
                'light_specular',
            )
        }
        self._joint = self._object_joint(bodies)
        self._surfaces = Surfaces(self.model)
        self._renderer: Any = None

    def policy(self, task: str = '') -> Any:
        """Return a new scripted policy for `task`, or for this scene's task if `task` is ''."""
        return ENV_POLICY_MAP[f'{task or self.task}-v3']()

    def reset(self, seed: list[int]) -> NDArray[np.float64]:
        """Start an episode with positions drawn from `seed` and return the first observation."""
        self.env.np_random = np.random.default_rng(seed)
        obs, _ = self.env.reset()
        return obs

    def replay(self, seed: list[int], appearance: Appearance) -> None:
        """Reset to the positions of `seed`, set the textures and create a renderer.

        Recorded states can then be rendered. Call `close` afterwards.
        """
        self.reset(seed)
        self._surfaces.wear(appearance.textures)
        self._renderer = Renderer(self.model, self._size)

    def close(self) -> None:
        """Free the renderer, so that another scene can create one."""
        self._renderer.close()
        self._renderer = None

    def dress(self, camera: PinholeCamera, appearance: Appearance, color: str) -> None:
        """Set camera, colors and light for the following images.

        Args:
            camera: Camera to render from.
            appearance: Colors and light of the scene.
            color: Name of the color of the task's object.
        """
        for name, value in self._original.items():
            getattr(self.model, name)[:] = value
        self._appearance = appearance
        self.aim(camera)
        self._paint(appearance, color)

    def aim(self, camera: PinholeCamera, turn_rad: tuple[float, float] = (0.0, 0.0)) -> None:
        """Set the camera's pose; `turn_rad` rotates the camera to the right and upward."""
        right, up = np.tan(turn_rad)
        back = camera.axes @ np.array([-right, -up, 1.0])
        back /= np.linalg.norm(back)
        first = np.cross(camera.axes[:, 1], back)
        first /= np.linalg.norm(first)
        self._axes = np.stack([first, np.cross(back, first), back], axis=1)
        self._position_m, self._fov_deg = np.array(camera.position_m), camera.fov_deg
        number = self.model.camera(CAMERA).id
        mujoco.mju_mat2Quat(self.model.cam_quat[number], self._axes.ravel())
        self.model.cam_pos[number] = self._position_m
        self.model.cam_fovy[number] = self._fov_deg

    def places(self) -> tuple[NDArray[np.float64], float]:
        """Return image positions (2, 2) of object and gripper, and the object's projected size.

        Positions are fractions of the newest square rendering from its top left corner; the size
        is in pixels (see `cameras.project`).
        """
        points = np.stack([self.object_position(), self.data.body('hand').xpos])
        places, sizes = project(points, self._position_m, self._axes, self._fov_deg)
        return places, float(sizes[0])

    def workspace(self) -> tuple[NDArray[np.float64], float]:
        """Return the image position (2,) and the projected size of the workspace's center.

        The units are as in `places`.
        """
        places, sizes = project(
            np.array([WORKSPACE_M]), self._position_m, self._axes, self._fov_deg
        )
        return places[0], float(sizes[0])

    def visible_share(self, state: NDArray[np.float64]) -> float:
        """Return the fraction of the object's pixels that is not occluded, from 0 to 1.

        `state` contains the joint positions.
        """
        self._place(state)
        seen = self._object_pixels()
        held = self.model.geom_rgba.copy(), self.model.geom_matid.copy()
        others = np.setdiff1d(np.arange(self.model.ngeom), self._object_geoms)
        self.model.geom_matid[others], self.model.geom_rgba[others, 3] = -1, 0.0
        alone = self._object_pixels()
        self.model.geom_rgba[:], self.model.geom_matid[:] = held
        return seen / alone if alone else 0.0

    def _object_pixels(self) -> int:
        self._renderer.update(self.data, model_camera(self.model.camera(CAMERA).id))
        return int(np.isin(self._renderer.geoms(), self._object_geoms).sum())

    def depth(self, state: NDArray[np.float64], side: int) -> NDArray[np.float16]:
        """Render distances along the current camera's optical axis in meters, (side, side).

        Args:
            state: Joint positions.
            side: Width and height of the depth image in pixels.
        """
        self._place(state)
        self._renderer.update(self.data, model_camera(self.model.camera(CAMERA).id))
        near, far = (
            self.model.stat.extent * z for z in (self.model.vis.map.znear, self.model.vis.map.zfar)
        )
        return self._renderer.depth(near, far, side)

    def grip(self) -> tuple[bool, bool]:
        """Return whether the gripper touches the task's object, and whether both fingers do."""
        pairs = self.data.contact.geom[: self.data.ncon]
        if len(pairs) == 0:
            return False, False
        thing = np.isin(pairs, self._object_geoms)
        other = pairs[thing[:, ::-1] & ~thing]  # the other geom of each contact with the object
        sides = [bool(np.isin(other, geoms).any()) for geoms in self._finger_geoms]
        return bool(np.isin(other, self._gripper_geoms).any()), all(sides)

    def opening(self) -> float:
        """Return the position of the object's joint in its range, 0 to 1; NaN without a joint."""
        if self._joint is None:
            return float('nan')
        low, high = self.model.jnt_range[self._joint]
        at = float(self.data.qpos[self.model.jnt_qposadr[self._joint]])
        return float(np.clip((at - low) / (high - low), 0.0, 1.0))

    def object_position(self) -> NDArray[np.float64]:
        """Return the position (3,) of the task's main object, or of its handle, in meters."""
        return np.array(self.env._get_pos_objects()[:3], dtype=np.float64)

    def object_position_in(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the object's position (3,) in meters for recorded joint positions."""
        self.data.qpos[:] = joints
        mujoco.mj_kinematics(self.model, self.data)
        return self.object_position()

    def state(self) -> NDArray[np.float64]:
        """Return the joint positions, which suffice for rendering."""
        return np.array(self.data.qpos, dtype=np.float64)

    def render(
        self, state: NDArray[np.float64], light: float, thing: Thing | None = None
    ) -> NDArray[np.uint8]:
        """Render an image (S, S, 3) uint8 RGB.

        Args:
            state: Joint positions.
            light: Light level from 0 (dark) to 1 (the appearance's light).
            thing: Distractor to add, if any.
        """
        self._place(state)
        self._illuminate(light)
        self._renderer.update(self.data, model_camera(self.model.camera(CAMERA).id))
        self._add_backdrop(self._renderer.scene)
        for item in self._appearance.clutter:
            _add_shape(self._renderer.scene, item.kind, item.size_m, item.place_m, item.color)
        if thing is not None:
            kind, size, height = SHAPES[thing.kind]
            scaled = (size[0] * thing.scale, size[1] * thing.scale, size[2] * thing.scale)
            place = (*thing.place_m, height * thing.scale)
            _add_shape(self._renderer.scene, kind, scaled, place, COLORS[thing.colour])
        return self._renderer.image()

    def _place(self, state: NDArray[np.float64]) -> None:
        self.data.qpos[:] = state
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _prepare_model(self) -> None:
        model = self.model
        prepare_model(model, self._size)
        model.site_rgba[:, 3] = 0.0  # goal markers would reveal the answer
        seen = set()
        for geom in range(model.ngeom):
            body, mesh = model.body(model.geom_bodyid[geom]).name, int(model.geom_dataid[geom])
            if (
                model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH
                and (body.startswith('right_') or body in BASE)
                and mesh not in seen
            ):
                seen.add(mesh)
                simplify_mesh(model, mesh, BASE_CELL_M if body in BASE else MESH_CELL_M)

    def _bodies_below(self, names: tuple[str, ...]) -> set[int]:
        wanted = {self.model.body(name).id for name in names}
        for body in range(self.model.nbody):
            if int(self.model.body_parentid[body]) in wanted:
                wanted.add(body)
        return wanted

    def _object_joint(self, bodies: set[int]) -> int | None:
        """Return the id of the object's hinge or slide joint if it has exactly one, else None."""
        kinds = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        joints = [
            j
            for j in range(self.model.njnt)
            if int(self.model.jnt_bodyid[j]) in bodies and self.model.jnt_type[j] in kinds
        ]
        return joints[0] if len(joints) == 1 else None

    def _geoms_of(self, bodies: set[int]) -> list[int]:
        return [g for g in range(self.model.ngeom) if int(self.model.geom_bodyid[g]) in bodies]

    def _is_painted(self, geom: int, paint: tuple[str, ...]) -> bool:
        mesh = int(self.model.geom_dataid[geom])
        if not paint:
            return True
        return mesh >= 0 and 'mesh:' + self.model.mesh(mesh).name in paint

    def _paint(self, appearance: Appearance, color: str) -> None:
        for geom in range(self.model.ngeom):
            body = self.model.body(self.model.geom_bodyid[geom]).name
            if body in BASE and not appearance.base_shown:
                self.model.geom_matid[geom], self.model.geom_rgba[geom, 3] = -1, 0.0
            elif body in BASE or body.startswith('right_'):
                self.model.geom_rgba[geom, :3] = np.clip(
                    self.model.geom_rgba[geom, :3] * appearance.robot_tint, 0.0, 1.0
                )
            if body in ('tablelink', 'world', 'RetainingWall'):
                tint = np.array(
                    appearance.table_tint if body == 'tablelink' else appearance.room_tint
                )
                material = self.model.geom_matid[geom]
                if material >= 0:
                    self.model.mat_rgba[material, :3] = tint
                else:
                    self.model.geom_rgba[geom, :3] *= tint
        for geom in self._painted:
            alpha = self.model.geom_rgba[geom, 3]
            if self.model.geom_matid[geom] >= 0:
                alpha = 1.0
            self.model.geom_matid[geom] = -1
            self.model.geom_rgba[geom] = (*COLORS[color], alpha)

    def _illuminate(self, light: float) -> None:
        level = np.array(self._appearance.light_tint) * self._appearance.light * light
        for name in ('light_diffuse', 'light_ambient', 'light_specular'):
            getattr(self.model, name)[:] = self._original[name] * level
        head = self.model.vis.headlight
        head.ambient[:], head.diffuse[:], head.specular[:] = 0.3 * level, 0.4 * level, 0.1 * level

    def _add_backdrop(self, scene: Any) -> None:
        """Add four walls of one color around the room, to replace the black sky."""
        for x, y in ((3.0, 0.0), (-3.0, 0.0), (0.0, 3.5), (0.0, -3.0)):
            size = (0.01, 3.5, 3.0) if x else (3.5, 0.01, 3.0)
            _add_shape(
                scene, mujoco.mjtGeom.mjGEOM_BOX, size, (x, y, 0.0), self._appearance.backdrop
            )


def _add_shape(scene: Any, kind: int, size: Point, place: Point, color: Point) -> None:
    """Add a shape to a rendered scene; it is not simulated."""
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom],
        kind,
        np.array(size),
        np.array(place),
        np.eye(3).ravel(),
        np.array((*color, 1.0), dtype=np.float32),
    )
    scene.ngeom += 1
