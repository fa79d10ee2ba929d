# SPDX-License-Identifier: Apache-2.0
"""`vljepa models`: what is installed, and where."""

from __future__ import annotations

import argparse
from typing import Any

from vljepa_ros.cli import common
from vljepa_ros.errors import ModelError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument('--model', metavar='NAME|DIR', help='only this one')
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.model import registry

    if args.model is not None:
        folder = registry.find(args.model)
        folders = {folder.resolve().name: folder}
    else:
        folders = registry.available()
    found: list[dict[str, Any]] = []
    for name, folder in folders.items():
        try:
            config = registry.read_config(folder)
        except ModelError as error:
            common.note(f'{name}: {error}')
            continue
        found.append(
            {
                'name': name,
                'folder': str(folder),
                'description': config.description,
                'embedding_dim': config.embedding_dim,
                'rate': config.time.rate_hz,
                'window': config.time.window_tubelets
                * config.time.tubelet_frames
                / config.time.rate_hz,
            }
        )
    if args.json:
        common.print_json(found)
    elif not found:
        common.note('no model is installed')
    else:
        for model in found:
            print(
                '{name:12} {description}\n{0:12} {embedding_dim} values, {rate:g} frames/s, '
                'window {window:g} s, {folder}'.format('', **model)
            )
    return 0
