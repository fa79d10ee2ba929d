# SPDX-License-Identifier: Apache-2.0
"""Generation of simulated, annotated streams for `vljepa data mwstream` and `vljepa data kitchen`.

Generation is resumable: complete streams of the requested length, image size and content are
kept, and only the others are generated.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vljepa_ros.core.cpu_cores import cores
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.process_pool import ProcessPool
from vljepa_ros.data.atomic_folder import open_folder, remove_partial
from vljepa_ros.data.format import read_stream, write_stream
from vljepa_ros.data.splits import HOME, KITCHEN, VIEWS, folder_name, seed_range


@dataclass(frozen=True)
class Filming:
    """Rendering options of simulated streams.

    Attributes:
        views: Distribution of cameras (see `splits.VIEWS`).
        size: Width and height of the images in pixels.
        depth: Whether to store depth images as well.
    """

    views: str = HOME
    size: int = 192
    depth: bool = False


Work = tuple[str, int, float, str, Filming]  # split, seed, seconds, folder
ADVICE = 'run the same command again with fewer --jobs to continue'
SIZES = (32, 512)  # image side in pixels; OSMesa renders at twice this size
LENGTHS_S = (1.0, 3600.0)  # the shortest phase takes 0.8 s; an hour takes 4 GB of memory


def generate(
    split: str,
    out: Path,
    streams: int,
    seconds: float = 60.0,
    jobs: int = 0,
    first_seed: int | None = None,
    filming: Filming = Filming(),
) -> int:
    """Generate the missing streams of a split and return the number of generated streams.

    Args:
        split: Name of the split; it determines the range of seeds.
        out: Data folder, which contains one folder per split.
        streams: Number of streams that the split should have.
        seconds: Length of each stream.
        jobs: Number of processes, each of which generates one stream at a time (0: one per CPU).
        first_seed: Seed of the first stream; None starts at the beginning of the split's range.
        filming: Rendering options.

    Raises:
        InputError: the length, size, views or split is invalid, seeds lie outside the split's
            range, or the simulator is not installed.
        OutputError: the folder cannot be written.
        VljepaError: a process died.
    """
    check_seconds(seconds)
    _check_filming(filming)
    seeds = seed_range(split, streams, first_seed)
    require_simulator(split)
    name = folder_name(split, filming.views)
    folder = out / name
    open_folder(folder)
    missing = [s for s in seeds if not _is_whole(folder / f'{name}-{s:05d}', seconds, filming)]
    work = [(split, seed, seconds, str(folder), filming) for seed in missing]
    jobs = min(jobs or cores(), len(work))
    try:
        for _ in _progress(_run(work, jobs), len(work), split):
            pass
    finally:
        remove_partial(folder)
    return len(work)


def check_seconds(seconds: float) -> None:
    """Check that the length of a stream is within `LENGTHS_S`.

    Raises:
        InputError: the stream is too short for a phase or too long for the memory.
    """
    low, high = LENGTHS_S
    if not low <= seconds <= high:  # also rejects nan
        raise InputError(f'--seconds ({seconds:g}) is not in the range {low:g}..{high:g}')


def _check_filming(filming: Filming) -> None:
    if filming.views not in VIEWS:
        raise InputError(f'unknown views {filming.views!r} (known: {", ".join(VIEWS)})')
    low, high = SIZES
    if not low <= filming.size <= high:
        raise InputError(f'--size ({filming.size}) is not in the range {low}..{high}')


def require_simulator(split: str = 'train') -> None:
    """Check that the packages of a split's simulator are installed.

    Raises:
        InputError: mujoco or the package with the scenes is missing; the message names the remedy.
    """
    scenes = 'gymnasium_robotics' if split == KITCHEN else 'metaworld'
    absent = [n for n in ('mujoco', scenes) if importlib.util.find_spec(n) is None]
    if absent:
        raise InputError(
            f'data generation needs {" and ".join(absent)}: '
            'pip install -r requirements/data.txt (in a checkout of the repository)'
        )


def _is_whole(folder: Path, seconds: float, filming: Filming) -> bool:
    try:
        stream = read_stream(folder)
        side = stream.frames().shape[1]
    except VljepaError:
        return False
    count = round(seconds * stream.meta.get('rate_hz', 0))
    has_depth = not filming.depth or 'depth' in stream.state()
    return stream.frame_count == count and side == filming.size and has_depth


def _run(work: Sequence[Work], jobs: int) -> Iterator[str]:
    if jobs <= 1:
        yield from map(_make, work)
        return
    with ProcessPool(jobs, ADVICE) as processes:
        yield from processes.map(_make, work)


def _make(work: Work) -> str:
    split, seed, seconds, folder, filming = work
    if split == KITCHEN:
        data = _kitchen(filming.size).film(split, seed, seconds)
    else:
        data = _director(filming.size, filming.depth).film(split, seed, seconds, filming.views)
    write_stream(Path(folder), data)
    return str(data.name)


@cache
def _director(size: int, depth: bool) -> Any:
    """Return the generator of Meta-World streams, cached because it reuses its scenes."""
    from vljepa_ros.data.simulators.mwstream.streams import Director

    return Director(size, depth)


@cache
def _kitchen(size: int) -> Any:
    """Return the generator of kitchen streams, cached because it reuses its scene."""
    from vljepa_ros.data.simulators.kitchen.streams import Director

    return Director(size)


def _progress(items: Iterable[str], total: int, split: str) -> Iterator[str]:
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, f'{split} streams', total, console=Console(stderr=True))
