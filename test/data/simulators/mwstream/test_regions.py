# SPDX-License-Identifier: Apache-2.0
"""Regions of the workspace, compared with plain trigonometry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.synthetic_streams import film

from vljepa_ros.data.format import Stream, read_stream, write_stream
from vljepa_ros.data.simulators.mwstream.cameras import WORKSPACE_M
from vljepa_ros.data.simulators.mwstream.regions import are_still, workspaces

FOV_DEG, DISTANCE_M = 40.0, 2.0


def above(x_m: float = 0.0, **values: Any) -> dict[str, Any]:
    """Return a camera that looks straight down, `x_m` to the right of the workspace."""
    x, y, z = WORKSPACE_M
    return {
        'position_m': [x + x_m, y, z + DISTANCE_M],
        'axes': np.eye(3).tolist(),
        'fov_deg': FOV_DEG,
        'aspect': '1:1',
        'fit': 'crop',
        **values,
    }


def stream(folder: Path, cameras: list[dict[str, Any]] | None) -> Stream:
    data = film('s', 0)
    meta = dict(data.meta)
    if cameras is not None:
        count = 1 + max(item.episode for item in data.annotations)
        meta['cameras'] = [cameras[i % len(cameras)] for i in range(count)]
    data = type(data)(**{**data.__dict__, 'meta': meta})
    return read_stream(write_stream(folder, data))


def test_size_and_place_follow_from_the_camera(tmp_path: Path) -> None:
    width_m = 2 * DISTANCE_M * math.tan(math.radians(FOV_DEG / 2))
    expected = 96 * 0.05 / width_m / 5.2  # 5 cm cover 5.2 of 96 pixels of the region
    found = workspaces(stream(tmp_path, [above(0.3)]))
    assert found is not None
    np.testing.assert_allclose(found[0], [0.5 - 0.3 / width_m, 0.5, expected, expected], rtol=1e-6)


def test_squeezed_image_has_a_taller_region(tmp_path: Path) -> None:
    plain = workspaces(stream(tmp_path / 'a', [above(aspect='16:9', fit='letterbox')]))
    squeezed = workspaces(stream(tmp_path / 'b', [above(aspect='16:9', fit='resize')]))
    assert plain is not None and squeezed is not None
    assert squeezed[0, 2] == pytest.approx(plain[0, 2])
    assert squeezed[0, 3] == pytest.approx(plain[0, 3] * 16 / 9)


def test_streams_without_cameras_have_no_regions(tmp_path: Path) -> None:
    assert workspaces(stream(tmp_path, None)) is None


def test_moving_cameras_are_known_per_frame(tmp_path: Path) -> None:
    data = stream(tmp_path, [above(pan_deg=0.0, shake_deg=0.0), above(pan_deg=4.0)])
    still = are_still(data)
    episodes = {item.episode for item in data.annotations}
    assert len(still) == data.frame_count and still[0]
    assert still.all() == (len(episodes) == 1)
