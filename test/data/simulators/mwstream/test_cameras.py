# SPDX-License-Identifier: Apache-2.0
"""Cameras around the bench: projection against manual calculation, and random sampling."""

from __future__ import annotations

import numpy as np
import pytest

from vljepa_ros.data.simulators.mwstream.cameras import (
    ELEVATION_DEG,
    FOV_DEG,
    HELD_OUT_AZIMUTH_DEG,
    HELD_OUT_STOCK,
    MARGIN,
    PROJECTED_PX,
    STOCK,
    PinholeCamera,
    draw_home,
    draw_wide,
    stock_camera,
)

PATH_M = np.array([[0.05, 0.6, 0.02], [0.1, 0.7, 0.12]])


def drawn(count: int, for_training: bool, height: float = 1.0) -> list[PinholeCamera]:
    rng = np.random.default_rng(0)
    return [draw_wide(rng, PATH_M, height, for_training) for _ in range(count)]


def test_a_point_on_the_optical_axis_is_in_the_middle() -> None:
    camera = PinholeCamera('wide', (0.0, -1.0, 1.0), (0.0, 1.0, 0.0), 0.3, 50.0)
    places, _ = camera.project(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]))
    np.testing.assert_allclose(places, 0.5, atol=1e-9)


def test_right_and_up_are_right_and_up_in_the_image() -> None:
    camera = PinholeCamera('wide', (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 0.0, 90.0)
    places, sizes = camera.project(np.array([[1.0, 2.0, 0.0], [0.0, 2.0, 1.0], [0.0, -1.0, 0.0]]))
    np.testing.assert_allclose(places[0], [0.75, 0.5])  # an image 4 m wide at 2 m
    np.testing.assert_allclose(places[1], [0.5, 0.25])
    assert np.isnan(places[2]).all() and np.isnan(sizes[2])
    np.testing.assert_allclose(sizes[0], 96 * 0.05 / 4.0)


def test_roll_rotates_the_image() -> None:
    upright = PinholeCamera('wide', (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 0.0, 90.0)
    rolled = PinholeCamera('wide', (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), np.pi / 2, 90.0)
    point = np.array([[1.0, 2.0, 0.0]])
    np.testing.assert_allclose(upright.project(point)[0], [[0.75, 0.5]])
    np.testing.assert_allclose(rolled.project(point)[0], [[0.5, 0.75]], atol=1e-9)


@pytest.mark.parametrize('name', list(STOCK))
def test_the_table_is_upright_in_stock_cameras(name: str) -> None:
    camera = stock_camera(name)
    places, sizes = camera.project(np.array([[0.0, 0.65, 0.02], [0.0, 0.65, 0.3]]))
    assert (np.abs(places - 0.5) < 0.35).all() and sizes[0] > 2.0
    if name != 'topview':
        assert places[1, 1] < places[0, 1]  # higher points are higher in the image
    assert camera.held_out == (('camera',) if name in HELD_OUT_STOCK else ())


def test_wide_cameras_keep_the_path_in_the_visible_part() -> None:
    for camera in drawn(150, False, 9 / 16):
        if camera.view != 'wide':
            continue
        places, _ = camera.project(PATH_M)
        assert (np.abs(places[:, 0] - 0.5) <= 0.5 - MARGIN + 1e-3).all()
        assert (np.abs(places[:, 1] - 0.5) <= (0.5 - MARGIN) * 9 / 16 + 1e-3).all()


def test_wide_cameras_cover_sizes_elevations_and_fields_of_view() -> None:
    cameras = [c for c in drawn(400, False) if c.view == 'wide']
    sizes = np.array([c.project(PATH_M.mean(axis=0)[None])[1][0] for c in cameras])
    low, high = PROJECTED_PX
    share = [np.mean((sizes > a) & (sizes <= b)) for a, b in ((2, 4), (4, 6), (6, 9), (9, 16))]
    assert min(share) > 0.08 and sizes.min() > 0.8 * low and sizes.max() < 1.3 * high
    elevations = np.array([c.elevation_deg for c in cameras])
    assert elevations.min() > ELEVATION_DEG[0] - 8 and elevations.max() > 65
    fields = np.array([c.fov_deg for c in cameras])
    assert fields.min() < FOV_DEG[0] + 6 and fields.max() > FOV_DEG[1] - 10


def test_training_excludes_held_out_viewpoints() -> None:
    evaluation, training = drawn(400, False), drawn(400, True)
    assert not any(camera.held_out for camera in training)
    for low, high in HELD_OUT_AZIMUTH_DEG:
        wide = [c.azimuth_deg for c in evaluation if c.view == 'wide']
        assert any(low < azimuth < high for azimuth in wide)
        assert not any(low < c.azimuth_deg < high for c in training if c.view == 'wide')
    assert {c.view for c in evaluation} >= {f'stock:{name}' for name in STOCK}


def test_home_cameras_stay_near_their_viewpoint() -> None:
    rng = np.random.default_rng(1)
    for name in ('corner', 'topview'):
        camera = draw_home(rng, name)
        assert camera.view == f'home:{name}' and not camera.held_out
        _, sizes = camera.project(np.array([[0.0, 0.65, 0.05]]))
        assert 4.5 < sizes[0] < 7.5
