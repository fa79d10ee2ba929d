# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the benchmarks: description of the measurement setup, and error output."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vljepa_ros.cli.common import add_model_arguments, load_model, note, progress
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.errors import InputError, VljepaError
from vljepa_ros.core.exit_status import ExitStatus, command_status
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.evaluate.context import Context

ROOT = Path(__file__).resolve().parents[1]


def run(main: Callable[[], None]) -> int:
    """Run `main` and return the exit status; an error of ours is printed as one line."""
    try:
        main()
    except VljepaError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
        return command_status(error)
    return ExitStatus.OK


def add_split_arguments(parser: ArgumentParser) -> None:
    """Add the options that select streams."""
    parser.add_argument('split', type=Path)
    parser.add_argument(
        '--streams', type=int, default=0, metavar='N', help='only the first N streams (0: all)'
    )


def open_streams(folder: Path, limit: int) -> Sequence[Stream]:
    """Open the first `limit` complete streams of a split, or all (0). Raises InputError."""
    if limit < 0:
        raise InputError(f'--streams ({limit}) is negative')
    split = open_split(folder)
    for name, reason in split.skipped:
        note(f'skipped {name}: {reason}')
    if not split.streams:
        raise InputError(f'{folder}: no complete stream')
    return split.streams[: limit or None]


def split_context(description: str) -> tuple[Namespace, Context]:
    """Parse arguments and load the model and the streams. Raises VljepaError."""
    parser = Parser(description=description)
    add_split_arguments(parser)
    add_model_arguments(parser)
    args = parser.parse_args()
    streams = open_streams(args.split, args.streams)
    return args, Context(load_model(args), streams, progress)


def show(args: Namespace, facts: ModelFacts, found: dict[str, Any], table: str) -> None:
    """Print the results as JSON or as a table, with the measurement setup."""
    about = circumstances(facts)
    if args.json:
        print(json.dumps({**about, **found}, indent=1))
        return
    versions = ', '.join(f'{name} {version}' for name, version in about['versions'].items())
    print(table)
    print(f'{facts.model_id}, {facts.device}, {facts.dtype}, {versions}, {about["commit"]}')


def circumstances(facts: ModelFacts) -> dict[str, Any]:
    """Describe the setup of a measurement, except the data."""
    return {
        'model_id': facts.model_id,
        'device': facts.device,
        'dtype': facts.dtype,
        'versions': {
            'python': platform.python_version(),
            'torch': torch.__version__,
            'numpy': np.__version__,
        },
        'commit': commit(),
    }


def commit() -> str:
    """Return the checkout's commit, with `-dirty` if files differ from it; '' outside of git."""
    # Without locks, so that other git commands in the checkout are not blocked.
    git = ('git', '--no-optional-locks', '-C', str(ROOT))
    describe = ('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
    try:
        result = subprocess.run((*git, *describe), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ''
    return result.stdout.strip()
