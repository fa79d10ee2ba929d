# SPDX-License-Identifier: Apache-2.0
"""`vljepa play BAG`: publish a bag over ROS with /clock, at a rate or in step with the stack.

Messages and their stamps are published unchanged. With --lossless, an image is published only
after the stack has processed the previous image.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

DISCOVERY_S, LOSSLESS_S = 6.0, 30.0  # default timeouts; discovery takes 3 s


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa play`."""
    parser.add_argument(
        'bag', metavar='BAG', type=common.path, help='a rosbag2 folder, an .mcap or .db3 file'
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        '--rate',
        type=float,
        default=1.0,
        metavar='R',
        help='playback speed relative to the recording (default: 1)',
    )
    pace.add_argument(
        '--lossless',
        action='store_true',
        help='play as fast as the stack processes images: wait for it after every image',
    )
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='TOPIC',
        help='play only this topic; may be repeated (default: all topics of installed types)',
    )
    parser.add_argument(
        '--topic-remap',
        action='append',
        default=[],
        metavar='FROM:=TO',
        help='publish a topic under another name; may be repeated',
    )
    parser.add_argument(
        '--namespace',
        default='vljepa',
        help='namespace of the stack, for --lossless (default: vljepa)',
    )
    parser.add_argument(
        '--timeout',
        type=float,
        metavar='S',
        help='maximum time to wait for the subscribers of the images (default: '
        f'{DISCOVERY_S:g} s); with --lossless also for each image (default: {LOSSLESS_S:g} s)',
    )
    parser.add_argument('--loop', action='store_true', help='play the bag again and again')
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa play` and return its exit status."""
    path = args.bag
    check_bag(path)
    timeout_s = args.timeout
    if timeout_s is None:
        timeout_s = LOSSLESS_S if args.lossless else DISCOVERY_S
    for name, value in (('--rate', args.rate), ('--timeout', timeout_s)):
        if not math.isfinite(value) or value <= 0:
            raise InputError(f'{name} ({value:g}) is not positive')
    remap = read_remap(args.topic_remap)
    from vljepa_ros.sources.bag import Bag

    bag = Bag(path)
    for line in bag.notes:
        common.note(line)
    try:
        from vljepa_ros.client import bag_player as play
    except ImportError as error:
        raise InputError(f'play needs ROS 2 (rclpy): {error}') from error
    report = play.play(
        bag,
        play.PlayOptions(
            topics=tuple(args.topic),
            remap=remap,
            namespace=args.namespace,
            rate=0.0 if args.lossless else args.rate,
            timeout_s=timeout_s,
            loop=args.loop,
        ),
        note=common.note,
    )
    if args.json:
        common.print_json(report)
    else:
        print('{messages} messages of {topics} topics in {seconds:.1f} s'.format(**report))
    return 0


def check_bag(path: Path) -> None:
    """Raise InputError if the path is not a bag of ROS 2."""
    from vljepa_ros.sources.bag_files import Ros1File, format_of
    from vljepa_ros.sources.factory import is_bag

    try:
        if not path.exists():
            raise InputError(f'no such file or folder: {path}')
        if not is_bag(path):
            raise InputError(f'{path} is not a bag (a rosbag2 folder, an .mcap or .db3 file)')
        if path.is_file() and format_of(path) is Ros1File:
            raise InputError(
                f'{path} is a bag of ROS 1, whose messages ROS 2 cannot publish; convert it: '
                f'rosbags-convert --src {path.name} --dst {path.stem}'
            )
    except OSError as error:  # permission denied, or the name is too long
        raise InputError(f'{path}: {error.strerror or error}') from error


def read_remap(given: list[str]) -> dict[str, str]:
    """Parse arguments of the form FROM:=TO to a dictionary. Raises InputError for other forms."""
    found = {}
    for item in given:
        before, sign, after = item.partition(':=')
        if not sign or not before or not after:
            raise InputError(f"--topic-remap '{item}' is not of the form FROM:=TO")
        found[before] = after
    return found
