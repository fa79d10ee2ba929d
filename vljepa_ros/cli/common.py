# SPDX-License-Identifier: Apache-2.0
"""What commands share: arguments, the model, a source with its progress and its troubles."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.protocols import Model
    from vljepa_ros.core.types import AbstainReason, Frame
    from vljepa_ros.sources import Damaged, Source

SECOND_NS = 1_000_000_000
TELL_S = 60.0  # between two lines about how far it is
SOURCE_HELP = 'a rosbag2 folder, an .mcap or .db3 file, a video file, or a folder of images'


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument('--json', action='store_true', help='print JSON, for programs')


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --device, --dtype, --threads, --json."""
    group = parser.add_argument_group('model')
    group.add_argument(
        '--model',
        default='small',
        metavar='NAME|DIR',
        help='an installed model (vljepa models) or its folder (default: small)',
    )
    add_device_arguments(group)
    add_output_arguments(parser)


def add_device_arguments(parser: argparse._ActionsContainer) -> None:
    """--device, --dtype, --threads."""
    parser.add_argument('--device', default='auto', help='auto (default), cpu, cuda or cuda:N')
    parser.add_argument('--dtype', default='float32', help='float32, bfloat16 or float16')
    parser.add_argument(
        '--threads',
        type=int,
        default=0,
        metavar='N',
        help="CPU threads (default: 0: 1 for small models, else torch's default)",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """SOURCE, --topic, --fps."""
    parser.add_argument(
        'source',
        metavar='SOURCE',
        help=SOURCE_HELP,
    )
    add_reading_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """--topic, --fps."""
    parser.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='[NAME=]TOPIC',
        help='an image topic of the bag, optionally with a camera name; may be '
        'repeated (default: all)',
    )
    parser.add_argument(
        '--fps',
        type=float,
        default=0.0,
        help='frames per second of a folder of images (default: 10)',
    )


def add_prompt_argument(parser: argparse.ArgumentParser) -> None:
    """--prompt."""
    parser.add_argument('--prompt', help="the standing prompt (default: 'What is happening?')")


def load_model(args: argparse.Namespace, *parts: str) -> Model:
    """The model that the arguments name. Raises ModelError."""
    if args.threads < 0:
        raise InputError(f'--threads ({args.threads}) is negative')
    from vljepa_ros.model import registry

    return registry.load(
        args.model, args.device, args.dtype, args.threads, parts or ('vision', 'language')
    )


def open_given(args: argparse.Namespace, one_camera: bool = False) -> Source:
    """The source that the arguments name. Raises InputError."""
    from vljepa_ros.sources import open_source

    source = open_source(args.source, args.topic, args.fps)
    if one_camera and len(source.cameras) > 1:
        raise InputError(
            f'{args.source}: several cameras ({", ".join(source.cameras)}); '
            'choose one with --topic'
        )
    return source


class Troubles:
    """Says on stderr what is odd about a source: each kind at its first time, and how often."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count: dict[str, int] = {}
        self.damaged = 0

    def damage(self, item: Damaged) -> None:
        """A picture was skipped."""
        self.damaged += 1
        if self.damaged == 1:
            at_s = (item.stamp_ns - self._source.start_ns) / SECOND_NS
            note(f'{item.source}: skipped a damaged picture at {at_s:.3f} s: {item.message}')

    def stamp(self, camera: str, message: str) -> None:
        """A line on a stamp, or ''."""
        if message:
            kind = f'{camera}: {message.split(" by ")[0].split(" at ")[0]}'
            self._count[kind] = self._count.get(kind, 0) + 1
            if self._count[kind] == 1:
                note(f'{camera}: {message}')

    def close(self) -> None:
        """Sum up what came more than once."""
        if self.damaged > 1:
            note(f'{self.damaged} damaged pictures were skipped in all')
        for kind, count in self._count.items():
            if count > 1:
                note(f'{kind}: {count} times in all')


def note(line: str) -> None:
    """One line for people, on stderr."""
    print(f'vljepa: {line}', file=sys.stderr, flush=True)


def note_unseen(source: Source) -> None:
    """Say why there is no result."""
    note(f'{source.name}: too few pictures for the model to see anything')


def watched(source: Source, streams_out: bool = False) -> Iterator[Frame | Damaged]:
    """The source's items, with a progress bar where somebody sees it.

    `streams_out`: results are printed meanwhile; then there is no bar if both would meet.
    """
    if not sys.stderr.isatty() or (streams_out and sys.stdout.isatty()):
        yield from source.items()
        return
    from rich.console import Console
    from rich.progress import Progress

    # rich would take stdout for the terminal even where it is a pipe.
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        yield from bar.track(source.items(), total=source.total, description=source.name)


def seconds(stamp_ns: int, start_ns: int) -> float:
    """Seconds from the source's start."""
    return round((stamp_ns - start_ns) / SECOND_NS, 9)


def abstention(reason: AbstainReason) -> dict[str, Any]:
    """The keys of JSON that say why a text is withheld; none if it is given."""
    if not reason:
        return {}
    return {'abstained': True, 'abstain_reason': reason.name.lower()}


def print_json(value: Any) -> None:
    """One line, at once: somebody may be reading along."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_ranked(items: Iterable[tuple[str, float]]) -> None:
    """Texts with scores, as a table."""
    for text, score in items:
        print(f'  {score:5.3f}  {text}')


def progress(items: Iterable[Any], name: str, total: int) -> Iterable[Any]:
    """The items, with a bar on a terminal, or else a line a minute."""
    if not sys.stderr.isatty():
        told_s = time.monotonic()
        for number, item in enumerate(items):
            if time.monotonic() - told_s >= TELL_S:
                told_s = time.monotonic()
                note(f'{name}: {number} of {total}')
            yield item
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, name, total, console=Console(stderr=True), transient=True)
