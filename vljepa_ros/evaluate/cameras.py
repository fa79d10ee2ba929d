# SPDX-License-Identifier: Apache-2.0
"""Cameras of annotated streams, as their meta.json describes them: one for each episode.

`object_size` of a stream's state is the projected size: how many pixels of a picture that is 96
pixels wide 5 cm at the object cover.
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
STOCK = 'stock:'  # how the views of the simulator's own cameras begin
SIZE = 'object_size'  # of the state


@dataclass(frozen=True)
class Camera:
    """A camera and what became of its pictures; '', 0 or NaN for what is not known.

    `view`: 'home:corner', 'wide', 'stock:corner2'. `fit`: how a picture of `aspect` became square
    (crop, resize, letterbox). `resolution`: pixels across. `held_out`: what training never had of
    it (azimuth, camera, texture, codec).
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
        """The name of the simulator's own camera; '' if it is none of these."""
        return self.view.removeprefix(STOCK) if self.view.startswith(STOCK) else ''


def camera_of(stream: Stream, episode: int) -> Camera | None:
    """Return the camera of an episode; None if the stream does not describe its cameras.

    Raises:
        InputError: the description is wrong, or has no such episode.
    """
    cameras = stream.meta.get('cameras')
    if cameras is None:
        return None
    if not isinstance(cameras, list) or not 0 <= episode < len(cameras):
        raise InputError(f'stream {stream.name}: meta.json has no camera of episode {episode}')
    try:
        return _parsed(cameras[episode])
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f'stream {stream.name}: meta.json: camera of episode {episode}: {error}'
        ) from None


def viewpoint(stream: Stream, episode: int) -> str:
    """Return the home viewpoint of an episode, 'corner2'; '' for any other camera."""
    camera = camera_of(stream, episode)
    if camera is not None:
        home, _, name = camera.view.partition(':')
        return name if home == HOME else ''
    older = stream.meta.get('camera')  # one for the whole stream
    return str(older.get('name', '')) if isinstance(older, dict) else ''


def projected_sizes(stream: Stream, items: list[Annotation]) -> list[float]:
    """Return the median projected size during each annotation; NaN where it is not known."""
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


def _parsed(values: Mapping[str, Any]) -> Camera:
    """Read one description; other keys are left out. Raises TypeError, ValueError."""
    found: dict[str, Any] = {}
    for part in fields(Camera):
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
            number = float(value)
            if math.isinf(number):
                raise ValueError(f'{name} ({value!r}) is not finite')
            found[name] = int(number) if name == 'resolution' else number
    return Camera(**found)
