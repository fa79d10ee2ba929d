# SPDX-License-Identifier: Apache-2.0
"""`vljepa models get NAME`: download a model's weights. No other command downloads anything."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vljepa_ros.model.hub.fetch import Progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa models get`."""
    parser.add_argument('name', metavar='NAME|DIR', help='the model whose weights to download')
    parser.add_argument(
        '--accept-licenses',
        '--accept-licences',  # name of the option in earlier versions
        action='store_true',
        help='confirm that you have read and accept the licenses that are listed',
    )
    parser.add_argument(
        '--into',
        type=common.path,
        metavar='DIR',
        help="download to DIR/NAME instead of the model's folder; set VLJEPA_MODELS=DIR to use it",
    )
    common.add_output_arguments(parser)


def get(args: argparse.Namespace) -> int:
    """Download a model's weights, verify and convert them."""
    from vljepa_ros.model import registry
    from vljepa_ros.model.classifier.config import ClassifierConfig
    from vljepa_ros.model.config import ModelConfig

    folder = registry.find(args.name)
    config = registry.read_config(folder)
    if isinstance(config, (ModelConfig, ClassifierConfig)) or not config.sources:
        raise InputError(
            f"model '{config.name}' has nothing to download: model.yaml lists no sources"
        )
    _check_accepted(config.name, config.licences, args.accept_licenses)
    folder = folder if args.into is None else _copied(folder, args.into)
    from vljepa_ros.model.hub import pin as obtain

    if obtain.is_complete(folder, config.sources):
        common.note(f'{folder} is complete already: nothing to download')
    else:
        # Use the hashes that an earlier, interrupted call wrote into the copy.
        sources = registry.read_config(folder).sources  # type: ignore[union-attr]
        make = functools.partial(registry.make, config)
        with _progress() as progress:
            obtain.obtain(folder, sources, make, config.drawn, common.note, progress)
    if args.json:
        common.print_json({'name': config.name, 'folder': str(folder)})
    else:
        print(f'{config.name} is in {folder}')
    return 0


def _check_accepted(name: str, licenses: tuple[str, ...], accepted: bool) -> None:
    """Print the licenses of a model's weights. Raises InputError if they are not accepted."""
    for terms in licenses:
        common.note(f'license of {name}: {terms}')
    if not accepted:
        raise InputError(
            f'{name} is downloaded under the licenses above: read them, and pass --accept-licenses'
        )


def _copied(folder: Path, into: Path) -> Path:
    """Copy the text files of a model (.yaml, .md, .txt) to `into`/NAME; return this folder.

    Existing files are not overwritten.
    """
    target = into / folder.resolve().name
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.suffix in ('.yaml', '.md', '.txt') and not (target / path.name).exists():
                shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise OutputError(f'--into: {target}: {error.strerror}') from error
    if not os.access(target, os.W_OK):
        raise OutputError(f'--into: the folder {target} is not writable')
    return target


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield a callback of (bytes done, bytes in total), which shows a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('download')
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
