# SPDX-License-Identifier: Apache-2.0
"""Fast pictures of a MuJoCo model on a CPU: no shadows or reflections, no multisampling.

Pictures are (S, S, 3) uint8; they are rendered larger and reduced by area.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

OVERSAMPLING = 2


def prepare_model(model: Any, size: int) -> None:
    """Let a model be rendered in pictures of `size`."""
    model.vis.quality.offsamples = 0
    model.vis.global_.offwidth = model.vis.global_.offheight = OVERSAMPLING * size


class Renderer:
    """Pictures of a prepared model. OSMesa serves one renderer at a time in a process."""

    def __init__(self, model: Any, size: int) -> None:
        import mujoco  # by now the caller has chosen what renders

        self._size, side = size, OVERSAMPLING * size
        self._renderer = mujoco.Renderer(model, side, side)
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
            mujoco.mjtRndFlag.mjRND_HAZE,
        ):
            self.scene.flags[flag] = 0

    @property
    def scene(self) -> Any:
        """What is drawn: shapes can be added after `update`."""
        return self._renderer.scene

    def update(self, data: Any, camera: Any) -> None:
        """Take over where everything is, seen by a camera."""
        self._renderer.update_scene(data, camera=camera)

    def picture(self) -> NDArray[np.uint8]:
        """The picture of the scene."""
        large = self._renderer.render()
        return cv2.resize(large, (self._size, self._size), interpolation=cv2.INTER_AREA)

    def close(self) -> None:
        """Free it, for another one."""
        self._renderer.close()
