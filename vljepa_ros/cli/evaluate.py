# SPDX-License-Identifier: Apache-2.0
"""`vljepa evaluate SUITE`: measure a model on annotated streams, beside an oracle."""

from __future__ import annotations

import argparse
import json
import resource
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.data.splits import KITCHEN, TEST, UNSEEN, VALIDATION
from vljepa_ros.errors import InputError, OutputError
from vljepa_ros.processes import Processes, cores

if TYPE_CHECKING:
    from vljepa_ros.data.format import Stream
    from vljepa_ros.evaluate.report import Report
    from vljepa_ros.stream.interfaces import Model

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
# Not part of `all`.
SLOW = ('robustness', 'events', 'selective', 'transfer', 'unfamiliar', 'unreadable')
SELECTIVE = 'selective'


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
        default=TEST,
        choices=(TEST, VALIDATION),
        help='test for reports (default), validation for every choice',
    )
    parser.add_argument(
        '--streams', type=int, default=0, metavar='N', help='only the first N streams (0: all)'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='J',
        help='processes that look at the streams, each with --threads or one (default: one a '
        'CPU core, as far as memory reaches; on a GPU one)',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the JSON there as well')
    _add_selective_arguments(parser)
    common.add_model_arguments(parser)


def _add_selective_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        SELECTIVE,
        'Its thresholds are chosen on the split validation of --data, whatever --split says: all '
        'of its streams with --split test, the same streams with --split validation. '
        "Needs scikit-learn, and --plot matplotlib: pip install '.[evaluate]'.",
    )
    group.add_argument(
        '--plot', type=Path, metavar='FILE.png', help='draw CIDEr-D against decodes a second'
    )
    group.add_argument(
        '--embeddings',
        type=Path,
        metavar='FILE.npz',
        help='instead of --data: vectors (T, D) float and stamps_ns (T,) int64 of your own',
    )
    group.add_argument(
        '--annotations',
        type=Path,
        metavar='FILE.jsonl',
        help='what is said of them, {"start", "end", "text"} a line, seconds from the first stamp',
    )


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    _check(args)
    reports, found = _on_own(args) if args.embeddings else _on_streams(args)
    found |= {'suites': [report.as_json() for report in reports]}
    if args.out:
        _write(args.out, found)
    if args.json:
        common.print_json(found)
    elif args.suite == 'all':
        from vljepa_ros.evaluate.report import summary

        print(f'### summary\n\n{summary(reports)}', flush=True)
    if args.plot:  # the last: what was measured is not lost where it fails
        from vljepa_ros.evaluate.plots import draw

        draw(reports[-1].curves, args.plot)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Fail before the work where an argument is wrong, or what is found cannot be written."""
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f'--jobs ({args.jobs}) is not positive')
    if args.streams < 0:
        raise InputError(f'--streams ({args.streams}) is negative')
    for name in ('plot', 'embeddings', 'annotations'):
        if getattr(args, name) and args.suite != SELECTIVE:
            raise InputError(f'--{name} is for the suite {SELECTIVE} only')
    if bool(args.embeddings) != bool(args.annotations):
        raise InputError('--embeddings and --annotations go together')
    if args.plot:
        from vljepa_ros.evaluate.plots import need_pyplot

        need_pyplot()
    for path in (args.out, args.plot):
        if path:
            _make_room(path)


def _on_streams(args: argparse.Namespace) -> tuple[list[Report], dict[str, object]]:
    """The suites' reports, printed as they come, and what they are about."""
    split = _split(args)
    streams = _streams(args.data / split, args.streams)
    validation = _validation(args, streams)
    model = common.load_model(args)

    from vljepa_ros.evaluate.context import Context
    from vljepa_ros.evaluate.suites import SLOW as SLOW_SUITES
    from vljepa_ros.evaluate.suites import SUITES

    wanted = SUITES if args.suite == 'all' else {args.suite: (SUITES | SLOW_SUITES)[args.suite]}
    reports = []
    with _processes(args, model, streams) as processes:
        context = Context(model, streams, common.progress, _unseen(args), validation, processes)
        for suite in wanted.values():
            reports.append(suite(context))
            _print(args, reports[-1])
    found: dict[str, object] = {'model_id': model.facts.model_id, 'split': split}
    found |= {'device': model.facts.device, 'dtype': model.facts.dtype}
    found |= {'streams': len(context.streams), 'unseen_streams': len(context.unseen)}
    return reports, found


def _processes(
    args: argparse.Namespace, model: Model, streams: tuple[Stream, ...]
) -> AbstractContextManager[Processes | None]:
    """Those that help, none where this one does all."""
    from vljepa_ros.evaluate.context import helpers
    from vljepa_ros.model.registry import load

    threads = args.threads or 1
    jobs = args.jobs or max(1, _as_many_as_fit(model) // threads)
    if jobs == 1:
        return nullcontext()
    return helpers(jobs, partial(load, args.model, args.device, args.dtype, threads), streams)


def _as_many_as_fit(model: Model) -> int:
    """Processes, each of which takes what this one took to load the model."""
    from vljepa_ros.model.devices import free_bytes, pick_device

    assert model.facts is not None
    device = pick_device(model.facts.device)
    free, taken = free_bytes(device), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type != 'cpu' or free is None:
        return 1
    return max(1, min(cores(), free // taken))


def _on_own(args: argparse.Namespace) -> tuple[list[Report], dict[str, object]]:
    """The same of somebody's own embeddings."""
    model = common.load_model(args, 'language')
    assert model.language is not None

    from vljepa_ros.evaluate.suites.selective import selective_of_own

    reports = [selective_of_own(args.embeddings, args.annotations, model.language)]
    _print(args, reports[-1])
    found: dict[str, object] = {'model_id': model.facts.model_id}
    found |= {'device': model.facts.device, 'dtype': model.facts.dtype}
    return reports, found | {'embeddings': str(args.embeddings)}


def _print(args: argparse.Namespace, report: Report) -> None:
    if not args.json:
        print(report.as_text(), flush=True)


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


def _streams(folder: Path, limit: int = 0) -> tuple[Stream, ...]:
    """The first `limit` whole streams of a split, or all (0)."""
    from vljepa_ros.data.format import open_split

    split = open_split(folder)
    for stream, reason in split.skipped:
        common.note(f'skipped {stream}: {reason}')
    return split.streams[: limit or None]


def _validation(args: argparse.Namespace, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    """The streams that thresholds are chosen on. Raises InputError where there are none."""
    if args.suite != SELECTIVE:
        return ()
    if args.split == VALIDATION:
        return streams
    folder = args.data / VALIDATION
    found = _streams(folder) if folder.is_dir() else ()
    if not found:
        raise InputError(
            f'no streams of validation in {folder}, where {SELECTIVE} chooses its thresholds: '
            f'make them by `vljepa data mwstream --split {VALIDATION} --out {args.data}`'
        )
    return found


def _unseen(args: argparse.Namespace) -> tuple[Stream, ...]:
    """The unseen tasks' streams, where a suite wants them and they are there."""
    wanted = args.suite in ('classify-unseen', 'all') and args.split == TEST
    if not wanted or not (args.data / UNSEEN).is_dir():
        return ()
    return _streams(args.data / UNSEEN, args.streams)


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
