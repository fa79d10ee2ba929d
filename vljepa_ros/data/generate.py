# SPDX-License-Identifier: Apache-2.0
"""Makes annotated streams: `python -m vljepa_ros.data.generate mwstream --split train --out DIR`.

Resumable: streams that lie in the folder already, whole and of the length that is asked for, are
kept, and the rest is made.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vljepa_ros.data.format import read_stream, write_stream
from vljepa_ros.errors import InputError, VljepaError

FIRST_SEEDS = {'train': 0, 'validation': 10_000, 'test': 20_000, 'sample': 30_000}
SEED_LIMITS = {'train': 10_000, 'validation': 20_000, 'test': 30_000, 'sample': 31_000}
LENGTHS_S = (1.0, 3600.0)  # a phase takes 0.8 s; an hour takes 1 GB of memory
_director = None  # one per process: scenes are made once


def generate(
    split: str,
    out: Path,
    streams: int,
    seconds: float = 60.0,
    jobs: int = 1,
    first_seed: int | None = None,
) -> int:
    """Make the streams of a split that are not there yet; returns how many were made.

    Raises:
        InputError: no such length, unknown split, seeds outside its range, no folder to write
            in, or no simulator.
    """
    check_seconds(seconds)
    seeds = seed_range(split, streams, first_seed)
    require_simulator()
    folder = out / split
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{folder}: {error.strerror}') from error
    missing = [s for s in seeds if not _is_whole(folder / f'{split}-{s:05d}', seconds)]
    work = [(split, seed, seconds, str(folder)) for seed in missing]
    for _ in _progress(_run(work, jobs), len(work), split):
        pass
    return len(work)


def check_seconds(seconds: float) -> None:
    """Whether streams can be so long.

    Raises:
        InputError: too short for a phase, or too long for memory.
    """
    low, high = LENGTHS_S
    if not low <= seconds <= high:  # nan is in no range
        raise InputError(f'--seconds ({seconds:g}) is not in {low:g}..{high:g}')


def seed_range(split: str, streams: int, first_seed: int | None = None) -> range:
    """The seeds of a split's streams.

    Raises:
        InputError: an unknown split, or seeds that belong to another.
    """
    if split not in FIRST_SEEDS:
        raise InputError(f'unknown split {split!r}; there are {", ".join(FIRST_SEEDS)}')
    first = FIRST_SEEDS[split] if first_seed is None else first_seed
    low, high = FIRST_SEEDS[split], SEED_LIMITS[split]
    if streams < 1 or first < low or first + streams > high:
        raise InputError(
            f'seeds {first}..{first + streams - 1} are not in {low}..{high - 1}, '
            f'the range of split {split!r}'
        )
    return range(first, first + streams)


def require_simulator() -> None:
    """Say how to get the simulator where it is absent.

    Raises:
        InputError: metaworld or mujoco is not installed.
    """
    absent = [n for n in ('mujoco', 'metaworld') if importlib.util.find_spec(n) is None]
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


def _run(work: Sequence[tuple[str, int, float, str]], jobs: int) -> Iterator[str]:
    if jobs <= 1:
        yield from map(_make, work)
        return
    with multiprocessing.get_context('spawn').Pool(jobs) as pool:
        yield from pool.imap(_make, work)


def _make(work: tuple[str, int, float, str]) -> str:
    global _director
    from vljepa_ros.data.mwstream.streams import Director

    split, seed, seconds, folder = work
    _director = _director or Director()
    data = _director.film(split, seed, seconds)
    write_stream(Path(folder), data)
    return data.name


def _progress(items: Iterable[str], total: int, split: str) -> Iterator[str]:
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        yield from items
        return
    yield from track(items, f'{split} streams', total, console=Console(stderr=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 on bad input."""
    parser = argparse.ArgumentParser(prog='vljepa_ros.data.generate', description=__doc__)
    parser.add_argument('suite', choices=['mwstream'])
    parser.add_argument('--split', required=True, choices=list(FIRST_SEEDS))
    parser.add_argument('--out', required=True, type=Path)
    parser.add_argument('--streams', type=int, default=10)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--first-seed', type=int)
    args = parser.parse_args(arguments)
    try:
        made = generate(
            args.split, args.out, args.streams, args.seconds, args.jobs, args.first_seed
        )
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    there = args.streams - made
    print(f'{made} streams made in {args.out / args.split}, {there} were there already')
    return 0


if __name__ == '__main__':
    sys.exit(main())
