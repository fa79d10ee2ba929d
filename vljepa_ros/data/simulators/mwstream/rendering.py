# SPDX-License-Identifier: Apache-2.0
"""Fast CPU rendering of a MuJoCo model, without shadows, reflections and multisampling.

Images are (S, S, 3) uint8. They are rendered at twice the size and reduced by area interpolation.
"""

from __future__ import annotations

import atexit
import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 2
MAX_SHAPES = 10_000  # per scene, as in mujoco.Renderer


def prepare_model(model: Any, size: int) -> None:
    """Set up a model for rendering images of `size` x `size` pixels without multisampling."""
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = model.vis.global_.offheight = OVERSAMPLING * size


@functools.cache
def _gl_context(side: int) -> Any:
    """Return the OpenGL context of this process, cached so that shaders are compiled once."""
    import mujoco

    made = mujoco.gl_context.GLContext(side, side)
    # Free it at exit, before the modules that it needs: handlers run in reverse order.
    atexit.register(_gl_context.cache_clear)
    return made


def model_camera(number: int) -> Any:
    """Return an MjvCamera for the camera of the model with id `number`."""
    import mujoco

    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
    return camera


class Renderer:
    """Renderer of a model that `prepare_model` has set up.

    OSMesa allows only one renderer at a time in a process.
    """

    def __init__(self, model: Any, size: int) -> None:
        import mujoco  # imported here, after the caller has set MUJOCO_GL

        self._size, side = size, OVERSAMPLING * size
        self._model, self._rect = model, mujoco.MjrRect(0, 0, side, side)
        self._large = np.empty((side, side, 3), np.uint8)
        self.scene = mujoco.MjvScene(model, maxgeom=MAX_SHAPES)  # callers can add shapes
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
        """Update the scene from an MjData and an MjvCamera."""
        import mujoco

        option, kinds = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, option, None, camera, kinds.value, self.scene)

    def image(self) -> NDArray[np.uint8]:
        """Render the scene as an image (S, S, 3) uint8 RGB."""
        import mujoco

        mujoco.mjr_render(self._rect, self.scene, self._context)
        mujoco.mjr_readPixels(self._large, None, self._rect, self._context)
        size = (self._size, self._size)
        return cv2.resize(self._large[::-1], size, interpolation=cv2.INTER_AREA)

    def geoms(self) -> NDArray[np.int64]:
        """Render the id of the visible geom in each pixel, (S, S); -1 for the background."""
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
        """Render distances along the optical axis in meters, (side, side).

        Args:
            near_m: Distance of the near clipping plane.
            far_m: Distance of the far clipping plane.
            side: Width and height of the depth image in pixels.
        """
        import mujoco

        mujoco.mjr_render(self._rect, self.scene, self._context)
        buffer = np.empty(self._large.shape[:2], np.float32)
        mujoco.mjr_readPixels(None, buffer, self._rect, self._context)
        meters = near_m / (1.0 - buffer[::-1] * (1.0 - near_m / far_m))
        return cv2.resize(meters, (side, side), interpolation=cv2.INTER_AREA).astype(np.float16)

    def close(self) -> None:
        """Free the renderer, so that another renderer can be created."""
        self._context.free()
