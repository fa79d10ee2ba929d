# SPDX-License-Identifier: Apache-2.0
"""One Meta-World task as a scene: physics, jittered camera, colours, light, pictures.

Needs metaworld and mujoco; only data generation imports this module. Pictures are (S, S, 3) uint8.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault('MUJOCO_GL', 'osmesa')

import mujoco  # noqa: E402
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS  # noqa: E402
from metaworld.policies import ENV_POLICY_MAP  # noqa: E402

OVERSAMPLING = 2  # pictures are rendered larger and reduced by area, instead of multisampling
COLOURS: dict[str, tuple[float, float, float]] = {
    'red': (0.85, 0.08, 0.08),
    'green': (0.08, 0.62, 0.12),
    'blue': (0.10, 0.22, 0.85),
    'yellow': (0.95, 0.85, 0.08),
    'orange': (0.97, 0.48, 0.05),
    'purple': (0.52, 0.10, 0.66),
    'white': (0.96, 0.96, 0.96),
    'black': (0.05, 0.05, 0.05),
}


@dataclass(frozen=True)
class View:
    """A camera: a Meta-World viewpoint and offsets from it (m, radians, share of the angle)."""

    name: str
    offset_m: tuple[float, float, float]
    turn_rad: tuple[float, float, float]
    zoom: float


@dataclass(frozen=True)
class Look:
    """Light (1 is normal), its tint, and tints of the table and the surroundings."""

    light: float
    light_tint: tuple[float, float, float]
    table_tint: tuple[float, float, float]
    room_tint: tuple[float, float, float]


# Meta-World's corner cameras hang upside down (half a turn about the axis rights them), and see
# far more than the table (a share of their opening angle).
VIEWPOINTS = {'corner': 0.75, 'corner2': 0.68}


def draw_view(rng: np.random.Generator, name: str) -> View:
    """A jittered camera around one viewpoint."""
    return View(
        name,
        tuple(rng.uniform(-0.06, 0.06, 3).round(4).tolist()),
        tuple(rng.uniform(-0.04, 0.04, 3).round(4).tolist()),
        float(np.round(rng.uniform(0.92, 1.08), 4)),
    )


def draw_look(rng: np.random.Generator) -> Look:
    """Light and colours of the surroundings."""

    def tint(low: float) -> tuple[float, float, float]:
        return tuple(rng.uniform(low, 1.0, 3).round(3).tolist())  # type: ignore[return-value]

    return Look(float(np.round(rng.uniform(0.75, 1.2), 3)), tint(0.9), tint(0.75), tint(0.8))


class Scene:
    """One task's environment with its renderer; made once and reset for every episode."""

    def __init__(self, task: str, bodies: tuple[str, ...], render_size: int) -> None:
        self.task, self._size = task, render_size
        self.env: Any = ENVIRONMENTS[f'{task}-v3-goal-observable'](seed=0)
        self.env._freeze_rand_vec = False
        self.env.max_path_length = 10**9
        self.model, self.data = self.env.model, self.env.data
        self.model.vis.quality.offsamples = 0
        self.model.vis.global_.offwidth = OVERSAMPLING * render_size
        self.model.vis.global_.offheight = OVERSAMPLING * render_size
        self._renderer: Any = None
        self.model.site_rgba[:, 3] = 0.0  # goal markers give the answer away
        self._original = {
            name: getattr(self.model, name).copy()
            for name in ('cam_pos', 'cam_quat', 'cam_fovy', 'geom_rgba', 'geom_matid',
                         'mat_rgba', 'light_diffuse', 'light_ambient', 'light_specular')
        }
        self._objects = self._geoms_of(bodies)

    def policy(self) -> Any:
        """A fresh scripted policy of the task."""
        return ENV_POLICY_MAP[f'{self.task}-v3']()

    def reset(self, seed: int, view: View, look: Look, colour: str) -> NDArray[np.float64]:
        """Start an episode; returns the first observation."""
        self.env.seed(seed)
        for name, value in self._original.items():
            getattr(self.model, name)[:] = value
        obs, _ = self.env.reset()
        self._aim(view)
        self._paint(look, colour)
        self._look = look
        mujoco.mj_forward(self.model, self.data)  # moves the camera
        return obs  # type: ignore[no-any-return]

    def open(self) -> None:
        """Make the renderer. OSMesa serves one at a time in a process: close it again."""
        side = OVERSAMPLING * self._size
        self._renderer = mujoco.Renderer(self.model, side, side)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
        self._renderer = None

    def render(self, light: float) -> NDArray[np.uint8]:
        """The picture under `light` (0 dark, 1 as drawn): (S, S, 3) uint8 RGB."""
        self._illuminate(light)
        self._renderer.update_scene(self.data, camera=self._camera)
        large = self._renderer.render()
        return cv2.resize(  # type: ignore[return-value]
            large, (self._size, self._size), interpolation=cv2.INTER_AREA
        )

    def _geoms_of(self, bodies: tuple[str, ...]) -> list[int]:
        """Visible geoms of the named bodies and of all below them."""
        wanted = {self.model.body(name).id for name in bodies}
        for body in range(self.model.nbody):
            if int(self.model.body_parentid[body]) in wanted:
                wanted.add(body)
        return [g for g in range(self.model.ngeom) if int(self.model.geom_bodyid[g]) in wanted]

    def _aim(self, view: View) -> None:
        self._camera = self.model.camera(view.name).id
        turn, product = np.zeros(4), np.zeros(4)
        mujoco.mju_euler2Quat(turn, np.array(view.turn_rad) + [0, 0, np.pi], 'xyz')
        mujoco.mju_mulQuat(product, self._original['cam_quat'][self._camera], turn)
        self.model.cam_quat[self._camera] = product
        self.model.cam_pos[self._camera] += view.offset_m
        self.model.cam_fovy[self._camera] *= VIEWPOINTS[view.name] * view.zoom

    def _paint(self, look: Look, colour: str) -> None:
        for geom in range(self.model.ngeom):
            body = self.model.body(self.model.geom_bodyid[geom]).name
            tint = look.table_tint if body == 'tablelink' else look.room_tint
            if body in ('tablelink', 'world', 'RetainingWall'):
                material = self.model.geom_matid[geom]
                target = self.model.mat_rgba[material] if material >= 0 else (
                    self.model.geom_rgba[geom])
                target[:3] = np.array(tint) * (1.0 if material >= 0 else target[:3])
        for geom in self._objects:
            self.model.geom_matid[geom] = -1
            self.model.geom_rgba[geom, :3] = COLOURS[colour]

    def _illuminate(self, light: float) -> None:
        level = np.array(self._look.light_tint) * self._look.light * light
        for name in ('light_diffuse', 'light_ambient', 'light_specular'):
            getattr(self.model, name)[:] = self._original[name] * level
        head = self.model.vis.headlight
        head.ambient[:], head.diffuse[:], head.specular[:] = 0.3 * level, 0.4 * level, 0.1 * level
