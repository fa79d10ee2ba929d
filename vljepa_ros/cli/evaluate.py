# SPDX-License-Identifier: Apache-2.0
"""`vljepa evaluate SUITE`: evaluate a model on annotated streams, with an oracle baseline.

`vljepa evaluate compare A.json B.json` compares two files that were written by `--out`, on the
items that both contain.
"""

from __future__ import annotations

import argparse
import json
import resource
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.cpu_cores import cores
from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.core.process_pool import ProcessPool
from vljepa_ros.data.splits import (
    EVALUATED,
    FIXED,
    HOME,
    KITCHEN,
    TEST,
    UNSEEN,
    VALIDATION,
    WIDE,
    folder_name,
)

if TYPE_CHECKING:
    from vljepa_ros.core.protocols import Model
    from vljepa_ros.data.format import Stream
    from vljepa_ros.evaluate.report import Report

# The names of vljepa_ros.evaluate.suites, repeated here so that `--help` does not import numpy.
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
# Suites that are not part of `all`.
SLOW = (
    'robustness',
    'events',
    'selective',
    'transfer',
    'views',
    'views-events',
    'unfamiliar',
    'unreadable',
)
SELECTIVE, COMPARE = 'selective', 'compare'
OWN_VIEWS = {'views': WIDE, 'views-events': FIXED, 'transfer': HOME}  # suites with fixed views


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa evaluate`."""
    parser.add_argument(
        'suite',
        metavar='SUITE',
        choices=(*NAMES, *SLOW, 'all', COMPARE),
        help=f'the suite: {", ".join((*NAMES, *SLOW))}; all: every suite except '
        f'{", ".join(SLOW)}; {COMPARE}: paired differences between two files written by --out',
    )
    parser.add_argument(
        'results',
        metavar='RESULT.json',
        nargs='*',
        type=common.path,
        help=f'two result files written by --out, for {COMPARE}',
    )
    parser.add_argument(
        '--data',
        type=common.path,
        default=Path('data/mwstream'),
        metavar='DIR',
        help='the folder that contains the splits (default: data/mwstream)',
    )
    parser.add_argument(
        '--split',
        default=TEST,
        choices=(TEST, VALIDATION),
        help='test for reports (default), validation for selecting models and thresholds',
    )
    parser.add_argument(
        '--views',
        choices=EVALUATED,
        help='cameras of the streams: home (four zoomed viewpoints, default; in DIR/SPLIT), wide '
        '(in each episode, another random camera around the bench; in DIR/SPLIT-wide) or '
        'wide-fixed (one such camera per stream; in DIR/SPLIT-wide-fixed)',
    )
    parser.add_argument(
        '--streams', type=int, default=0, metavar='N', help='use only the first N streams (0: all)'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='J',
        help='number of processes that encode the streams, each with --threads threads '
        '(default: one per CPU core as far as memory allows; one on a GPU)',
    )
    parser.add_argument(
        '--out',
        type=common.path,
        metavar='FILE',
        help=f'also write JSON with the outcome of every item, which {COMPARE} needs',
    )
    _add_selective_arguments(parser)
    common.add_model_arguments(parser)


def _add_selective_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        SELECTIVE,
        'Thresholds are selected on the validation split of --data: on all of its streams with '
        '--split test, on the evaluated streams with --split validation. '
        "Needs scikit-learn, and --plot needs matplotlib: pip install '.[evaluate]'.",
    )
    group.add_argument(
        '--plot',
        type=common.path,
        metavar='FILE.png',
        help='plot CIDEr-D against decodes per second',
    )
    group.add_argument(
        '--embeddings',
        type=common.path,
        metavar='FILE.npz',
        help='your own embeddings instead of --data: arrays vectors (T, D) float and '
        'stamps_ns (T,) int64',
    )
    group.add_argument(
        '--annotations',
        type=common.path,
        metavar='FILE.jsonl',
        help='annotations for --embeddings, one {"start", "end", "text"} per line, in seconds '
        'from the first stamp',
    )


def run(args: argparse.Namespace) -> int:
    """Run `vljepa evaluate` and return its exit status."""
    _check(args)
    if args.suite == COMPARE:
        reports, found = _compared(args)
    else:
        reports, found = _on_own(args) if args.embeddings else _on_streams(args)
    if args.out:
        _write(args.out, found | {'suites': [r.as_json(with_outcomes=True) for r in reports]})
    if args.json:
        common.print_json(found | {'suites': [report.as_json() for report in reports]})
    elif args.suite == 'all':
        from vljepa_ros.evaluate.report import summary

        print(f'### summary\n\n{summary(reports)}', flush=True)
    if args.plot:  # last, so that a failure does not lose the results
        from vljepa_ros.evaluate.plots import draw

        draw(reports[-1].curves, args.plot)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Check the arguments before the evaluation and create the folders of output files.

    Raises:
        InputError: An argument is invalid, or a package for plots is not installed.
        OutputError: An output file cannot be written.
    """
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f'--jobs ({args.jobs}) is not positive')
    if args.streams < 0:
        raise InputError(f'--streams ({args.streams}) is negative')
    if args.suite != COMPARE and args.results:
        raise InputError(f'{args.results[0]}: result files are for {COMPARE} only')
    if args.suite == COMPARE and len(args.results) != 2:
        raise InputError(f'{COMPARE} needs two result files, not {len(args.results)}')
    own = OWN_VIEWS.get(args.suite, args.views)
    if args.views and own != args.views:
        raise InputError(f'--views {args.views}: the suite {args.suite} has only {own} views')
    for name in ('plot', 'embeddings', 'annotations'):
        if getattr(args, name) and args.suite != SELECTIVE:
            raise InputError(f'--{name} is for the suite {SELECTIVE} only')
    if bool(args.embeddings) != bool(args.annotations):
        raise InputError('--embeddings and --annotations must be used together')
    if args.plot:
        from vljepa_ros.evaluate.plots import need_pyplot

        need_pyplot()
    for path in (args.out, args.plot):
        if path:
            _make_room(path)


def _compared(args: argparse.Namespace) -> tuple[list[Report], dict[str, object]]:
    """Compare two result files and print the reports; return the reports and the file names."""
    from vljepa_ros.evaluate.paired_comparison import compare

    reports = compare(*args.results)
    for report in reports:
        _print(args, report)
    return reports, {'a': str(args.results[0]), 'b': str(args.results[1])}


def _on_streams(args: argparse.Namespace) -> tuple[list[Report], dict[str, object]]:
    """Run the suites and print their reports; return the reports and metadata of the run."""
    split, views = _split(args), _views(args)
    streams = _split_streams(args, split)
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
            report = suite(context)
            if views != HOME:
                report = replace(report, notes=(*report.notes, f'Views: {views}.'))
            reports.append(report)
            _print(args, report)
    found: dict[str, object] = {'model_id': model.facts.model_id, 'split': split, 'views': views}
    found |= {'device': model.facts.device, 'dtype': model.facts.dtype}
    found |= {'streams': len(context.streams), 'unseen_streams': len(context.unseen)}
    return reports, found


def _processes(
    args: argparse.Namespace, model: Model, streams: tuple[Stream, ...]
) -> AbstractContextManager[ProcessPool | None]:
    """Return a context manager of worker processes, or of None if this process does all work."""
    from vljepa_ros.evaluate.context import helpers
    from vljepa_ros.model.registry import load

    threads = args.threads or 1
    jobs = args.jobs or max(1, _as_many_as_fit(model) // threads)
    if jobs == 1:
        return nullcontext()
    return helpers(jobs, partial(load, args.model, args.device, args.dtype, threads), streams)


def _as_many_as_fit(model: Model) -> int:
    """Return how many processes fit in memory, assuming the peak RSS of this process for each.

    On the CPU, the number is limited to one process per core. On a GPU, it is always 1.
    """
    from vljepa_ros.model.devices import free_bytes, pick_device

    assert model.facts is not None
    device = pick_device(model.facts.device)
    free, taken = free_bytes(device), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type != 'cpu' or free is None:
        return 1
    return max(1, min(cores(), free // taken))


def _on_own(args: argparse.Namespace) -> tuple[list[Report], dict[str, object]]:
    """Evaluate the embeddings of --embeddings; return the report and metadata of the run."""
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
    """Return the split that the suite evaluates: the kitchen for `transfer`, otherwise --split.

    Raises:
        InputError: The kitchen split does not exist.
    """
    if args.suite != 'transfer':
        return str(args.split)
    if not (args.data / KITCHEN).is_dir():
        raise InputError(
            f'no kitchen streams in {args.data / KITCHEN}: '
            f'record them with `vljepa data kitchen --out {args.data}`'
        )
    return KITCHEN


def _views(args: argparse.Namespace) -> str:
    """Return the views (camera setup) of the streams that the suite evaluates."""
    return str(OWN_VIEWS.get(args.suite) or args.views or HOME)


def _split_streams(args: argparse.Namespace, split: str) -> tuple[Stream, ...]:
    """Return the streams of a split in the views of the suite, at most --streams of them.

    Raises:
        InputError: The split was not recorded in these views.
    """
    folder, views = args.data / folder_name(split, _views(args)), _views(args)
    if views != HOME and not folder.is_dir():
        raise InputError(
            f'no streams with {views} views in {folder}: record them with '
            f'`vljepa data mwstream --split {split} --views {views} --out {args.data}`'
        )
    return _streams(folder, args.streams)


def _streams(folder: Path, limit: int = 0) -> tuple[Stream, ...]:
    """Return the first `limit` complete streams in the folder of a split; all if `limit` is 0."""
    from vljepa_ros.data.format import open_split

    split = open_split(folder)
    for stream, reason in split.skipped:
        common.note(f'skipped {stream}: {reason}')
    return split.streams[: limit or None]


def _validation(args: argparse.Namespace, streams: tuple[Stream, ...]) -> tuple[Stream, ...]:
    """Return the streams on which the suite `selective` selects thresholds; () for other suites.

    Raises:
        InputError: There is no validation stream.
    """
    if args.suite != SELECTIVE:
        return ()
    if args.split == VALIDATION:
        return streams
    folder, views = args.data / folder_name(VALIDATION, _views(args)), _views(args)
    found = _streams(folder) if folder.is_dir() else ()
    if not found:
        option = '' if views == HOME else f' --views {views}'
        raise InputError(
            f'no validation streams in {folder}: {SELECTIVE} selects its thresholds on them; '
            f'record them with `vljepa data mwstream --split {VALIDATION}{option} '
            f'--out {args.data}`'
        )
    return found


def _unseen(args: argparse.Namespace) -> tuple[Stream, ...]:
    """Return the streams of tasks absent from training, if the suite uses them and they exist."""
    wanted = args.suite in ('classify-unseen', 'all') and args.split == TEST
    folder = args.data / folder_name(UNSEEN, _views(args))
    return _streams(folder, args.streams) if wanted and folder.is_dir() else ()


def _make_room(path: Path) -> None:
    """Create the parent folder of an output file.

    Raises:
        OutputError: The folder cannot be created, or the path is a folder.
    """
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
