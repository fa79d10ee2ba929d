# SPDX-License-Identifier: Apache-2.0
"""Cameras of annotated streams, described in the stream's meta.json, one per episode.

The projected size of an object (`object_size` in a stream's state) is the number of pixels that
5 cm at the object's position cover in an image 96 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.splits import HOME

NAN = float('nan')
STOCK = 'stock:'  # prefix of the views of the simulator's own cameras
SIZE = 'object_size'  # key in the state


@dataclass(frozen=True)
class CameraProperties:
    """Pose, lens and image format of a camera; unknown values are '', 0 or NaN.

    `view`: name of the view, such as 'home:corner', 'wide' or 'stock:corner2'. `fit`: conversion
    of an image of `aspect` to a square (crop, resize, letterbox). `resolution`: width in pixels.
    `held_out`: properties that are absent from training (azimuth, camera, texture, codec).
    """

    view: str = ''
    azimuth_deg: float = NAN
    elevation_deg: float = NAN
    roll_deg: float = NAN
    fov_deg: float = NAN
    distance_m: float = NAN
    aspect: str = ''
    fit: str = ''
    resolution: int = 0
    codec: str = ''
    texture: str = ''
    held_out: tuple[str, ...] = ()

    @property
    def stock(self) -> str:
        """Return the name of the simulator's own camera; '' for other cameras."""
        return self.view.removeprefix(STOCK) if self.view.startswith(STOCK) else ''


def camera_of(stream: Stream, episode: int) -> CameraProperties | None:
    """Return the camera of an episode; None if the stream does not describe its cameras.

    Raises:
        InputError: The description is invalid or does not contain the episode.
    """
    cameras = stream.meta.get('cameras')
    if cameras is None or 'shots' in stream.meta:  # several cameras in an episode
        return None
    if not isinstance(cameras, list) or not 0 <= episode < len(cameras):
        raise InputError(f'stream {stream.name}: meta.json has no camera of episode {episode}')
    try:
        return _parsed(cameras[episode])
    except (OverflowError, ValueError) as error:
        raise InputError(
            f'stream {stream.name}: meta.json: camera of episode {episode}: {error}'
        ) from None


def viewpoint(stream: Stream, episode: int) -> str:
    """Return the name of an episode's home camera, such as 'corner2'; '' for other cameras."""
    camera = camera_of(stream, episode)
    if camera is not None:
        home, _, name = camera.view.partition(':')
        return name if home == HOME else ''
    older = stream.meta.get('camera')  # older format: one camera for the whole stream
    return str(older.get('name', '')) if isinstance(older, dict) else ''


def projected_sizes(stream: Stream, items: list[Annotation]) -> list[float]:
    """Return the projected size during each annotation; NaN if unknown.

    It is the median number of pixels that 5 cm at the object's position cover in an image 96
    pixels wide.
    """
    sizes = stream.state().get(SIZE)
    if sizes is None:
        return [NAN] * len(items)
    at_s = (stream.stamps_ns() - stream.stamps_ns()[0]) / 1e9
    found = []
    for item in items:
        during = sizes[(at_s >= item.start) & (at_s < item.end)].astype(np.float64)
        during = during[np.isfinite(during)]
        found.append(float(np.median(during)) if len(during) else NAN)
    return found


def _parsed(values: object) -> CameraProperties:
    """Parse one camera description; ignore unknown keys. Raises ValueError if it is invalid."""
    if not isinstance(values, Mapping):
        raise ValueError(f'{values!r} is not a mapping')
    found: dict[str, Any] = {}
    for part in fields(CameraProperties):
        if values.get(part.name) is None:
            continue
        value, name = values[part.name], part.name
        if name == 'held_out':
            if not isinstance(value, list):
                raise ValueError(f'held_out ({value!r}) is not a list')
            found[name] = tuple(str(kind) for kind in value)
        elif isinstance(part.default, str):
            found[name] = str(value)
        else:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f'{name} ({value!r}) is not a number')
            number = float(value)
            if math.isinf(number):
                raise ValueError(f'{name} ({value!r}) is not finite')
            found[name] = int(number) if name == 'resolution' else number
    return CameraProperties(**found)
