# SPDX-License-Identifier: Apache-2.0
"""`vljepa train CONFIG`: train a model, fine-tune it, or train a text decoder, from a YAML file.

The key `kind` of the file selects the kind of training (`train.config_file.KINDS`). If the
training of a whole model was interrupted, it resumes from its checkpoint. Fine-tuning and the
training of text decoders start from the beginning.
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
    from vljepa_ros.train.fine_tuning.config import FineTuningConfig
    from vljepa_ros.train.fine_tuning.run import FineTuningResult
    from vljepa_ros.train.recipe.config import RecipeConfig
    from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa train`."""
    parser.add_argument(
        'config',
        type=common.path,
        metavar='CONFIG',
        help='the training configuration, for example models/small/train.yaml, '
        'samples/tuning/tune.yaml or models/open_vljepa/words.yaml',
    )
    parser.add_argument(
        '--processes',
        type=int,
        default=0,
        metavar='N',
        help='train in N processes (default: one per GPU, or one per CPU core), or start it with '
        'torchrun. Fine-tuning and text decoders use one process',
    )
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa train` and return its exit status."""
    from vljepa_ros.train.config_file import read_config
    from vljepa_ros.train.fine_tuning.config import FineTuningConfig
    from vljepa_ros.train.recipe.config import RecipeConfig
    from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig

    config = read_config(args.config)
    if args.processes < 0:
        raise InputError(f'--processes ({args.processes}) is negative')
    if isinstance(config, RecipeConfig):
        return _train_recipe(args, config)
    if isinstance(config, TextDecoderTrainingConfig):
        return _train_text_decoder(args, config)
    if isinstance(config, FineTuningConfig):
        return _tune(args, config)
    return _train(args, config)


def _train(args: argparse.Namespace, config: TrainConfig) -> int:
    from vljepa_ros.train import data_parallelism

    if not data_parallelism.started():
        json = ['--json'] if args.json else []
        data_parallelism.launch(
            ['train', str(args.config), *json],
            args.processes or data_parallelism.default_processes(),
        )
    from vljepa_ros.train.run import train

    folder = train(config)
    return _report(args, folder) if data_parallelism.is_first() else 0


def _train_recipe(args: argparse.Namespace, config: RecipeConfig) -> int:
    _check_one_process(args, 'training by a recipe uses one process')
    from vljepa_ros.train.recipe.run import train

    return _report(args, train(config))


def _check_one_process(args: argparse.Namespace, reason: str) -> None:
    if args.processes > 1:
        raise InputError(f'--processes ({args.processes}): {reason}')


def _report(args: argparse.Namespace, folder: Path) -> int:
    if args.json:
        common.print_json({'folder': str(folder)})
    else:
        print(f'trained: {folder}')
    return 0


def _train_text_decoder(args: argparse.Namespace, config: TextDecoderTrainingConfig) -> int:
    _check_one_process(args, 'training a text decoder uses one process')
    from vljepa_ros.train.text_decoder.models import train_text_decoder

    folder, trained = train_text_decoder(config)
    metrics = dataclasses.asdict(trained.metrics)
    if args.json:
        shown = {k: None if math.isnan(v) else round(v, 4) for k, v in metrics.items()}
        common.print_json({'folder': str(folder), 'noise': trained.noise, **shown})
        return 0
    print(f'trained text decoder: {folder} (noise: {trained.noise})')
    print(f'sentences reconstructed exactly: {metrics["again"]:.0%}')
    if not math.isnan(metrics['cider']):
        print(
            f'CIDEr-D of texts decoded from predictions: {metrics["cider"]:.2f}; of retrieved '
            f'sentences: {metrics["cider_nearest"]:.2f}'
        )
    return 0


def _tune(args: argparse.Namespace, config: FineTuningConfig) -> int:
    _check_one_process(args, 'fine-tuning uses one process')
    from vljepa_ros.train.fine_tuning.run import as_json, tune

    found = tune(config)
    if args.json:
        common.print_json(as_json(found))
    else:
        show(found)
    return 0


def show(found: FineTuningResult) -> None:
    """Print the folder of the fine-tuned model, and its metrics before and after fine-tuning."""
    print(f'fine-tuned: {found.folder}')
    where = {
        'validation': 'on the validation recordings',
        'recordings': 'on the training recordings',
    }
    for what, key in (
        ('texts generated correctly', 'said'),
        ('correct texts ranked first', 'found'),
        ('questions answered correctly', 'answered'),
    ):
        before, after = getattr(found.before, key), getattr(found.after, key)
        if not math.isnan(after):
            print(f'{what}, {where[found.judged_on]}: {before:.0%} before, {after:.0%} after')
