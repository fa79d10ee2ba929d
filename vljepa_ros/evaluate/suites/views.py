# SPDX-License-Identifier: Apache-2.0
"""Suite views: `classify` with cameras of the wide distribution, by properties of the camera.

Every act of the streams is classified with the protocol of the suite classify; all tasks have
equal weight in each row. The first rows use cameras without any held-out property. The rows of
stock cameras, sizes, elevations, image formats and resolutions are subsets of these. Held-out
properties (azimuths, stock cameras, textures, codecs) have rows of their own.

Acts with a projected size outside 2.5 to 14 pixels (5 cm in an image 96 pixels wide) and hand
cameras have rows without a target and are excluded from all other rows. The rows of stock cameras
include all sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vljepa_ros.evaluate.act_classification import (
    LISTS,
    Act,
    Candidates,
    answers_by_source,
    choose,
    see,
)
from vljepa_ros.evaluate.cameras import CameraProperties, camera_of, projected_sizes
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import AnnotationMoment, hidden_rows
from vljepa_ros.evaluate.report import Report, Row, row_of

TARGET, APART_TARGET = 0.85, 0.75  # targets: as in training; held-out properties and stock cameras
SIZES_PX = (0.0, 2.5, 4.0, 6.0, 9.0, 14.0, math.inf)
ASKED_PX = (2.5, 14.0)
ELEVATIONS_DEG = (10.0, 30.0, 55.0, 80.0)
STOCK_CAMERAS = ('corner', 'corner2', 'corner3', 'corner4', 'topview')
HAND_CAMERAS = ('behindGripper', 'gripperPOV')
HELD_OUT = ('azimuth', 'camera', 'texture', 'codec')
SEEN_TOP1, HELD_OUT_TOP1 = (f'top-1, {LISTS[which]}' for which in ('train', 'heldout'))
NOT_DESCRIBED = 'These streams do not describe their cameras (`cameras` in meta.json).'


@dataclass(frozen=True)
class FilmedAct:
    """An annotated action with the camera that filmed it.

    `size_px`: pixels that 5 cm at the object's position cover in an image 96 pixels wide (median
    over the action); NaN if unknown.
    """

    act: Act
    camera: CameraProperties
    size_px: float

    @property
    def is_asked(self) -> bool:
        """Return whether the act's size and camera are in the range that models should support."""
        low, high = ASKED_PX
        is_outside = self.size_px < low or self.size_px >= high
        return not is_outside and self.camera.stock not in HAND_CAMERAS


Part = tuple[str, list[FilmedAct], float | None]  # name, acts, target


def views(context: Context) -> Report:
    """Return top-1 accuracy on the training tasks, by properties of the camera."""
    tasks = context.concepts.train_tasks
    chosen = choose(context.streams, tasks, limit=None)
    pairs = [(moment, camera_of(moment.stream, moment.item.episode)) for moment in chosen]
    described = [(moment, camera) for moment, camera in pairs if camera is not None]
    if not described:
        return Report('views', (), (NOT_DESCRIBED,))
    sizes = _sizes([moment for moment, _ in described])
    acts = see(context, [moment for moment, _ in described])
    found = [
        FilmedAct(act, camera, size)
        for act, (_, camera), size in zip(acts, described, sizes, strict=True)
    ]
    known = [f for f in found if f.is_asked and not f.camera.held_out]
    held_out = Candidates(context, tasks, 'heldout')
    rows = [*_by_list(context, held_out, known), *_parts(held_out, found, known)]
    rows += hidden_rows(context.streams, tasks)
    return Report('views', tuple(rows), _notes(found, known, len(chosen), len(tasks)))


def _sizes(chosen: Sequence[AnnotationMoment]) -> list[float]:
    """Return the projected size of each act's object in pixels; read each stream's state once."""
    found = dict[str, float]()
    streams = {moment.stream.folder: moment.stream for moment in chosen}
    for folder, stream in streams.items():
        own = [moment for moment in chosen if moment.stream.folder == folder]
        sizes = projected_sizes(stream, [moment.item for moment in own])
        found |= {moment.id: size for moment, size in zip(own, sizes, strict=True)}
    return [found[moment.id] for moment in chosen]


def _by_list(context: Context, held_out: Candidates, known: Sequence[FilmedAct]) -> list[Row]:
    """Return top-1 accuracy of the model and baselines for held-out and training paraphrases.

    `known`: acts from cameras without held-out properties.
    """
    if not known:
        return []
    acts, rows = [f.act for f in known], list[Row]()
    seen, oracle, blind = answers_by_source(context, acts)
    for candidates, what, target in (
        (held_out, HELD_OUT_TOP1, TARGET),
        (Candidates(context, held_out.tasks, 'train'), SEEN_TOP1, None),
    ):
        for who, vectors in (('ours', seen), ('oracle', oracle), ('blind', blind)):
            outcomes = candidates.top1(acts, vectors)
            rows.append(row_of(who, what, outcomes, target if who == 'ours' else None))
    return rows


def _parts(
    held_out: Candidates, found: Sequence[FilmedAct], known: Sequence[FilmedAct]
) -> list[Row]:
    """Return the model's top-1 accuracy with held-out paraphrases, one row per group of cameras.

    Groups without acts have no row. `found`: all acts. `known`: acts from cameras without held-out
    properties.
    """
    acts = [f.act for f in found]
    everything = held_out.top1(acts, [act.vector for act in acts])
    parts = [*_apart(found), *_by_size(found), *_by_elevation(known), *_by_format(known)]
    return [
        row_of(
            'ours',
            f'{HELD_OUT_TOP1}: {what}',
            everything.select([f.act.id for f in part]),
            target,
        )
        for what, part, target in parts
        if part
    ]


def _apart(found: Sequence[FilmedAct]) -> Iterator[Part]:
    """Yield the acts of all cameras, of each stock camera, and of each held-out property."""
    yield 'all cameras, held-out ones included', [f for f in found if f.is_asked], None
    for name in (*STOCK_CAMERAS, *HAND_CAMERAS):
        part = [f for f in found if f.camera.stock == name and {*f.camera.held_out} <= {'camera'}]
        yield f'stock camera {name}', part, None if name in HAND_CAMERAS else APART_TARGET
    for kind in HELD_OUT:
        part = [f for f in found if f.is_asked and kind in f.camera.held_out]
        yield f'held-out {kind}', part, APART_TARGET


def _by_size(found: Sequence[FilmedAct]) -> Iterator[Part]:
    known = [f for f in found if not f.camera.held_out and f.camera.stock not in HAND_CAMERAS]
    for low, high in pairwise(SIZES_PX):
        is_asked = low >= ASKED_PX[0] and high <= ASKED_PX[1]
        part = [f for f in known if low <= f.size_px < high]
        yield f'size {_range(low, high)} px', part, TARGET if is_asked else None


def _by_elevation(known: Sequence[FilmedAct]) -> Iterator[Part]:
    for low, high in pairwise(ELEVATIONS_DEG):
        part = [f for f in known if low <= f.camera.elevation_deg < high]
        yield f'elevation {_range(low, high)} deg', part, TARGET


def _by_format(known: Sequence[FilmedAct]) -> Iterator[Part]:
    shapes = {(f.camera.aspect, f.camera.fit) for f in known if f.camera.aspect}
    for shape in sorted(shapes):
        part = [f for f in known if (f.camera.aspect, f.camera.fit) == shape]
        yield f'aspect {" ".join(shape).strip()}', part, TARGET
    for pixels in sorted({f.camera.resolution for f in known if f.camera.resolution}):
        part = [f for f in known if f.camera.resolution == pixels]
        yield f'resolution {pixels} px', part, TARGET


def _range(low: float, high: float) -> str:
    if not low:
        return f'below {high:g}'
    return f'above {low:g}' if math.isinf(high) else f'{low:g}-{high:g}'


def _notes(
    found: Sequence[FilmedAct], known: Sequence[FilmedAct], count: int, task_count: int
) -> tuple[str, ...]:
    """Return notes on the number of acts, and on cameras and properties without acts."""
    tasks = len({f.act.annotation.task for f in known})
    notes = [
        f'{len(found)} actions. Main metrics: {len(known)} actions of {tasks} of {task_count} '
        f'tasks, with an object size of {ASKED_PX[0]:g}-{ASKED_PX[1]:g} px and a camera without '
        'held-out properties. All tasks have equal weight.'
    ]
    if count > len(found):
        notes.append(f'{count - len(found)} actions are left out: {NOT_DESCRIBED}')
    if unknown := int(np.isnan([f.size_px for f in found]).sum()):
        notes.append(f'The metrics by size exclude {unknown} actions of unknown size.')
    there = {f.camera.stock for f in found}
    if absent := [name for name in STOCK_CAMERAS if name not in there]:
        notes.append(f'There are no actions from the stock cameras {", ".join(absent)}.')
    held_out = {kind for f in found for kind in f.camera.held_out}
    if absent := [kind for kind in HELD_OUT if kind not in held_out]:
        notes.append(f'There are no actions with a held-out {", ".join(absent)}.')
    return tuple(notes)
