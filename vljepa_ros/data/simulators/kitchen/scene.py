# SPDX-License-Identifier: Apache-2.0
"""Scene of the Franka kitchen: doors, a jittered camera, light and rendering.

Only the model file of gymnasium-robotics is used, not its code. No physics is simulated: joint
positions are set directly. Needs mujoco; only data generation imports this module. Images are
(S, S, 3) uint8.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.simulators.kitchen.doors import DOORS
from vljepa_ros.data.simulators.mwstream.meshes import simplify_mesh
from vljepa_ros.data.simulators.mwstream.rendering import Renderer, prepare_model

os.environ.setdefault('MUJOCO_GL', 'osmesa')
os.environ.setdefault('LP_NUM_THREADS', '1')

import mujoco

PACKAGE = 'gymnasium_robotics'
MODEL = Path('envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml')
MESH_CELL_M, FINE_FACES = 0.01, 5000  # meshes with more faces are simplified
ARM_RAD = (-1.3, -1.75, 0.0, -2.75, 0.0, 1.2, 0.8)  # folded, so that all doors are visible
ANGLE_DEG = 40.0  # vertical field of view
TARGET_M, ELEVATION_DEG, DISTANCE_M = (-0.2, 0.8, 2.1), -21.0, 2.75
AZIMUTHS_DEG = {'left': 65.0, 'middle': 80.0, 'right': 95.0}
LIGHTS = ('light_diffuse', 'light_ambient', 'light_specular')


@dataclass(frozen=True)
class View:
    """Pose of a camera in the kitchen, and brightness of the light.

    Attributes:
        name: Viewpoint in `AZIMUTHS_DEG`.
        azimuth_deg: Azimuth of the camera around the target.
        elevation_deg: Elevation of the camera (MuJoCo's sign: negative above the target).
        distance_m: Distance from the target.
        target_m: Point that the camera is aimed at.
        light: Brightness relative to the model's own light.
    """

    name: str
    azimuth_deg: float
    elevation_deg: float
    distance_m: float
    target_m: tuple[float, float, float]
    light: float


def draw_view(rng: np.random.Generator) -> View:
    """Draw a random viewpoint and add jitter to its pose."""
    name = str(rng.choice(list(AZIMUTHS_DEG)))
    jitter = rng.uniform(-1.0, 1.0, 6)
    x, y, z = np.round(np.array(TARGET_M) + 0.05 * jitter[3:], 4).tolist()
    return View(
        name,
        round(AZIMUTHS_DEG[name] + 4.0 * float(jitter[0]), 3),
        round(ELEVATION_DEG + 3.0 * float(jitter[1]), 3),
        round(DISTANCE_M + 0.1 * float(jitter[2]), 4),
        (x, y, z),
        round(float(rng.uniform(0.7, 1.0)), 3),
    )


class Kitchen:
    """Kitchen model and its renderer: call `enter` before each stream and `leave` after it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.model = mujoco.MjModel.from_xml_path(str(model_path()))
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:] = self.model.key_qpos[0]
        self.data.qpos[: len(ARM_RAD)] = ARM_RAD
        self._prepare_model()
        self._lights = {name: getattr(self.model, name).copy() for name in LIGHTS}
        self._head = {name: getattr(self.model.vis.headlight, name[6:]).copy() for name in LIGHTS}
        joints = [self.model.joint(door) for door in DOORS]
        self._places = [int(joint.qposadr[0]) for joint in joints]
        self._ends = np.array([joint.range[np.argmax(np.abs(joint.range))] for joint in joints])
        self._renderer: Any = None

    def enter(self, view: View) -> None:
        """Create the renderer and set the camera for one stream. Call `leave` afterwards."""
        self._view, self._camera = view, mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = view.azimuth_deg, view.elevation_deg
        self._camera.distance, self._camera.lookat[:] = view.distance_m, view.target_m
        self._renderer = Renderer(self.model, self._size)

    def leave(self) -> None:
        """Free the renderer, so that another scene can create one."""
        self._renderer.close()
        self._renderer = None

    def render(self, opened: NDArray[np.float64], light: float) -> NDArray[np.uint8]:
        """Render an image (S, S, 3) of the doors.

        Args:
            opened: Openings (D,), from 0 (closed) to 1 (fully open).
            light: Light level, from 0 (dark) to 1 (lit).
        """
        self.data.qpos[self._places] = opened * self._ends
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        for name in LIGHTS:
            getattr(self.model, name)[:] = self._lights[name] * self._view.light * light
            head = getattr(self.model.vis.headlight, name[6:])
            head[:] = self._head[name] * self._view.light * light
        self._renderer.update(self.data, self._camera)
        return self._renderer.image()

    def _prepare_model(self) -> None:
        model = self.model
        prepare_model(model, self._size)
        model.vis.global_.fovy = ANGLE_DEG
        for mesh in np.flatnonzero(model.mesh_facenum > FINE_FACES):
            simplify_mesh(model, int(mesh), MESH_CELL_M)


def model_path() -> Path:
    """Return the path of the kitchen's model file. Raises InputError if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / MODEL).is_file():
            return Path(folder) / MODEL
    raise InputError(f'{PACKAGE} is not installed or has no {MODEL.name}')
