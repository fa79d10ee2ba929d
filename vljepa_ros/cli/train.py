# SPDX-License-Identifier: Apache-2.0
"""`vljepa train CONFIG`: train a model as a train.yaml says; a run that was stopped goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from vljepa_ros.cli import common
from vljepa_ros.errors import InputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'config', type=Path, metavar='CONFIG', help='for example models/small/train.yaml'
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=0,
        metavar='N',
        help='train in N processes (default: one a GPU, or one a CPU core); torchrun does as well',
    )
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.train import parallel
    from vljepa_ros.train.config import read_config
    from vljepa_ros.train.recipe.config import is_recipe

    if is_recipe(args.config):
        return _report(args, _train_recipe(args))
    config = read_config(args.config)
    if args.processes < 0:
        raise InputError(f'--processes ({args.processes}) is negative')
    if not parallel.started():
        json = ['--json'] if args.json else []
        parallel.launch(
            ['train', str(args.config), *json], args.processes or parallel.default_processes()
        )
    from vljepa_ros.train.run import train

    folder = train(config)
    return _report(args, folder) if parallel.is_first() else 0


def _train_recipe(args: argparse.Namespace) -> Path:
    from vljepa_ros.train.recipe.config import read_recipe

    recipe = read_recipe(args.config)
    if args.processes > 1:
        raise InputError(f'--processes ({args.processes}): a recipe is trained in one process')
    from vljepa_ros.train.recipe.run import train

    return train(recipe)


def _report(args: argparse.Namespace, folder: Path) -> int:
    if args.json:
        common.print_json({'folder': str(folder)})
    else:
        print(f'trained: {folder}')
    return 0
