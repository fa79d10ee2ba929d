# SPDX-License-Identifier: Apache-2.0
"""`vljepa train CONFIG`: train a model, fine-tune it, or train a text decoder, from a YAML file.

Interrupted training of a whole model resumes from its checkpoint; fine-tuning and text decoders
start from the beginning.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.train.config import TrainConfig
    from vljepa_ros.train.fine_tuning.config import TuneConfig
    from vljepa_ros.train.fine_tuning.run import Tuned
    from vljepa_ros.train.text_decoder.config import WordsConfig


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'config',
        type=common.path,
        metavar='CONFIG',
        help='for example models/small/train.yaml, samples/tuning/tune.yaml, or '
        'models/open_vljepa/words.yaml',
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=0,
        metavar='N',
        help='train in N processes (default: one per GPU, or one per CPU core); torchrun works as '
        'well. Fine-tuning and text decoders use one process',
    )
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.train.config import parse_training, read_values
    from vljepa_ros.train.fine_tuning.config import is_tuning, parse_tuning
    from vljepa_ros.train.recipe.config import is_recipe
    from vljepa_ros.train.text_decoder.config import is_words, parse_words

    values = read_values(args.config)
    if args.processes < 0:
        raise InputError(f'--processes ({args.processes}) is negative')
    if is_recipe(values):
        return _report(args, _train_recipe(args))
    if is_words(values):
        return _train_words(args, parse_words(values, args.config))
    if is_tuning(values):
        return _tune(args, parse_tuning(values, args.config))
    return _train(args, parse_training(values, args.config))


def _train(args: argparse.Namespace, config: TrainConfig) -> int:
    from vljepa_ros.train import parallel

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


def _train_words(args: argparse.Namespace, config: WordsConfig) -> int:
    if args.processes > 1:
        raise InputError(f'--processes ({args.processes}): a decoder is trained in one process')
    from vljepa_ros.train.text_decoder.models import learn_words

    folder, learned = learn_words(config)
    metrics = dataclasses.asdict(learned.marks)
    if args.json:
        shown = {k: None if math.isnan(v) else round(v, 4) for k, v in metrics.items()}
        common.print_json({'folder': str(folder), 'noise': learned.noise, **shown})
        return 0
    print(f'trained text decoder: {folder} (noise: {learned.noise})')
    print(f'sentences reconstructed exactly: {metrics["again"]:.0%}')
    if not math.isnan(metrics['cider']):
        print(
            f'CIDEr-D of texts decoded from predictions: {metrics["cider"]:.2f}; of retrieved '
            f'sentences: {metrics["cider_nearest"]:.2f}'
        )
    return 0


def _tune(args: argparse.Namespace, config: TuneConfig) -> int:
    if args.processes > 1:
        raise InputError(f'--processes ({args.processes}): fine-tuning runs in one process')
    from vljepa_ros.train.fine_tuning.run import as_json, tune

    found = tune(config)
    if args.json:
        common.print_json(as_json(found))
    else:
        show(found)
    return 0


def show(found: Tuned) -> None:
    """Print the model's folder and its metrics before and after fine-tuning."""
    print(f'fine-tuned: {found.folder}')
    where = {
        'validation': 'on the validation recordings',
        'recordings': 'on the training recordings',
    }
    for what, key in (
        ('texts generated correctly', 'said'),
        ('texts ranked first among yours', 'found'),
        ('questions answered correctly', 'answered'),
    ):
        before, after = getattr(found.before, key), getattr(found.after, key)
        if not math.isnan(after):
            print(f'{what}, {where[found.judged_on]}: {before:.0%} before, {after:.0%} after')
