# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.comparison.ablations`: ablations of arm A's design choices.

One choice at a time is changed, with all paraphrases and A's learning rate. Each finished run is
one line of data/comparison/ablations.jsonl.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

from benchmarks.common import run
from benchmarks.comparison import training
from benchmarks.comparison.run import add_arguments, best_rates, execute, workers
from benchmarks.comparison.settings import Plan, Settings
from vljepa_ros.cli.common import note
from vljepa_ros.cli.main import Parser

COUNTS = (8192, 32768)
CHANGES: dict[str, dict[str, Any]] = {
    'reference': {},
    'text head trained with the vision side': {'text': 'joint'},
    'no text head: plain MiniLM': {'text': 'plain'},
    'bidirectional prefix': {'causal': False},
    'window of 1 tubelet': {'window': 1},
    'window of 2': {'window': 2},
    'window of 4': {'window': 4},
    'pull to the target (lambda) 0': {'gap_weight': 0.0},
    'lambda 0.25': {'gap_weight': 0.25},
    'lambda 1': {'gap_weight': 1.0},
}


def plans(rate: float, seeds: int, split: str) -> dict[str, list[Plan]]:
    """Return the runs of each change, one per seed."""
    base = Plan('A', learning_rate=rate, counts=COUNTS, split=split)
    return {
        name: [dataclasses.replace(base, seed=seed, **change) for seed in range(seeds)]
        for name, change in CHANGES.items()
    }


def main() -> None:
    """Run the missing plans. Raises VljepaError."""
    parser = Parser(description=__doc__.split('\n')[0])
    add_arguments(parser)
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.budget_minutes
    settings, path = Settings(data=args.data, out=args.out), args.out / 'ablations.jsonl'
    found = plans(best_rates(args.out / 'results.jsonl')['A'], args.seeds, args.split)
    todo = sorted((plan for own in found.values() for plan in own), key=lambda plan: plan.seed)
    training.texts(settings)
    with workers(args.jobs) as pool:
        if not execute(todo, settings, path, pool, args.jobs, deadline):
            note('time limit reached; run the same command again to continue')


if __name__ == '__main__':
    sys.exit(run(main))
