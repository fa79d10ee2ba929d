# SPDX-License-Identifier: Apache-2.0
"""`vljepa search SOURCE TEXT`: the moments of a recording that a text describes, best first."""

from __future__ import annotations

import argparse
from typing import Any

from vljepa_ros.cli import common
from vljepa_ros.cli.spans import add_span_arguments, read_span
from vljepa_ros.errors import InputError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    common.add_source_arguments(parser)
    parser.add_argument('text', metavar='TEXT', help='what to look for')
    parser.add_argument('--limit', type=int, default=10, metavar='K', help='at most so many (10)')
    add_span_arguments(parser, moment=False)
    common.add_prompt_argument(parser)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.cli import watching
    from vljepa_ros.cli.annotate import settings_of
    from vljepa_ros.stream.pipeline import Pipeline
    from vljepa_ros.stream.settings import check_text

    check_text(args.text, 'text', may_be_empty=False)
    if args.limit < 1:
        raise InputError(f'--limit ({args.limit}) is not positive')
    settings, source = settings_of(args), common.open_given(args)
    span = read_span(args, source.start_ns)
    pipeline = Pipeline(common.load_model(args), settings)
    for _ in watching.events(pipeline, source):
        pass
    moments = pipeline.search(
        args.text, start_ns=span.start_ns or 0, end_ns=span.end_ns or 0, limit=args.limit
    )
    found: list[dict[str, Any]] = [
        {
            'start': common.seconds(m.start_ns, source.start_ns),
            'end': common.seconds(m.end_ns, source.start_ns),
            'score': float(m.score),
            'text': m.text,
        }
        | ({'source': m.source} if len(source.cameras) > 1 else {})
        for m in moments
    ]
    if args.json:
        common.print_json(found)
    else:
        for moment in found:
            print('{score:5.3f}  {start:8.2f} - {end:8.2f} s  {text}'.format(**moment))
    return 0
