# SPDX-License-Identifier: Apache-2.0
"""`vljepa evaluate SUITE`: measure a model on annotated streams, beside an oracle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.data.format import Stream

# As in vljepa_ros.evaluate.suites, which needs numpy: `--help` should not.
NAMES = ('classify', 'classify-unseen', 'retrieve', 'vqa', 'caption', 'paraphrase', 'gap')


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'suite', metavar='SUITE', choices=(*NAMES, 'all'), help=', '.join(NAMES) + ', or all'
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=Path('data/mwstream'),
        metavar='DIR',
        help='the folder that holds the splits (default: data/mwstream)',
    )
    parser.add_argument(
        '--split',
        default='test',
        choices=('test', 'validation'),
        help='test for reports (default), validation for every choice',
    )
    parser.add_argument(
        '--streams', type=int, default=0, metavar='N', help='only the first N streams (0: all)'
    )
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.streams < 0:
        raise InputError(f'--streams ({args.streams}) is negative')
    from vljepa_ros.data.format import open_split

    split = open_split(args.data / args.split)
    for name, reason in split.skipped:
        common.note(f'skipped {name}: {reason}')
    model = common.load_model(args)

    from vljepa_ros.evaluate.context import Context
    from vljepa_ros.evaluate.suites import SUITES

    context = Context(model, split.streams[: args.streams or None], _progress)
    wanted = SUITES if args.suite == 'all' else {args.suite: SUITES[args.suite]}
    reports = []
    for suite in wanted.values():
        reports.append(suite(context))
        if not args.json:
            print(reports[-1].as_text(), flush=True)
    if args.json:
        found: dict[str, object] = {'model_id': model.facts.model_id, 'split': args.split}
        found['streams'] = len(context.streams)
        common.print_json(found | {'suites': [report.as_json() for report in reports]})
    return 0


def _progress(items: Iterable[Stream], name: str, total: int) -> Iterable[Stream]:
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, name, total, console=Console(stderr=True), transient=True)
