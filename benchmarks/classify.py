# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/classify.py DATA/SPLIT`: top-1 over the 45 training tasks, as JSON.

Each act is streamed from 2 s before the middle of its phase (BENCHMARK.md, suite classify); the
interval is a 95% bootstrap over acts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from vljepa_ros.data.format import open_split
from vljepa_ros.model.registry import WEIGHTS, find, load_weights, read_config
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.train.run import PARTS
from vljepa_ros.train.texts import TextBank
from vljepa_ros.train.validate import accuracy, classify


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('split', type=Path)
    parser.add_argument('--model', default='small', help='name or folder')
    parser.add_argument('--wording', default='train', choices=['train', 'heldout'])
    args = parser.parse_args()
    folder = find(args.model)
    net = VLJEPA(read_config(folder), PARTS)
    load_weights(net, folder / WEIGHTS, PARTS)
    bank = TextBank(TextTower(net.config.text_tower, torch.device('cpu')))
    guesses = classify(net.eval(), bank, list(open_split(args.split).streams), args.wording)
    right = np.array([g.guess == g.task for g in guesses], float)
    rng = np.random.default_rng(0)
    drawn = [rng.choice(right, len(right)).mean() for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    print(
        json.dumps(
            {
                'acts': len(guesses),
                'tasks': len({g.task for g in guesses}),
                'top1_by_task': round(accuracy(guesses), 4),
                'top1': round(float(right.mean()), 4),
                'interval': [round(float(low), 4), round(float(high), 4)],
                'wording': args.wording,
            },
            indent=1,
        )
    )


if __name__ == '__main__':
    main()
