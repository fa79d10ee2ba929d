# SPDX-License-Identifier: Apache-2.0
"""`vljepa evaluate SUITE`: measure a model on annotated streams, beside an oracle."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.errors import InputError, OutputError

if TYPE_CHECKING:
    from vljepa_ros.data.format import Stream

# As in vljepa_ros.evaluate.suites, which needs numpy: `--help` should not.
NAMES = (
    'classify',
    'classify-unseen',
    'retrieve',
    'vqa',
    'caption',
    'paraphrase',
    'calibrate',
    'gap',
)
SLOW = ('robustness', 'events', 'transfer')  # not part of `all`
UNSEEN = 'unseen'  # the split of the tasks that training never had, beside `test`
KITCHEN = 'kitchen'  # the split of the suite transfer, whatever --split says


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        'suite',
        metavar='SUITE',
        choices=(*NAMES, *SLOW, 'all'),
        help=f'{", ".join((*NAMES, *SLOW))}, or all (without {", ".join(SLOW)})',
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
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the JSON there as well')
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.streams < 0:
        raise InputError(f'--streams ({args.streams}) is negative')
    if args.out:
        _make_room(args.out)
    split = _split(args)
    streams = _streams(args, split)
    model = common.load_model(args)

    from vljepa_ros.evaluate.context import Context
    from vljepa_ros.evaluate.report import summary
    from vljepa_ros.evaluate.suites import SLOW as SLOW_SUITES
    from vljepa_ros.evaluate.suites import SUITES

    context = Context(model, streams, _progress, _unseen(args))
    wanted = SUITES if args.suite == 'all' else {args.suite: (SUITES | SLOW_SUITES)[args.suite]}
    reports = []
    for suite in wanted.values():
        reports.append(suite(context))
        if not args.json:
            print(reports[-1].as_text(), flush=True)
    found: dict[str, object] = {'model_id': model.facts.model_id, 'split': split}
    found |= {'device': model.facts.device, 'dtype': model.facts.dtype}
    found |= {'streams': len(context.streams), 'unseen_streams': len(context.unseen)}
    found |= {'suites': [report.as_json() for report in reports]}
    if args.out:
        _write(args.out, found)
    if args.json:
        common.print_json(found)
    elif args.suite == 'all':
        print(f'### summary\n\n{summary(reports)}', flush=True)
    return 0


def _split(args: argparse.Namespace) -> str:
    """The split that the suite reads. Raises InputError where the kitchen's is not there."""
    if args.suite != 'transfer':
        return str(args.split)
    if not (args.data / KITCHEN).is_dir():
        raise InputError(
            f'no streams of the kitchen in {args.data / KITCHEN}: '
            f'make them by `vljepa data kitchen --out {args.data}`'
        )
    return KITCHEN


def _streams(args: argparse.Namespace, name: str) -> tuple[Stream, ...]:
    from vljepa_ros.data.format import open_split

    split = open_split(args.data / name)
    for stream, reason in split.skipped:
        common.note(f'skipped {stream}: {reason}')
    return split.streams[: args.streams or None]


def _unseen(args: argparse.Namespace) -> tuple[Stream, ...]:
    """The unseen tasks' streams, where a suite wants them and they are there."""
    wanted = args.suite in ('classify-unseen', 'all') and args.split == 'test'
    if not wanted or not (args.data / UNSEEN).is_dir():
        return ()
    return _streams(args, UNSEEN)


def _make_room(path: Path) -> None:
    """Fail before the work where the file cannot be written after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'cannot write {path}: {error.strerror or error}') from error
    if path.is_dir():
        raise OutputError(f'cannot write {path}: it is a folder')


def _write(path: Path, found: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    except OSError as error:
        raise OutputError(f'cannot write {path}: {error.strerror or error}') from error


def _progress(items: Iterable[Any], name: str, total: int) -> Iterable[Any]:
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, name, total, console=Console(stderr=True), transient=True)
