# SPDX-License-Identifier: Apache-2.0
"""Cameras around Meta-World's workbench: pose, projection and random sampling.

There are three kinds of cameras. `home` cameras are jittered around four zoomed viewpoints. `wide`
cameras stand anywhere around the workbench; they are sampled by the projected size of objects.
`stock` cameras are Meta-World's own, with their own field of view, but upright.

Coordinates are meters in Meta-World's frame: the robot stands at the origin and faces +y, and the
table's surface is z = 0. Azimuth is measured around the workspace: 0 degrees at the robot's right
hand (+x), 90 degrees opposite the robot. Projected size is the number of pixels that 5 cm cover in
an image 96 pixels wide. No simulator is needed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
Points = NDArray[np.float64]

WORKSPACE_M: Point = (0.0, 0.65, 0.08)
OBJECT_M, REFERENCE_PX = 0.05, 96.0

# Viewpoint -> position (m), target (m), field of view (degrees).
VIEWPOINTS: dict[str, tuple[Point, Point, float]] = {
    'corner': ((-1.1, -0.4, 0.6), (0.0, 0.66, 0.07), 27.0),
    'corner2': ((1.27, -0.15, 1.05), (0.0, 0.69, 0.09), 27.0),
    'corner3': ((0.9, 0.0, 1.5), (0.0, 0.66, 0.07), 26.0),
    'topview': ((-0.6, 0.5, 1.5), (0.0, 0.64, 0.05), 30.0),
}
# Meta-World's own cameras: position (m), a point on the optical axis (m), roll (radians), field of
# view (degrees). In Meta-World all except topview render upside down; here they are upright.
STOCK: dict[str, tuple[Point, Point, float, float]] = {
    'corner': ((-1.1, -0.4, 0.6), (-0.012, 0.688, 0.1648), 0.0, 45.0),
    'corner2': ((1.3, -0.2, 1.1), (-0.074, 0.6444, 0.2088), -0.0668, 60.0),
    'corner3': ((0.9, 0.0, 1.5), (0.141, 0.5632, -0.0036), 0.1489, 45.0),
    'corner4': ((0.75, 0.075, 0.7), (-0.0799, 0.585, 0.1617), -0.0668, 60.0),
    'topview': ((0.0, 0.5, 1.5), (0.0, 0.5, 0.1), 0.0, 45.0),
}
UPWARD: Point = (0.0, 0.0, 1.0)
UPWARD_FROM_ABOVE: Point = (0.0, 1.0, 0.0)  # for viewpoints that look straight down

AZIMUTH_DEG = (-70.0, 250.0)  # the robot's torso blocks the view from the other side
ELEVATION_DEG = (10.0, 80.0)
ROLL_DEG = 12.0
FOV_DEG = (20.0, 75.0)
PROJECTED_PX = (2.5, 14.0)
DISTANCE_M = (0.5, 2.8)
ROOM_M = ((-2.8, 2.8), (-2.8, 3.3), (0.05, 2.9))  # inside the walls
OFF_CENTER = 0.3  # maximum offset of the object from the center, as a fraction of the image
MARGIN = 0.08  # minimum distance of objects from the border, as a fraction of the image
STOCK_SHARE = 0.25  # fraction of stock cameras among the wide cameras
SIZE_DRAWS, POSE_DRAWS = 12, 30

# Held out of training, so that tests can separate interpolation from generalization.
HELD_OUT_AZIMUTH_DEG = ((20.0, 45.0), (195.0, 220.0))
HELD_OUT_STOCK = ('corner', 'corner4')
HELD_OUT_SHARE = 0.12  # fraction of the evaluation's shots with a held-out texture or codec


@dataclass(frozen=True)
class PinholeCamera:
    """Pinhole camera with a square image.

    Attributes:
        view: 'home:<viewpoint>', 'wide' or 'stock:<name>'.
        position_m: Position of the camera.
        target_m: Point on the optical axis.
        roll_rad: Rotation around the optical axis.
        fov_deg: Horizontal and vertical field of view.
        upward: Direction that is upward in the image if the roll is 0.
        held_out: Properties that are held out of training: 'azimuth', 'camera' or none.
    """

    view: str
    position_m: Point
    target_m: Point
    roll_rad: float
    fov_deg: float
    upward: Point = UPWARD
    held_out: tuple[str, ...] = ()

    @functools.cached_property
    def axes(self) -> Points:
        """Return the camera's axes (3, 3) as columns: image right, image up, and backward."""
        back = np.subtract(self.position_m, self.target_m)
        back /= np.linalg.norm(back)
        right = np.cross(self.upward, back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        c, s = np.cos(self.roll_rad), np.sin(self.roll_rad)
        return np.stack([c * right + s * up, c * up - s * right, back], axis=1)

    @property
    def azimuth_deg(self) -> float:
        """Return the azimuth around the workspace in degrees, in [-90, 270)."""
        x, y, _ = np.subtract(self.position_m, WORKSPACE_M)
        return float((np.degrees(np.arctan2(y, x)) + 90.0) % 360.0 - 90.0)

    @property
    def elevation_deg(self) -> float:
        """Return the elevation above the workspace's horizon in degrees."""
        x, y, z = np.subtract(self.position_m, WORKSPACE_M)
        return float(np.degrees(np.arctan2(z, np.hypot(x, y))))

    @property
    def distance_m(self) -> float:
        """Return the distance from the workspace's center in meters."""
        return float(np.linalg.norm(np.subtract(self.position_m, WORKSPACE_M)))

    def project(self, points_m: Points) -> tuple[Points, Points]:
        """Project points (N, 3) in meters to image positions (N, 2) and projected sizes (N,).

        Positions are fractions of the image from its top left corner, sizes are in pixels. Both
        are NaN for points behind the camera.
        """
        return project(points_m, np.array(self.position_m), self.axes, self.fov_deg)

    def described(self) -> dict[str, Any]:
        """Return the camera's pose and field of view as JSON values for a stream's meta.json."""
        return {
            'view': self.view,
            'azimuth_deg': round(self.azimuth_deg, 2),
            'elevation_deg': round(self.elevation_deg, 2),
            'roll_deg': round(float(np.degrees(self.roll_rad)), 2),
            'fov_deg': round(self.fov_deg, 2),
            'distance_m': round(self.distance_m, 3),
            'position_m': [round(x, 4) for x in self.position_m],
            'axes': self.axes.round(5).tolist(),
        }


def project(
    points_m: Points, position_m: Points, axes: Points, fov_deg: float
) -> tuple[Points, Points]:
    """Project points like `PinholeCamera.project`, for a camera with arbitrary axes.

    Args:
        points_m: Points (N, 3).
        position_m: Position (3,) of the camera.
        axes: Axes (3, 3) of the camera (see `PinholeCamera.axes`).
        fov_deg: Field of view.

    Returns:
        Image positions (N, 2) and projected sizes (N,).
    """
    x, y, z = ((points_m - position_m) @ axes).T
    depth = np.where(z < 0, -z, np.nan)
    width = 2.0 * depth * np.tan(np.radians(fov_deg) / 2.0)
    places = np.stack([0.5 + x / width, 0.5 - y / width], axis=1)
    return places, REFERENCE_PX * OBJECT_M / width


def draw_home(rng: np.random.Generator, name: str) -> PinholeCamera:
    """Draw a random camera near the viewpoint `name` of `VIEWPOINTS`."""
    position, target, fov_deg = VIEWPOINTS[name]
    offset = rng.uniform(-0.12, 0.12, 3).round(4)
    target_offset = rng.uniform(-0.04, 0.04, 3).round(4)
    roll = float(np.round(rng.uniform(-0.05, 0.05), 4))
    zoom = float(np.round(rng.uniform(0.92, 1.08), 4))
    return PinholeCamera(
        f'home:{name}',
        _point(np.add(position, offset)),
        _point(np.add(target, target_offset)),
        roll,
        fov_deg * zoom,
        UPWARD_FROM_ABOVE if name == 'topview' else UPWARD,
    )


def stock_camera(name: str) -> PinholeCamera:
    """Return Meta-World's camera `name`, turned upright (see `STOCK`)."""
    position, target, roll, fov_deg = STOCK[name]
    return PinholeCamera(
        f'stock:{name}',
        position,
        target,
        roll,
        fov_deg,
        UPWARD_FROM_ABOVE if name == 'topview' else UPWARD,
        ('camera',) if name in HELD_OUT_STOCK else (),
    )


def draw_wide(
    rng: np.random.Generator, points_m: Points, visible_height: float, for_training: bool
) -> PinholeCamera:
    """Draw a stock camera (one of Meta-World's own) or a random camera.

    The probability of a stock camera is `STOCK_SHARE`. A random camera stands anywhere around the
    workbench and has all points in its image. If no random pose fits, the camera has a fixed
    position and is aimed at the points' mean.

    Args:
        rng: Random generator.
        points_m: Points (N, 3) that must be in the image of a random camera.
        visible_height: Fraction of the rendering's height that is kept when it is cropped to the
            recorded aspect ratio, around the middle row.
        for_training: Whether to exclude cameras that are held out of training.
    """
    if rng.random() < STOCK_SHARE:
        names = [n for n in STOCK if not (for_training and n in HELD_OUT_STOCK)]
        return stock_camera(str(rng.choice(names)))
    for _ in range(SIZE_DRAWS):  # the size is drawn first, so that rejected poses do not bias it
        size_px = float(np.exp(rng.uniform(*np.log(PROJECTED_PX))))
        for _ in range(POSE_DRAWS):
            camera = _draw_pose(rng, points_m.mean(axis=0), size_px)
            if camera is None or (for_training and camera.held_out):
                continue
            if _in_picture(camera, points_m, visible_height):
                return camera
    return PinholeCamera('wide', (1.5, -0.5, 1.6), _point(points_m.mean(axis=0)), 0.0, 40.0)


def _draw_pose(rng: np.random.Generator, focus_m: Points, size_px: float) -> PinholeCamera | None:
    """Draw a random camera near `focus_m`; None if it is outside the room or its distance range.

    `size_px` is the projected size at `focus_m`. The camera's axis passes `focus_m` at a random
    offset of up to `OFF_CENTER` of the image width.
    """
    azimuth_deg = float(rng.uniform(*AZIMUTH_DEG))
    azimuth, elevation = np.radians([azimuth_deg, rng.uniform(*ELEVATION_DEG)])
    fov_deg, roll = float(rng.uniform(*FOV_DEG)), float(np.radians(rng.uniform(-1, 1) * ROLL_DEG))
    width_m = REFERENCE_PX * OBJECT_M / size_px
    distance_m = width_m / (2.0 * np.tan(np.radians(fov_deg) / 2.0))
    aim = rng.uniform(-OFF_CENTER, OFF_CENTER, 2) * width_m
    flat = np.cos(elevation)
    way = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    position = focus_m + distance_m * way
    inside = all(low < x < high for x, (low, high) in zip(position, ROOM_M, strict=True))
    if not inside or not DISTANCE_M[0] <= distance_m <= DISTANCE_M[1]:
        return None
    straight = PinholeCamera('wide', _point(position), _point(focus_m), 0.0, fov_deg)
    target = focus_m + straight.axes[:, 0] * aim[0] + straight.axes[:, 1] * aim[1]
    camera = PinholeCamera('wide', _point(position), _point(target), roll, fov_deg)
    held_out = any(low < camera.azimuth_deg < high for low, high in HELD_OUT_AZIMUTH_DEG)
    return PinholeCamera(
        'wide', camera.position_m, camera.target_m, roll, fov_deg, UPWARD,
        ('azimuth',) if held_out else (),
    )  # fmt: skip


def _in_picture(camera: PinholeCamera, points_m: Points, visible_height: float) -> bool:
    places, _ = camera.project(points_m)
    off = np.abs(places - 0.5)
    limit = np.array([0.5, 0.5 * visible_height]) - MARGIN * np.array([1.0, visible_height])
    return bool((off <= limit).all())  # false for NaN (behind the camera)


def _point(values: Any) -> Point:
    x, y, z = np.round(np.asarray(values, np.float64), 4).tolist()
    return x, y, z
