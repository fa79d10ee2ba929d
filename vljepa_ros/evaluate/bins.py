# SPDX-License-Identifier: Apache-2.0
"""Binning of the hops (inference steps) of a stream by camera view, object size and light.

Camera views and light levels come from the stream's meta.json, object sizes from its recorded
state. Properties that a stream does not describe have no bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.data.format import Annotation, Stream

HIDDEN = 'light: dark or covered'
VIEWS = ('name', 'view')
BANDS: dict[str, tuple[float, ...]] = {  # lower bounds of all bands except the first
    'object_size': (4.0, 6.5, 10.0),  # pixels that 5 cm cover in an image 96 pixels wide
    'elevation_deg': (25.0, 50.0),
    'zoom': (0.97, 1.03),
    'light': (0.9, 1.05),
}


@dataclass(frozen=True)
class BinnedHop:
    """One hop (inference step) of a stream, with the names of the bins that contain it."""

    stream: str
    bins: tuple[str, ...]


def hops_of_bins(stream: Stream, facts: ModelFacts) -> list[BinnedHop]:
    """Return one `BinnedHop` with its bins for each inference step of a stream.

    The stream's frame rate must equal the model's.
    """
    rate, per = float(stream.meta.get('rate_hz', facts.rate_hz)), facts.tubelet_frames
    sizes = stream.state().get('object_size')
    found, at = list[BinnedHop](), 0
    for hop in range(stream.frame_count // per):
        time_s = (per * (hop + 1) - 1) / rate
        while at + 1 < len(stream.annotations) and stream.annotations[at].end <= time_s:
            at += 1
        item = stream.annotations[at] if stream.annotations else None
        size = float('nan') if sizes is None else float(sizes[per * (hop + 1) - 1])
        found.append(BinnedHop(stream.name, bins_of(stream.meta, item, size)))
    return found


def bins_of(
    meta: Mapping[str, Any], item: Annotation | None, size_px: float = float('nan')
) -> tuple[str, ...]:
    """Return the names of all bins that contain a moment, such as 'elevation_deg: below 25'.

    Args:
        meta: Content of the stream's meta.json.
        item: Annotation at the moment, if there is one.
        size_px: Projected object size (pixels per 5 cm, image width 96); NaN if unknown.
    """
    if item is not None and (item.covered or not item.light):
        return (HIDDEN,)
    episode = item.episode if item is not None else 0
    camera = _of_episode(meta.get('cameras'), episode) or _mapping(meta.get('camera'))
    look = _of_episode(meta.get('looks'), episode)
    found = [f'view: {camera[key]}' for key in VIEWS if isinstance(camera.get(key), str)]
    known = {**camera, 'light': look.get('light'), 'object_size': size_px}
    for key, ends in BANDS.items():
        value = known.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            found.append(f'{key}: {_band(float(value), ends)}')
    return tuple(found)


def _band(value: float, ends: tuple[float, ...]) -> str:
    names = [
        f'below {ends[0]:g}',
        *(f'{a:g} to {b:g}' for a, b in zip(ends, ends[1:], strict=False)),
    ]
    names.append(f'{ends[-1]:g} or more')
    return names[sum(value >= end for end in ends)]


def _of_episode(rows: Any, episode: int) -> Mapping[str, Any]:
    if not isinstance(rows, list) or not rows:
        return {}
    return _mapping(rows[min(episode, len(rows) - 1)])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
