# SPDX-License-Identifier: Apache-2.0
"""`vljepa data COMMAND`: make annotated streams for training, by simulation or of recordings.

`mwstream` films a robot arm in simulation, `kitchen` a scene that no model is trained on, `import`
reads recordings with what people say of them, `manifest` lists what a model was trained on.
docs/reference/data_formats.md describes the files.
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

SPLITS = (TRAIN, VALIDATION, TEST, UNSEEN)  # that mwstream films


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the commands; each takes --json."""
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
    """Run the command."""
    return int(args.act(args))


def _add_mwstream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--split', required=True, choices=SPLITS, help='which seeds, and how they are drawn'
    )
    parser.add_argument(
        '--views',
        default=HOME,
        choices=VIEWS,
        help='cameras: home (four zoomed viewpoints, default), wide (each episode by another '
        'camera) or wide-fixed (one wide camera a stream)',
    )
    parser.add_argument(
        '--depth', action='store_true', help='store small depth pictures in state.npz as well'
    )
    _add_filming(parser)


def _add_filming(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='the folder of the splits'
    )
    parser.add_argument('--streams', type=int, default=10, metavar='N', help='(default: 10)')
    parser.add_argument(
        '--seconds', type=float, default=60.0, metavar='S', help='of each stream (default: 60)'
    )
    parser.add_argument(
        '--size', type=int, default=192, metavar='PX', help='side of the pictures (default: 192)'
    )
    parser.add_argument(
        '--jobs', type=int, metavar='J', help='streams made at a time (default: one a CPU)'
    )
    parser.add_argument(
        '--first-seed', type=int, metavar='N', help="(default: the first of the split's)"
    )


def _mwstream(args: argparse.Namespace) -> int:
    """Film Meta-World streams; what is there already is kept."""
    return _film(args, args.split, args.views, args.depth)


def _kitchen(args: argparse.Namespace) -> int:
    """Film streams of the Franka kitchen, for the suite transfer; what is there is kept."""
    return _film(args, KITCHEN)


def _film(args: argparse.Namespace, split: str, views: str = HOME, depth: bool = False) -> int:
    if args.jobs is not None and args.jobs < 1:
        raise InputError(f'--jobs ({args.jobs}) is not positive')
    from vljepa_ros.data.generate import Filming, generate

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
        print(f'{made} streams made in {folder}, {kept} were there already')
    return 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('sources', metavar='SOURCE', nargs='+', type=Path, help=common.SOURCE_HELP)
    parser.add_argument(
        '--annotations',
        metavar='FILE',
        nargs='+',
        type=Path,
        help='what people say, one file a SOURCE (default: SOURCE.jsonl beside each)',
    )
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='the split: DIR/train, say'
    )
    parser.add_argument(
        '--size', type=int, default=192, metavar='S', help='side of the pictures (default: 192)'
    )
    parser.add_argument(
        '--rate', type=float, default=10.0, metavar='HZ', help='frames a second (default: 10)'
    )
    common.add_reading_arguments(parser)


def _import(args: argparse.Namespace) -> int:
    """Make streams of recordings and of what people say of them.

    2 where an annotation is wrong, or no stream was made.
    """
    from vljepa_ros.data.annotation_file import AnnotationError
    from vljepa_ros.data.atomic_folder import open_folder
    from vljepa_ros.data.importer import Grid

    grid = Grid(args.rate, args.size)
    given = args.annotations or [None] * len(args.sources)
    if len(given) != len(args.sources):
        raise InputError(f'{len(given)} files of --annotations for {len(args.sources)} sources')
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
        print(f'{len(made)} streams made, {len(skipped)} skipped: {args.out}')
    return ExitStatus.BAD_INPUT if wrong or not made else ExitStatus.OK


def _import_one(args: argparse.Namespace, path: Path, file: Path | None, grid: Grid) -> list[str]:
    """The names of the streams of one source. Raises InputError, OSError, OutputError."""
    from vljepa_ros.data.annotation_file import default_path, read_annotations
    from vljepa_ros.data.importer import Recorder, write_all
    from vljepa_ros.sources import Damaged, open_source

    source = open_source(path, args.topic, args.fps)
    if file is None and not default_path(path).exists():
        raise InputError(f'no annotations: {default_path(path)} is not there')
    said = read_annotations(file or default_path(path))
    recorder, troubles = Recorder(source, grid), common.Troubles(source)
    for item in common.watched(source):
        if isinstance(item, Damaged):
            troubles.damage(item)
        troubles.stamp(item.source, recorder.push(item))
    troubles.close()
    return write_all(args.out, recorder.streams(said))


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'data', type=Path, metavar='DATA', help='the folder that holds train/ and validation/'
    )
    parser.add_argument('--out', required=True, metavar='FILE', help='JSON file to write')


def _manifest(args: argparse.Namespace) -> int:
    """List seeds, cameras and wordings that a model was trained on."""
    from vljepa_ros.cli.embed import checked_out
    from vljepa_ros.data import manifest

    out = checked_out(args.out)
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
