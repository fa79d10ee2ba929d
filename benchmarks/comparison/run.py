# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.comparison.run`: search learning rates, then run every arm and seed.

Every arm runs with all paraphrases and with one. Each finished run is one line of
data/comparison/results.jsonl and is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import run
from benchmarks.comparison import training
from benchmarks.comparison.marks import score
from benchmarks.comparison.settings import ARMS, RATES, SEARCH, WORDINGS, Plan, Settings
from vljepa_ros.cli.common import note
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.errors import InputError
from vljepa_ros.train.data_parallelism import ALLOCATOR

Result = dict[str, Any]
Work = Callable[[Plan, Settings], Result]


def read(path: Path) -> dict[str, Result]:
    """Read finished runs by their plans' names; skip a line that a crash has truncated."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            result = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[result['name']] = result
    return found


def execute(
    plans: Sequence[Plan],
    settings: Settings,
    path: Path,
    pool: Executor,
    jobs: int = 1,
    deadline: float = float('inf'),
    work: Work = training.train,
) -> bool:
    """Run the plans that are missing in `path`; return whether all are finished.

    No run is started that would take longer than until `deadline`.
    """
    finished = read(path)
    todo = [plan for plan in plans if plan.name not in finished]
    running, pace = set[Future[Result]](), max(map(_pace, finished.values()), default=0.0)
    while todo or running:
        while todo and len(running) < jobs:
            if time.monotonic() + pace * todo[0].counts[-1] >= deadline:
                break
            running.add(pool.submit(work, todo.pop(0), settings))
        if not running:
            return False
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for result in (future.result() for future in done):
            pace = max(pace, _pace(result))
            with path.open('a') as lines:
                lines.write(json.dumps(result) + '\n')
            note(f'{result["seconds"]} s, {len(todo) + len(running)} left: {result["name"]}')
    return True


def _pace(result: Result) -> float:
    """Return the seconds per example."""
    return float(result['seconds'] / result['plan']['counts'][-1])


def search_plans() -> list[Plan]:
    """Return the short runs on the validation split that select learning rates."""
    return [Plan(arm, learning_rate=rate, counts=(SEARCH,)) for arm in ARMS for rate in RATES]


def best_rates(path: Path) -> dict[str, float]:
    """Return the learning rate of each arm. Raises InputError if the search is unfinished."""
    found, best = read(path), dict[str, float]()
    for arm in ARMS:
        own = [plan for plan in search_plans() if plan.arm == arm]
        if any(plan.name not in found for plan in own):
            raise InputError(f'{path}: the learning rate of {arm} is not chosen yet')
        best[arm] = max(own, key=lambda p: score(found[p.name]['marks'][arm][-1])).learning_rate
    return best


def plans(rates: dict[str, float], seeds: int, split: str) -> list[Plan]:
    """Return all runs, sorted by seed."""
    return [
        Plan(arm, which, seed, rates[arm], split=split)
        for seed in range(seeds)
        for which in WORDINGS
        for arm in ARMS
    ]


def workers(jobs: int) -> ProcessPoolExecutor:
    """Create processes with one thread each."""
    os.environ.update({'OMP_NUM_THREADS': '1', 'GLIBC_TUNABLES': ALLOCATOR})
    return ProcessPoolExecutor(
        jobs, get_context('spawn'), initializer=torch.set_num_threads, initargs=(1,)
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run."""
    parser.add_argument('--data', type=Path, default=Settings.data, help='folder of the splits')
    parser.add_argument('--out', type=Path, default=Settings.out)
    parser.add_argument(
        '--split', default='validation', help='split of the evaluation (default: validation)'
    )
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--jobs', type=int, default=2, help='concurrent runs (default: 2)')
    parser.add_argument(
        '--budget-minutes',
        type=float,
        default=float('inf'),
        metavar='N',
        help='time limit: start no run that would exceed it',
    )


def main() -> None:
    """Search learning rates, then run all plans. Raises VljepaError."""
    parser = Parser(description=__doc__.split('\n')[0])
    add_arguments(parser)
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.budget_minutes
    settings, path = Settings(data=args.data, out=args.out), args.out / 'results.jsonl'
    training.texts(settings)
    with workers(args.jobs) as pool:
        if not execute(search_plans(), settings, path, pool, args.jobs, deadline):
            return note('time limit reached; run the same command again to continue')
        rates = best_rates(path)
        note(f'learning rates: {rates}')
        todo = plans(rates, args.seeds, args.split)
        if not execute(todo, settings, path, pool, args.jobs, deadline):
            note('time limit reached; run the same command again to continue')


if __name__ == '__main__':
    sys.exit(run(main))
