# SPDX-License-Identifier: Apache-2.0
"""`vljepa memory FILE`: list the segments of a memory file, or search them.

FILE is the `memory_path` of query_node. It is opened read-only, so that the node may be running.
Times are in seconds of ROS time; without --json they are printed as local time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.cli.time_spans import add_span_arguments, read_span
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.types import StreamKey
    from vljepa_ros.memory.segment_store import Store

LATEST_S = 2.0**31  # upper limit of a ROS stamp
MOST_BYTES = 10**15  # no size limit: nothing is deleted from a file that is opened read-only


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa memory`."""
    parser.add_argument(
        'file',
        metavar='FILE',
        type=common.path,
        help='memory file: the value of the parameter memory_path of query_node',
    )
    parser.add_argument(
        '--search', metavar='TEXT', help='print the moments that match a text, best first'
    )
    parser.add_argument(
        '--limit',
        type=int,
        default=10,
        metavar='K',
        help='maximum number of moments (default: 10)',
    )
    parser.add_argument(
        '--source', default='', metavar='NAME', help='use only this camera (default: all)'
    )
    add_span_arguments(parser, moment=False, unit='seconds of ROS time')
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa memory` and return its exit status."""
    from vljepa_ros.memory.segment_store import Store

    span = read_span(args, 0, LATEST_S)
    start_ns, end_ns = span.start_ns or 0, 0 if span.end_ns is None else max(span.end_ns, 1)
    store = Store(args.file.expanduser(), read_only=True)
    try:
        keys = _streams(store, args)
        if args.search is None:
            rows = _segments(store, keys, start_ns, end_ns)
        else:
            rows = _moments(store, args, start_ns, end_ns)
        for row in rows:
            if args.json:
                common.print_json(row)
            else:
                _show(row)
    finally:
        store.close()
    return 0


def _streams(store: Store, args: argparse.Namespace) -> list[StreamKey]:
    """Return the stored streams of the camera of --source, or of all cameras if it is empty.

    Raises:
        InputError: The camera has no stored stream.
    """
    keys = store.streams()
    known = dict.fromkeys(key.source for key in keys)
    if args.source and args.source not in known:
        names = ', '.join(known) or 'none yet'
        raise InputError(f"{args.file}: unknown source '{args.source}' (known: {names})")
    return [key for key in keys if args.source in ('', key.source)]


def _segments(
    store: Store, keys: list[StreamKey], start_ns: int, end_ns: int
) -> Iterator[dict[str, Any]]:
    """Yield JSON objects of the segments that overlap a span, in order of time.

    Args:
        store: The opened memory file.
        keys: Streams to list.
        start_ns: Start of the span.
        end_ns: End of the span; 0: no limit.
    """
    found = [
        (segment.start_ns, segment, key)
        for key in keys
        for segment in store.segments(key)
        if segment.end_ns >= start_ns and (not end_ns or segment.start_ns <= end_ns)
    ]
    for _, segment, key in sorted(found, key=lambda item: item[0]):
        yield {
            'source': key.source,
            'prompt': key.prompt,
            'model_id': key.model_id,
            'start': common.seconds(segment.start_ns, 0),
            'end': common.seconds(segment.end_ns, 0),
            'text': segment.text,
            **({'nearest': True} if segment.nearest else {}),
        }


def _moments(
    store: Store, args: argparse.Namespace, start_ns: int, end_ns: int
) -> Iterator[dict[str, Any]]:
    """Yield JSON objects of the moments that match the text of --search, best first.

    Args:
        store: The opened memory file.
        args: Parsed arguments of the command.
        start_ns: Earliest stamp; 0: no limit.
        end_ns: Latest stamp; 0: no limit.

    Raises:
        InputError: All stored vectors are of other models.
    """
    from vljepa_ros.core.settings import EVER_S, MemorySettings
    from vljepa_ros.memory.embedding_memory import Memory

    language = common.load_model(args, 'language').language
    assert language is not None
    memory = Memory(language.facts.model_id, MemorySettings(EVER_S, EVER_S, MOST_BYTES), store)
    if memory.foreign and not memory.sources:
        others = ', '.join(sorted({key.model_id for key in store.streams()}))
        raise InputError(
            f'{args.file} contains only vectors of {others}, which cannot be compared with those '
            f'of {language.facts.model_id}: select their model with --model'
        )
    for m in memory.search(language, args.search, args.source, start_ns, end_ns, args.limit):
        yield {
            'source': m.source,
            'start': common.seconds(m.start_ns, 0),
            'end': common.seconds(m.end_ns, 0),
            'score': float(m.score),
            'text': m.text,
        }


def _show(row: dict[str, Any]) -> None:
    """Print the JSON object of a segment or moment as one line of text."""
    when = datetime.fromtimestamp(row['start']).isoformat(' ', 'milliseconds')
    score = f'{row["score"]:5.3f}  ' if 'score' in row else ''
    print(f'{score}{when}  {row["end"] - row["start"]:7.1f} s  {row["source"]}  {row["text"]}')
