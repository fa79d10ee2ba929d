# SPDX-License-Identifier: Apache-2.0
"""`vljepa search SOURCE TEXT`: find the moments of a recording that match a text."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.cli.time_spans import Span, add_span_arguments, check_reached, read_span
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.settings import Settings
    from vljepa_ros.core.types import Moment
    from vljepa_ros.sources import Source


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa search`."""
    common.add_source_arguments(parser)
    parser.add_argument('text', metavar='TEXT', help='description of the moments to find')
    parser.add_argument(
        '--limit',
        type=int,
        default=10,
        metavar='K',
        help='maximum number of moments (default: 10)',
    )
    add_span_arguments(parser, moment=False)
    common.add_prompt_argument(parser)
    common.add_max_gap_argument(parser)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa search` and return its exit status."""
    from vljepa_ros.core.settings import check_text
    from vljepa_ros.memory.embedding_memory import MOST_MOMENTS

    check_text(args.text, 'text', may_be_empty=False)
    if not 1 <= args.limit <= MOST_MOMENTS:
        raise InputError(f'--limit ({args.limit}) is not in 1..{MOST_MOMENTS}')
    settings, source = settings_of(args), common.open_given(args, one_camera=True)
    span = read_span(args, source.start_ns)
    found: list[dict[str, Any]] = [
        {
            'start': common.seconds(m.start_ns, source.start_ns),
            'end': common.seconds(m.end_ns, source.start_ns),
            'score': float(m.score),
            'text': m.text,
        }
        for m in moments_of(args, settings, source, span)
    ]
    if args.json:
        common.print_json(found)
    else:
        for moment in found:
            print('{score:5.3f}  {start:8.2f} - {end:8.2f} s  {text}'.format(**moment))
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the settings of `vljepa annotate`, with a memory that retains the whole recording."""
    from vljepa_ros.core.settings import EVER_S, MemorySettings

    return dataclasses.replace(common.settings_of(args), memory=MemorySettings(EVER_S, EVER_S))


def moments_of(
    args: argparse.Namespace, settings: Settings, source: Source, span: Span
) -> list[Moment]:
    """Process the whole source, then return the moments that match the text, best first.

    Args:
        args: Parsed arguments of the command.
        settings: Settings of the pipeline.
        source: The recording, of one camera.
        span: Span to search.

    Raises:
        InputError: The span begins after the end of the recording.
    """
    from vljepa_ros.cli import offline_run
    from vljepa_ros.pipeline import Pipeline

    pipeline = Pipeline(common.load_model(args), settings)
    newest_ns = max((e.end_ns for e in offline_run.events(pipeline, source)), default=0)
    check_reached(source, span, newest_ns)
    if not newest_ns:
        common.note_unseen(source)
    # An end of 0 would mean now; no segment begins in the first nanosecond.
    end_ns = 0 if span.end_ns is None else max(span.end_ns, 1)
    return pipeline.search(args.text, '', span.start_ns or 0, end_ns, args.limit)
