# SPDX-License-Identifier: Apache-2.0
"""`vljepa report SOURCE --out FILE.html`: write a page about a recording, to look at it.

The page is one file and needs no network: thumbnails on a timeline, segments with their texts,
the change of the embedding, watched statements and questions over time, and a search in the
texts. `FILE.html#t=66` opens the page at 66 s.
"""

from __future__ import annotations

import argparse
import dataclasses

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

MAX_CURVES = 50
EPILOG = """examples:
  vljepa report samples/bench --out report.html
  vljepa report samples/bench --out report.html --watch 'the light is off' --ask 'Is the light on?'
  vljepa report video.mp4 --model everyday --compare siglip2 --out report.html
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa report`."""
    common.add_source_arguments(parser)
    parser.add_argument(
        '-o', '--out', required=True, metavar='FILE.html', help='file to write the page to'
    )
    parser.add_argument(
        '--prompt',
        action='append',
        help="the question that every embedding answers; may be repeated (default: 'What is "
        "happening?')",
    )
    parser.add_argument(
        '--watch',
        action='append',
        default=[],
        metavar='TEXT',
        help='show the score of a statement over time; may be repeated',
    )
    parser.add_argument(
        '--ask',
        action='append',
        default=[],
        metavar='QUESTION',
        help='show the answer to a yes/no question over time; may be repeated',
    )
    parser.add_argument(
        '--compare',
        action='append',
        default=[],
        metavar='NAME|DIR',
        help='show the results of another model, too; may be repeated',
    )
    parser.add_argument('--title', default='', help='title (default: the name of the recording)')
    common.add_max_gap_argument(parser)
    common.add_model_arguments(parser)
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(args: argparse.Namespace) -> int:
    """Run `vljepa report` and return its exit status."""
    from vljepa_ros.core.settings import Settings
    from vljepa_ros.report import page, recorded

    path = common.checked_out(args.out)
    if len(args.watch) + len(args.ask) > MAX_CURVES:
        raise InputError(f'more than {MAX_CURVES} watches and questions')
    settings = Settings(common.perception_settings(args, tuple(args.prompt or ())))
    source = common.open_given(args)
    reports = []
    for name in dict.fromkeys((args.model, *args.compare)):
        model = common.load_model(argparse.Namespace(**{**vars(args), 'model': name}))
        items = common.reported(source)
        reports.append(recorded(model, source, settings, args.watch, args.ask, items))
        if name == args.model and not any(lane.segments for lane in reports[0].lanes):
            common.note_unseen(source)
    text = page(reports, args.title)
    path.write_text(text, encoding='utf-8')
    segments = sum(len(lane.segments) for report in reports for lane in report.lanes)
    if args.json:
        lanes = [dataclasses.asdict(lane) for report in reports for lane in report.lanes]
        common.print_json({'out': str(path), 'bytes': len(text.encode()), 'lanes': lanes})
    else:
        print(f'{args.out}: {segments} segments, {len(text.encode()) / 1e6:.1f} MB')
    return 0
