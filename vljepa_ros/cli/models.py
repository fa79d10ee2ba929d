# SPDX-License-Identifier: Apache-2.0
"""`vljepa models`: list installed models, download weights, compare streaming modes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vljepa_ros.cli import common
from vljepa_ros.cli import models_compare as comparing
from vljepa_ros.cli import models_get as getting
from vljepa_ros.core.errors import ModelError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa models`."""
    parser.add_argument('--model', metavar='NAME|DIR', help='show only this model')
    common.add_output_arguments(parser)
    parser.set_defaults(act=show)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND')
    for name, module, act in (
        ('get', getting, getting.get),
        ('compare', comparing, comparing.compare),
    ):
        summary = str(act.__doc__).splitlines()[0].rstrip('.')
        command = commands.add_parser(name, help=summary, description=summary)
        module.configure(command)
        command.set_defaults(act=act)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa models` and return its exit status."""
    return int(args.act(args))


def show(args: argparse.Namespace) -> int:
    """Print the installed models, or only the model of --model; return the exit status."""
    from vljepa_ros.model import registry

    found: list[dict[str, Any]] = []
    if args.model is not None:
        folder = registry.find(args.model)
        found.append(as_json(folder.resolve().name, folder))
    else:
        for name, folder in registry.available().items():
            try:
                found.append(as_json(name, folder))
            except ModelError as error:
                common.note(str(error))
    if args.json:
        common.print_json(found)
    elif not found:
        common.note('no model is installed')
    else:
        for model in found:
            print(
                '{name:12} {description}\n{0:12} embeddings of {embedding_dim} values, '
                '{rate:g} frames/s, window of {window:g} s, {folder}'.format('', **model)
            )
            if not model['weights']:
                print('{0:12} no weights: run `vljepa models get {name}`'.format('', **model))
    return 0


def as_json(name: str, folder: Path) -> dict[str, Any]:
    """Return the JSON object of an installed model.

    Raises:
        ModelError: Its model.yaml is invalid.
    """
    from vljepa_ros.model import registry

    config = registry.read_config(folder)
    time = config.time
    return {
        'name': name,
        'folder': str(folder),
        'description': config.description,
        'embedding_dim': config.embedding_dim,
        'rate': time.rate_hz,
        'window': time.window_s,
        'weights': (folder / registry.WEIGHTS).is_file(),
    }
