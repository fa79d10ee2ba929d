# SPDX-License-Identifier: Apache-2.0
"""Region of the workspace in every frame of a stream, from the description of its cameras.

In its region, the workspace has a projected size of `SIZE_PX`, which is slightly smaller than from
the home viewpoints. If a camera shows the workspace at this size or larger, the region is the
whole frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.cameras import WORKSPACE_M, project
from vljepa_ros.data.simulators.mwstream.image_format import ImageFormat

SIZE_PX = 5.2  # pixels that 5 cm cover in a region 96 pixels wide


def workspaces(stream: Stream) -> NDArray[np.float64] | None:
    """Return center x, center y, width and height of every frame, (frames, 4).

    A workspace may reach beyond the frame. Pans and shakes are not considered: those frames show
    the workspace near this place. Returns None if meta.json does not describe the cameras.
    """
    cameras = stream.meta.get('cameras')
    if not cameras:
        return None
    return np.stack([_workspace(camera) for camera in cameras])[shots_of(stream)]


def are_still(stream: Stream) -> NDArray[np.bool_]:
    """Return for every frame whether its camera neither pans nor shakes, (frames,)."""
    cameras = stream.meta.get('cameras') or [{}]
    still = [not (camera.get('pan_deg') or camera.get('shake_deg')) for camera in cameras]
    return np.array(still)[shots_of(stream)]


def shots_of(stream: Stream) -> NDArray[np.int64]:
    """Return the index of every frame's camera in meta.json, (frames,).

    Without cuts within episodes, this is the episode.
    """
    if 'shots' in stream.meta:
        frames = np.arange(stream.frame_count)
        return np.searchsorted(stream.meta['shots'], frames, side='right') - 1
    at_s = (stream.stamps_ns() - stream.stamps_ns()[0]) / 1e9 + 1e-6
    starts = [item.start for item in stream.annotations]
    index = np.searchsorted(starts, at_s, side='right') - 1
    return np.array([item.episode for item in stream.annotations])[index]


def _workspace(camera: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the workspace (4,) of one described camera."""
    image = ImageFormat(camera.get('aspect') or '1:1', camera.get('fit') or 'crop')
    places, sizes = project(
        np.array([WORKSPACE_M]),
        np.array(camera['position_m']),
        np.array(camera['axes']),
        camera['fov_deg'],
    )
    x, y = image.place(places)[0]
    width = float(sizes[0]) / SIZE_PX
    is_squeezed = image.fit == 'resize'
    return np.array([x, y, width, width / image.visible_height if is_squeezed else width])
