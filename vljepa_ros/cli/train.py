# SPDX-License-Identifier: Apache-2.0
"""`vljepa train CONFIG`: train a model as a train.yaml says; a run that was stopped goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from vljepa_ros.cli import common


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'config', type=Path, metavar='CONFIG', help='for example models/small/train.yaml'
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=0,
        metavar='N',
        help="CPU threads (default: 0, torch's choice)",
    )
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.train.config import read_config

    config = read_config(args.config)
    import torch

    from vljepa_ros.train.run import train

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    folder = train(config)
    if args.json:
        common.print_json({'folder': str(folder)})
    else:
        print(f'trained: {folder}')
    return 0
