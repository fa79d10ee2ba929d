# SPDX-License-Identifier: Apache-2.0
"""Makes annotated streams in the simulator: the work of `vljepa data mwstream` and `data kitchen`.

Resumable: streams that lie in the folder already, whole and of the length that is asked for, are
kept, and the rest is made.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vljepa_ros.data.format import read_stream, write_stream
from vljepa_ros.data.splits import KITCHEN, seed_range
from vljepa_ros.data.whole import open_folder, remove_partial
from vljepa_ros.errors import InputError, VljepaError
from vljepa_ros.processes import Processes, cores

Work = tuple[str, int, float, str]  # split, seed, seconds, folder
ADVICE = 'run the same command again to go on, with fewer --jobs'
LENGTHS_S = (1.0, 3600.0)  # a phase takes 0.8 s; an hour takes 1 GB of memory


def generate(
    split: str,
    out: Path,
    streams: int,
    seconds: float = 60.0,
    jobs: int = 0,
    first_seed: int | None = None,
) -> int:
    """Make the streams of a split that are not there yet; returns how many were made.

    `jobs` processes make one stream each at a time (0: as many as there are CPUs).

    Raises:
        InputError: no such length, unknown split, seeds outside its range, or no simulator.
        OutputError: the folder cannot be written to.
        VljepaError: a process died.
    """
    check_seconds(seconds)
    seeds = seed_range(split, streams, first_seed)
    require_simulator(split)
    folder = out / split
    open_folder(folder)
    missing = [s for s in seeds if not _is_whole(folder / f'{split}-{s:05d}', seconds)]
    work = [(split, seed, seconds, str(folder)) for seed in missing]
    jobs = min(jobs or cores(), len(work))
    try:
        for _ in _progress(_run(work, jobs), len(work), split):
            pass
    finally:
        remove_partial(folder)
    return len(work)


def check_seconds(seconds: float) -> None:
    """Whether streams can be so long.

    Raises:
        InputError: too short for a phase, or too long for memory.
    """
    low, high = LENGTHS_S
    if not low <= seconds <= high:  # nan is in no range
        raise InputError(f'--seconds ({seconds:g}) is not in {low:g}..{high:g}')


def require_simulator(split: str = 'train') -> None:
    """Say how to get the simulator that makes a split where it is absent.

    Raises:
        InputError: mujoco, or the package that has the scenes, is not installed.
    """
    scenes = 'gymnasium_robotics' if split == KITCHEN else 'metaworld'
    absent = [n for n in ('mujoco', scenes) if importlib.util.find_spec(n) is None]
    if absent:
        raise InputError(
            f'making data needs {" and ".join(absent)}: '
            'pip install -r requirements/data.txt (in the checkout)'
        )


def _is_whole(folder: Path, seconds: float) -> bool:
    try:
        stream = read_stream(folder)
    except VljepaError:
        return False
    return stream.frame_count == round(seconds * stream.meta.get('rate_hz', 0))


def _run(work: Sequence[Work], jobs: int) -> Iterator[str]:
    if jobs <= 1:
        yield from map(_make, work)
        return
    with Processes(jobs, ADVICE) as processes:
        yield from processes.map(_make, work)


def _make(work: Work) -> str:
    split, seed, seconds, folder = work
    data = _director(split == KITCHEN).film(split, seed, seconds)
    write_stream(Path(folder), data)
    return str(data.name)


@cache
def _director(kitchen: bool) -> Any:
    """What films; one per process, for scenes are made once."""
    if kitchen:
        from vljepa_ros.data.kitchen.streams import Director as KitchenDirector

        return KitchenDirector()
    from vljepa_ros.data.mwstream.streams import Director

    return Director()


def _progress(items: Iterable[str], total: int, split: str) -> Iterator[str]:
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, f'{split} streams', total, console=Console(stderr=True))
