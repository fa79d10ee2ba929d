# SPDX-License-Identifier: Apache-2.0
"""`vljepa calibrate MODEL_DIR`: fit the detectors of unfamiliar scenes and unreadable texts.

The validation streams of --data, in all available views, are the familiar scenes. The unfamiliar
scenes are built-in synthetic outliers and the sources of --unfamiliar. Weights and model_id do not
change.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError
from vljepa_ros.data.splits import VALIDATION

if TYPE_CHECKING:
    from vljepa_ros.data.format import Stream


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa calibrate`."""
    parser.add_argument('model', metavar='MODEL_DIR', help='folder of a model of kind streaming')
    parser.add_argument(
        '--data',
        type=common.path,
        default=Path('data/mwstream'),
        metavar='DIR',
        help=f'the folder that contains {VALIDATION}/ (default: data/mwstream)',
    )
    parser.add_argument(
        '--unfamiliar',
        nargs='+',
        default=[],
        metavar='SOURCE',
        help='scenes that are unfamiliar to the model: bags, videos, folders of images, or names '
        "of built-in kinds ('shadow hand', 'plain table', ...; docs/guide/models.md lists them). "
        'Default: synthetic images only',
    )
    parser.add_argument(
        '--streams',
        type=int,
        default=0,
        metavar='N',
        help='use only the first N streams of each view (0: all)',
    )
    parser.add_argument(
        '--texts-only',
        action='store_true',
        help='fit only the detector of unreadable texts; keep the detector of unfamiliar scenes',
    )
    common.add_device_arguments(parser)
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa calibrate` and return its exit status."""
    if args.streams < 0:
        raise InputError(f'--streams ({args.streams}) is negative')
    from vljepa_ros.model import registry
    from vljepa_ros.train.familiarity import calibrate_familiarity, calibrate_texts

    folder = registry.find(args.model)
    streams = validation_streams(args.data, args.streams)
    registry.prepare(args.device, 'float32', args.threads)
    if args.texts_only:
        calibrate_texts(folder, streams)
        if args.json:
            common.print_json({'folder': str(folder), 'streams': len(streams)})
        else:
            print(f'calibrated {folder}: detector of unreadable texts')
        return 0
    fitted = calibrate_familiarity(folder, streams, args.unfamiliar, args.device)
    if args.json:
        shares = {'refused': fitted.refused, 'caught': fitted.caught}
        common.print_json({'folder': str(folder), 'streams': len(streams), **shares})
        return 0
    print(f'calibrated {folder} on {len(streams)} streams')
    print('false-positive rate: familiar hops reported as unfamiliar, on held-out streams:')
    common.print_ranked([(name, share) for name, share in fitted.refused.items()])
    print('recall: unfamiliar hops reported as unfamiliar, on held-out kinds of scenes:')
    common.print_ranked([(name, share) for name, share in fitted.caught.items()])
    return 0


def validation_streams(data: Path, limit: int = 0) -> list[Stream]:
    """Return the validation streams of all views in the folder `data`.

    Args:
        data: Folder that contains the splits.
        limit: Maximum number of streams per view; 0: all.

    Raises:
        InputError: There is no validation stream.
    """
    from vljepa_ros.data.format import open_split

    folders = sorted(p for p in data.glob(f'{VALIDATION}*') if p.is_dir())
    found: list[Stream] = []
    for folder in folders:
        split = open_split(folder)
        for name, reason in split.skipped:
            common.note(f'skipped {name}: {reason}')
        found += split.streams[: limit or None]
    if not found:
        raise InputError(
            f'{data} contains no streams of the split {VALIDATION}: record them with `vljepa data '
            f'mwstream --split {VALIDATION} --out {data}`, or import recordings into '
            f'{data / VALIDATION}'
        )
    return found
