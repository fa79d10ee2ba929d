# SPDX-License-Identifier: Apache-2.0
"""Shared functions of the commands: arguments, models, sources, progress and warnings."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.images import Crop
    from vljepa_ros.core.protocols import Model
    from vljepa_ros.core.settings import PerceptionSettings, Settings
    from vljepa_ros.core.types import AbstainReason, Answer, Frame
    from vljepa_ros.sources import Damaged, Source

SECOND_NS = 1_000_000_000
TELL_S = 60.0  # period of progress lines
RECORDING_MODEL, REAL_CAMERA_MODEL = 'small', 'everyday'  # see `default_model`
T = TypeVar('T')

WHY = {
    'LOW_CONFIDENCE': 'the confidence is too low',
    'UNANSWERABLE': 'what the camera shows does not answer the question',
    'UNFAMILIAR': 'the scene is unfamiliar to the model',
    'UNREADABLE': 'the model cannot read the question or its candidates',
    'NOT_SEEN': 'too little of the span was evaluated for this question',
}
SOURCE_HELP = 'a rosbag2 folder, an .mcap, .db3 or ROS 1 file, a video file, or a folder of images'


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option --json."""
    parser.add_argument('--json', action='store_true', help='print machine-readable JSON')


def default_model(live: bool = False) -> str:
    """Return the model of a command without --model.

    Args:
        live: Whether its source is a real camera.
    """
    return REAL_CAMERA_MODEL if live else RECORDING_MODEL


def add_model_arguments(parser: argparse.ArgumentParser, live: bool = False) -> None:
    """Add the options --model, --device, --dtype, --threads and --json.

    Args:
        parser: Parser of the command.
        live: Whether the command also reads real cameras; it then replaces the default None of
            --model by `default_model`.
    """
    group = parser.add_argument_group('model')
    default = default_model()
    if live:
        default = f'{default_model(live=True)} for cameras, {default} for recordings'
    group.add_argument(
        '--model',
        default=None if live else default,
        metavar='NAME|DIR',
        help=f'an installed model (vljepa models) or its folder (default: {default})',
    )
    add_device_arguments(group)
    add_output_arguments(parser)


def add_device_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options --device, --dtype and --threads."""
    parser.add_argument('--device', default='auto', help='auto (default), cpu, cuda or cuda:N')
    parser.add_argument(
        '--dtype', default='float32', help='float32 (default), bfloat16 or float16'
    )
    parser.add_argument(
        '--threads',
        type=int,
        default=0,
        metavar='N',
        help="CPU threads; 0 is 1 for small models, else torch's default (default: %(default)s)",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument SOURCE and the options --topic, --fps and --crop."""
    parser.add_argument('source', metavar='SOURCE', type=path, help=SOURCE_HELP)
    add_reading_arguments(parser)
    add_crop_argument(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options --topic and --fps."""
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
        type=_fps,
        default=0.0,
        help='frames per second of a folder of images (default: 10)',
    )


def add_crop_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --crop."""
    parser.add_argument(
        '--crop',
        type=_region,
        action='append',
        default=[],
        metavar='[NAME=]X,Y,W,H',
        help='the region of each image to use, as fractions of its width and height (W and H at '
        'least 0.05), for example the workspace in a wide view; may be repeated with names: each '
        'region is then a source of its own',
    )


def path(text: str) -> Path:
    """Convert an argument to a path; an empty argument is an error, not the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError('the path is empty')
    return Path(text)


def _fps(text: str) -> float:
    try:
        found = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from error
    if not math.isfinite(found) or found <= 0:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return found


def _max_gap(text: str) -> float:
    from vljepa_ros.core.settings import PerceptionSettings

    return _converted(
        lambda: PerceptionSettings(max_gap_s=float(text)).max_gap_s, f"'{text}' is not a number"
    )


def _region(text: str) -> tuple[str, Crop]:
    from vljepa_ros.core.images import check_crop

    name, _, numbers = text.rpartition('=')
    crop = _converted(
        lambda: check_crop([float(part) for part in numbers.split(',')]),
        f"'{text}' does not consist of four numbers X,Y,W,H, with an optional NAME= before them",
    )
    return name, crop


def _converted(convert: Callable[[], T], not_numbers: str) -> T:
    """Convert an argument; errors become those of argparse, `not_numbers` for a ValueError."""
    try:
        return convert()
    except ValueError as error:
        raise argparse.ArgumentTypeError(not_numbers) from error
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_prompt_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --prompt."""
    parser.add_argument(
        '--prompt',
        help="the question that every embedding answers (default: 'What is happening?')",
    )


def add_max_gap_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --max-gap."""
    parser.add_argument(
        '--max-gap',
        type=_max_gap,
        metavar='S',
        help='a longer gap between frames, in seconds, resets the stream; raise it for recordings '
        'with few frames per second (default: 2)',
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the default settings, with --prompt and --max-gap.

    Raises:
        InputError: The prompt is invalid.
    """
    from vljepa_ros.core.settings import Settings

    prompts = () if args.prompt is None else (args.prompt,)
    return Settings(perception_settings(args, prompts))


def checked_out(name: str) -> Path:
    """Return the path of an output file with symbolic links resolved.

    Raises:
        InputError: The file cannot be written.
    """
    if not name:
        raise InputError('--out is empty')
    path = Path(name)
    try:
        target = path.resolve()
        if target.is_dir():
            raise InputError(f'--out: {path} is a folder')
        if target.exists() and not target.is_file():
            raise InputError(f'--out: {path} is not a regular file')
        if not target.parent.is_dir():
            raise InputError(f'--out: no such folder: {path.parent}')
    except (OSError, RuntimeError) as error:  # the name is too long, or links form a cycle
        raise InputError(f'--out: {path}: {getattr(error, "strerror", error)}') from error
    if not os.access(target.parent, os.W_OK):
        raise InputError(f'--out: the folder {path.parent} is not writable')
    return target


def perception_settings(
    args: argparse.Namespace, prompts: tuple[str, ...] = ()
) -> PerceptionSettings:
    """Return the default settings with --max-gap, and with prompts if there are any.

    Raises:
        InputError: A prompt is invalid.
    """
    from vljepa_ros.core.settings import PerceptionSettings

    settings = PerceptionSettings()
    return replace(
        settings,
        prompts=prompts or settings.prompts,
        max_gap_s=settings.max_gap_s if args.max_gap is None else args.max_gap,
    )


def load_model(args: argparse.Namespace, *parts: str) -> Model:
    """Load the model that --model, --device, --dtype and --threads select.

    Args:
        args: Parsed arguments of the command.
        parts: Sides to load, 'vision' or 'language' (default: both).

    Raises:
        InputError: An argument is invalid.
        ModelError: The model cannot be loaded.
    """
    if args.threads < 0:
        raise InputError(f'--threads ({args.threads}) is negative')
    from vljepa_ros.model import registry

    return registry.load(
        args.model, args.device, args.dtype, args.threads, parts or ('vision', 'language')
    )


def regions_of(args: argparse.Namespace) -> dict[str, Crop]:
    """Return the regions that --crop selects, by name; {} for whole images.

    Raises:
        InputError: Several regions have no name, an invalid name or the same name.
    """
    from vljepa_ros.sources.regions import check_regions

    try:
        return check_regions(args.crop)
    except InputError as error:
        raise InputError(f'--crop: {error}') from error


def open_given(args: argparse.Namespace, one_camera: bool = False) -> Source:
    """Open the source that SOURCE, --topic, --fps and --crop select.

    Args:
        args: Parsed arguments of the command.
        one_camera: Whether the command supports only one camera.

    Raises:
        InputError: The source cannot be opened, or has several cameras despite `one_camera`.
    """
    from vljepa_ros.sources import open_source
    from vljepa_ros.sources.regions import RegionSource

    regions = regions_of(args)
    source = open_source(args.source, args.topic, args.fps)
    note_all(source)
    if regions:
        source = RegionSource(source, regions)
    if one_camera and len(source.cameras) > 1:
        raise InputError(
            f'{args.source} has several cameras ({", ".join(source.cameras)}): '
            'choose one with --topic or --crop'
        )
    return source


class SourceProblems:
    """Prints warnings about a source to stderr: the first of each kind, and counts at the end.

    The kinds of each camera are counted separately. `damaged`: number of damaged images.
    """

    def __init__(self, start_ns: int) -> None:
        """Create a printer; `start_ns` is the start of the source."""
        self._start_ns = start_ns
        self._count: Counter[str] = Counter()
        self.damaged = 0

    def damage(self, item: Damaged) -> None:
        """Count a damaged image, which was skipped, and print a warning if it is the first."""
        at_s = (item.stamp_ns - self._start_ns) / SECOND_NS
        if item.is_end:
            note(f'{item.message} (read up to {at_s:.3f} s)')
            return
        self.damaged += 1
        kind = re.sub(r'\d+', 'N', item.message)  # sizes and numbers of frames differ
        self._print_first(
            f'{item.source}: damaged images ({kind})',
            f'{item.source}: skipped a damaged image at {at_s:.3f} s: {item.message}',
        )

    def stamp(self, camera: str, message: str) -> None:
        """Count a message of the stamp filter, and print it if it is the first of its kind.

        Args:
            camera: Name of the camera.
            message: One line; '' is ignored.
        """
        if message:
            kind = f'{camera}: {re.split(" by | at | from ", message)[0]}'
            self._print_first(kind, f'{camera}: {message}')

    def close(self) -> None:
        """Print the number of occurrences of each repeated warning."""
        for kind, count in self._count.items():
            if count > 1:
                note(f'{kind}: {count} times in total')

    def _print_first(self, kind: str, line: str) -> None:
        self._count[kind] += 1
        if self._count[kind] == 1:
            note(line)


def note(line: str) -> None:
    """Print one line to stderr, with the prefix 'vljepa: '."""
    print(f'vljepa: {line}', file=sys.stderr, flush=True)


def note_all(source: Source) -> None:
    """Print the notes of a source about parts that are missing or left out."""
    for line in source.notes:
        note(line)


def note_unseen(source: Source) -> None:
    """Print a note that a source has too few images for one hop."""
    note(
        f'{source.name}: no result: too few images for one inference step (hop); if they are more '
        'than 2 s apart, raise --max-gap'
    )


def reported(source: Source) -> Iterator[Frame | Damaged]:
    """Yield the frames of a source with progress, and report its damaged images."""
    from vljepa_ros.sources import Damaged

    problems = SourceProblems(source.start_ns)
    for item in watched(source):
        if isinstance(item, Damaged):
            problems.damage(item)
        yield item
    problems.close()


def watched(source: Source, streams_out: bool = False) -> Iterator[Frame | Damaged]:
    """Yield frames and damaged images of a source, with a progress bar if stderr is a terminal.

    Images are decoded in advance, in a thread.

    Args:
        source: The source to read.
        streams_out: Whether results are printed to stdout during the iteration. If stdout is also
            a terminal, there is no progress bar.
    """
    from vljepa_ros.sources.read_ahead import read_ahead

    items = read_ahead(source.items())
    if not sys.stderr.isatty() or (streams_out and sys.stdout.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    # By default, rich redirects stdout to the terminal, even if stdout is a pipe.
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        yield from bar.track(items, total=source.total, description=source.name)


def seconds(stamp_ns: int, start_ns: int) -> float:
    """Convert a stamp to seconds from the start of its source."""
    return round((stamp_ns - start_ns) / SECOND_NS, 9)


def abstention(reason: AbstainReason) -> dict[str, Any]:
    """Return the JSON keys `abstained` and `abstain_reason`; {} if the reason is NONE."""
    if not reason:
        return {}
    return {'abstained': True, 'abstain_reason': reason.name.lower()}


def doubt(answer: Answer) -> str:
    """Return why an answer abstained, for the end of a line: ', abstained: ...' or ''."""
    if not answer.abstained:
        return ''
    why = answer.message or WHY[answer.abstain_reason.name]
    return f', abstained: {why}' if why else ''


def print_json(value: Any) -> None:
    """Print a value as one line of JSON and flush stdout, so that a pipe receives it at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_ranked(items: Iterable[tuple[str, float]]) -> None:
    """Print pairs of text and score, one per line."""
    for text, score in items:
        print(f'  {score:5.3f}  {text}')


def progress(items: Iterable[Any], name: str, total: int) -> Iterable[Any]:
    """Yield items and show progress on stderr: a bar on a terminal, else one line per minute.

    Args:
        items: Items to yield.
        name: Description of the progress.
        total: Number of items.
    """
    if not sys.stderr.isatty():
        printed_s = time.monotonic()
        for number, item in enumerate(items):
            if time.monotonic() - printed_s >= TELL_S:
                printed_s = time.monotonic()
                note(f'{name}: {number} of {total}')
            yield item
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, name, total, console=Console(stderr=True), transient=True)
