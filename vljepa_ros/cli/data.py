# SPDX-License-Identifier: Apache-2.0
"""`vljepa data COMMAND`: create annotated streams from simulation or recordings.

`mwstream` records a simulated robot arm (Meta-World), and `kitchen` records the Franka kitchen, a
scene that no model is trained on. `import` converts annotated recordings, and `manifest` lists the
training data of a model. docs/reference/data_formats.md describes the files.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.exit_status import ExitStatus
from vljepa_ros.data.splits import (
    HOME,
    KITCHEN,
    TEST,
    TRAIN,
    UNSEEN,
    VALIDATION,
    VIEWS,
    folder_name,
)

if TYPE_CHECKING:
    from vljepa_ros.data.importer import Grid

SPLITS = (TRAIN, VALIDATION, TEST, UNSEEN)  # splits that mwstream records


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `vljepa data`, each with the option --json."""
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name, add, act in (
        ('mwstream', _add_mwstream, _mwstream),
        ('kitchen', _add_filming, _kitchen),
        ('import', _add_import, _import),
        ('manifest', _add_manifest, _manifest),
    ):
        summary = str(act.__doc__).splitlines()[0].rstrip('.')
        command = commands.add_parser(name, help=summary, description=summary)
        add(command)
        common.add_output_arguments(command)
        command.set_defaults(act=act)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa data` and return its exit status."""
    return int(args.act(args))


def _add_mwstream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--split',
        required=True,
        choices=SPLITS,
        help='the split to record; it determines the range of seeds and the sampling of tasks',
    )
    parser.add_argument(
        '--views',
        default=HOME,
        choices=VIEWS,
        help='cameras: home (four zoomed viewpoints, default), wide (in each episode, another '
        'random camera anywhere around the bench), wide-fixed (one such camera per stream) or '
        'wide-cuts (another such camera every 1.6 s)',
    )
    parser.add_argument(
        '--depth', action='store_true', help='also store small depth images in state.npz'
    )
    _add_filming(parser)


def _add_filming(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out',
        required=True,
        type=common.path,
        metavar='DIR',
        help='folder in which the split is created',
    )
    parser.add_argument(
        '--streams', type=int, default=10, metavar='N', help='number of streams (default: 10)'
    )
    parser.add_argument(
        '--seconds',
        type=float,
        default=60.0,
        metavar='S',
        help='duration of each stream (default: 60)',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=192,
        metavar='PX',
        help='width and height of the images (default: 192)',
    )
    parser.add_argument(
        '--jobs', type=int, metavar='J', help='parallel processes (default: one per CPU core)'
    )
    parser.add_argument(
        '--first-seed',
        type=int,
        metavar='N',
        help='seed of the first stream (default: the first seed of the split)',
    )


def _mwstream(args: argparse.Namespace) -> int:
    """Record Meta-World streams; existing streams are kept."""
    return _film(args, args.split, args.views, args.depth)


def _kitchen(args: argparse.Namespace) -> int:
    """Record streams of the Franka kitchen for the suite transfer; existing streams are kept."""
    return _film(args, KITCHEN)


def _film(args: argparse.Namespace, split: str, views: str = HOME, depth: bool = False) -> int:
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f'--jobs ({args.jobs}) is not positive')
    from vljepa_ros.data.generation import Filming, generate

    made = generate(
        split,
        args.out,
        args.streams,
        args.seconds,
        args.jobs or 0,
        args.first_seed,
        Filming(views, args.size, depth),
    )
    folder, kept = args.out / folder_name(split, views), args.streams - made
    if args.json:
        common.print_json({'folder': str(folder), 'made': made, 'kept': kept})
    else:
        print(f'recorded {made} streams in {folder}; {kept} streams existed already')
    return 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'sources', metavar='SOURCE', nargs='+', type=common.path, help=common.SOURCE_HELP
    )
    parser.add_argument(
        '--annotations',
        metavar='FILE',
        nargs='+',
        type=common.path,
        help='annotation files, one per SOURCE (default: SOURCE.jsonl next to each SOURCE)',
    )
    parser.add_argument(
        '--out',
        required=True,
        type=common.path,
        metavar='DIR',
        help='the folder of the split, for example data/train',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=192,
        metavar='S',
        help='width and height of the images (default: 192)',
    )
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='frames per second (default: 10)'
    )
    common.add_reading_arguments(parser)


def _import(args: argparse.Namespace) -> int:
    """Convert recordings and their annotations to streams.

    Returns:
        The exit status: BAD_INPUT if an annotation is invalid or no stream was created.
    """
    from vljepa_ros.data.annotation_file import AnnotationError
    from vljepa_ros.data.atomic_folder import open_folder
    from vljepa_ros.data.importer import Grid

    grid = Grid(args.rate, args.size)
    given = args.annotations or [None] * len(args.sources)
    if len(given) != len(args.sources):
        raise InputError(
            f'--annotations has {len(given)} files for {len(args.sources)} sources: '
            'pass one file per source'
        )
    open_folder(args.out)
    made: list[str] = []
    skipped: dict[str, str] = {}
    wrong = False
    for source, file in zip(args.sources, given, strict=True):
        try:
            made += _import_one(args, source, file, grid)
        except (InputError, OSError) as error:
            common.note(f'skipped {source}: {error}')
            skipped[str(source)] = str(error)
            wrong = wrong or isinstance(error, AnnotationError)
    if args.json:
        lost = [{'source': source, 'reason': reason} for source, reason in skipped.items()]
        common.print_json({'folder': str(args.out), 'made': made, 'skipped': lost})
    else:
        print(f'created {len(made)} streams in {args.out}, skipped {len(skipped)} sources')
    return ExitStatus.BAD_INPUT if wrong or not made else ExitStatus.OK


def _import_one(args: argparse.Namespace, path: Path, file: Path | None, grid: Grid) -> list[str]:
    """Convert one recording and its annotations; return the names of the new streams.

    Args:
        args: Parsed arguments of the command.
        path: Recording.
        file: Annotation file; None: the file beside the recording.
        grid: Rate and image size of the streams.

    Raises:
        InputError: The recording or its annotations cannot be used.
        OSError: A file cannot be read.
        OutputError: A stream cannot be written.
    """
    from vljepa_ros.data.annotation_file import default_path, read_annotations
    from vljepa_ros.data.importer import RecordingConverter, write_all
    from vljepa_ros.sources import Damaged, open_source

    source = open_source(path, args.topic, args.fps)
    common.note_all(source)
    if file is None and not default_path(path).exists():
        raise InputError(
            f'no annotations: {default_path(path)} does not exist: create it, or pass '
            '--annotations'
        )
    annotations = read_annotations(file or default_path(path))
    converter, problems = RecordingConverter(source, grid), common.SourceProblems(source.start_ns)
    for item in common.watched(source):
        if isinstance(item, Damaged):
            problems.damage(item)
        problems.stamp(item.source, converter.push(item))
    problems.close()
    return write_all(args.out, converter.streams(annotations))


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'data',
        type=common.path,
        metavar='DATA',
        help='the folder that contains train/ and validation/',
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='JSON file to write')


def _manifest(args: argparse.Namespace) -> int:
    """List the seeds, cameras and paraphrases that a model was trained on."""
    from vljepa_ros.data import manifest

    out = common.checked_out(args.out)
    found = manifest.collect(args.data)
    try:
        out.write_text(manifest.dump(found), encoding='utf-8')
    except OSError as error:
        raise InputError(f'--out: {args.out}: {error.strerror}') from error
    counts = {split: len(found[split]['streams']) for split in manifest.SPLITS}
    if args.json:
        common.print_json({'out': args.out, **counts})
    else:
        listed = ', '.join(f'{count} streams of {split}' for split, count in counts.items())
        print(f'{args.out}: {listed}')
    return 0
