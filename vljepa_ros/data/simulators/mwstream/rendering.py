# SPDX-License-Identifier: Apache-2.0
"""Fast pictures of a MuJoCo model on a CPU: no shadows or reflections, no multisampling.

Pictures are (S, S, 3) uint8; they are rendered larger and reduced by area.
"""

from __future__ import annotations

import atexit
import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 2
MAX_SHAPES = 10_000  # in a scene, as mujoco.Renderer has


def prepare_model(model: Any, size: int) -> None:
    """Let a model be rendered in pictures of `size`."""
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = model.vis.global_.offheight = OVERSAMPLING * size


@functools.cache
def _gl_context(side: int) -> Any:
    """OpenGL of this process. Kept: a new one compiles its shaders anew, half of a film's time."""
    import mujoco

    made = mujoco.gl_context.GLContext(side, side)
    # It frees itself while that can still be done: at exit the last to register is the first.
    atexit.register(_gl_context.cache_clear)
    return made


def model_camera(number: int) -> Any:
    """A camera of the model, by its id."""
    import mujoco

    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
    return camera


class Renderer:
    """Pictures of a prepared model. OSMesa serves one renderer at a time in a process."""

    def __init__(self, model: Any, size: int) -> None:
        import mujoco  # by now the caller has chosen what renders

        self._size, side = size, OVERSAMPLING * size
        self._model, self._rect = model, mujoco.MjrRect(0, 0, side, side)
        self._large = np.empty((side, side, 3), np.uint8)
        self.scene = mujoco.MjvScene(model, maxgeom=MAX_SHAPES)  # shapes can be added to it
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
            mujoco.mjtRndFlag.mjRND_HAZE,
        ):
            self.scene.flags[flag] = 0
        _gl_context(side).make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)

    def update(self, data: Any, camera: Any) -> None:
        """Take over where everything is, seen by an MjvCamera."""
        import mujoco

        option, kinds = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, option, None, camera, kinds.value, self.scene)

    def picture(self) -> NDArray[np.uint8]:
        """The picture of the scene."""
        import mujoco

        mujoco.mjr_render(self._rect, self.scene, self._context)
        mujoco.mjr_readPixels(self._large, None, self._rect, self._context)
        size = (self._size, self._size)
        return cv2.resize(self._large[::-1], size, interpolation=cv2.INTER_AREA)

    def geoms(self) -> NDArray[np.int64]:
        """(S, S) the geom that each pixel of the scene shows; -1 for none."""
        import mujoco

        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self.scene.flags[flag] = 1
        mujoco.mjr_render(self._rect, self.scene, self._context)
        mujoco.mjr_readPixels(self._large, None, self._rect, self._context)
        for flag in flags:
            self.scene.flags[flag] = 0
        colors = self._large[::-OVERSAMPLING, ::OVERSAMPLING].astype(np.int64)
        numbers = colors @ np.array([1, 1 << 8, 1 << 16]) - 1
        shown = np.full(self.scene.ngeom + 1, -1, np.int64)
        for item in self.scene.geoms[: self.scene.ngeom]:
            if item.objtype == mujoco.mjtObj.mjOBJ_GEOM and 0 <= item.segid < self.scene.ngeom:
                shown[item.segid] = item.objid
        return shown[np.where((numbers >= 0) & (numbers < self.scene.ngeom), numbers, -1)]

    def depth(self, near_m: float, far_m: float, side: int) -> NDArray[np.float16]:
        """(side, side) distances along the optical axis in m, of the scene as it is."""
        import mujoco

        mujoco.mjr_render(self._rect, self.scene, self._context)
        buffer = np.empty(self._large.shape[:2], np.float32)
        mujoco.mjr_readPixels(None, buffer, self._rect, self._context)
        meters = near_m / (1.0 - buffer[::-1] * (1.0 - near_m / far_m))
        return cv2.resize(meters, (side, side), interpolation=cv2.INTER_AREA).astype(np.float16)

    def close(self) -> None:
        """Free it, for another one."""
        self._context.free()
