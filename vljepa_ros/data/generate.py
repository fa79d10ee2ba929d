# SPDX-License-Identifier: Apache-2.0
"""Renders the splits of mwstream: `python -m vljepa_ros.data.generate --split train --out DIR`.

Streams that are there already are kept, so that a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vljepa_ros.data.mwstream.tasks import TEST_TASKS, train_tasks
from vljepa_ros.errors import InputError, VljepaError

FIRST_SEED = {'train': 0, 'validation': 10_000, 'test': 20_000, 'test-unseen': 25_000}


@dataclass(frozen=True)
class Job:
    """One stream to render."""

    folder: str
    split: str
    seed: int
    seconds: float


def task_order(seed: int, split: str) -> Iterator[str]:
    """The stream's tasks without end. Streams in sequence take turns, so that any few cover all."""
    names = TEST_TASKS if split == 'test-unseen' else train_tasks()
    drawn = seed * 6  # about the number of episodes in a minute
    while True:
        round_number, at = divmod(drawn, len(names))
        order = np.random.default_rng([7, round_number]).permutation(len(names))
        yield names[order[at]]
        drawn += 1


def generate(split: str, out: Path, streams: int, seconds: float, jobs: int) -> None:
    """Render `streams` streams of a split under `out`/`split`. Raises InputError."""
    if split not in FIRST_SEED:
        raise InputError(f"unknown split '{split}' (known: {', '.join(FIRST_SEED)})")
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        Job(str(folder / f'{seed:05d}'), split, seed, seconds)
        for seed in range(FIRST_SEED[split], FIRST_SEED[split] + streams)
    ]
    missing = [job for job in wanted if not Path(job.folder).is_dir()]
    _check_simulator()
    from rich.console import Console
    from rich.progress import track

    context = multiprocessing.get_context('spawn')
    with context.Pool(jobs) as pool:
        for _ in track(
            pool.imap_unordered(_render, missing), f'{split}: streams', len(missing),
            console=Console(stderr=True),
        ):
            pass


def _check_simulator() -> None:
    try:
        import metaworld  # noqa: F401
        import mujoco  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is needed to make data: pip install 'vljepa_ros[data]'"
        ) from error


_studio = None


def _render(job: Job) -> None:
    import warnings

    warnings.filterwarnings('ignore')
    from vljepa_ros.data.mwstream import streams

    global _studio
    style = streams.TRAINING if job.split == 'train' else streams.EVALUATION
    if _studio is None:
        _studio = streams.Studio(style.image_size)
    streams.write_stream(
        _studio, Path(job.folder), job.seed, job.seconds, task_order(job.seed, job.split), style
    )


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--split', default='train', help=f'one of {", ".join(FIRST_SEED)}')
    parser.add_argument('--out', type=Path, required=True, help='folder of the data')
    parser.add_argument('--streams', type=int, default=400, help='number of streams')
    parser.add_argument('--seconds', type=float, default=60.0, help='length of a stream')
    parser.add_argument('--jobs', type=int, default=os.cpu_count() or 1, help='processes')
    options = parser.parse_args()
    try:
        generate(options.split, options.out, options.streams, options.seconds, options.jobs)
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
