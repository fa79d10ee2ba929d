# SPDX-License-Identifier: Apache-2.0
"""`vljepa annotate SOURCE`: describe a recording segment by segment in text.

With --json, each segment is one line with a JSON object: source, segment, start, end, text,
confidence. Times are in seconds from the start of the source. "nearest": true marks a text from
the model's sentence bank. "abstained": true and "abstain_reason": "unfamiliar" mark a scene that
is unfamiliar to the model; its text is withheld ("", confidence 0). Each segment is printed with
its final text when it ends. With --offline, all segments are printed at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common

if TYPE_CHECKING:
    from vljepa_ros.core.types import Event


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa annotate`."""
    common.add_source_arguments(parser)
    common.add_prompt_argument(parser)
    common.add_max_gap_argument(parser)
    parser.add_argument(
        '--events-per-minute',
        type=float,
        default=0.0,
        metavar='N',
        help='long-term limit of texts per minute and camera, which a burst may exceed by about '
        'ten texts; with --offline, a strict limit (default: no limit)',
    )
    parser.add_argument(
        '--offline',
        action='store_true',
        help='segment the whole recording at once by Ward clustering (needs scikit-learn)',
    )
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa annotate` and return its exit status."""
    from vljepa_ros.cli import offline_run
    from vljepa_ros.core.settings import SegmenterSettings
    from vljepa_ros.core.types import State
    from vljepa_ros.pipeline import Pipeline
    from vljepa_ros.stream.offline_segmenter import OfflineSegmenter

    segmentation = SegmenterSettings(events_per_minute=args.events_per_minute)
    settings = dataclasses.replace(common.settings_of(args), segmenter=segmentation)
    offline = OfflineSegmenter(segmentation, 'offline') if args.offline else None
    source = common.open_given(args)
    pipeline = Pipeline(common.load_model(args), settings, segmenter=offline)
    seen = False
    for event in offline_run.events(pipeline, source, streams_out=True):
        seen = True
        if event.state is State.ENDED:
            show(as_json(event, source.start_ns), args.json, pipeline.model.facts.name)
    if not seen:
        common.note_unseen(source)
    return 0


def as_json(event: Event, start_ns: int) -> dict[str, Any]:
    """Return the JSON object of a segment; `start_ns` is the start of the source."""
    return {
        'source': event.key.source,
        'segment': event.segment_id,
        'start': common.seconds(event.start_ns, start_ns),
        'end': common.seconds(event.end_ns, start_ns),
        'text': event.text,
        'confidence': float(event.confidence),
        **({'nearest': True} if event.nearest else {}),
        **common.abstention(event.abstain_reason),
    }


def show(segment: dict[str, Any], as_line_of_json: bool, model: str) -> None:
    """Print one segment as a line of JSON or text.

    Args:
        segment: JSON object of the segment.
        as_line_of_json: Whether to print JSON.
        model: Name of the model, for segments without a text.
    """
    if as_line_of_json:
        common.print_json(segment)
        return
    text = '{text} ({confidence:.2f})'.format(**segment)
    if segment.get('abstained'):
        text = f"(scene unfamiliar to model '{model}')"
    print(
        '{start:8.2f} - {end:8.2f} s  {source} #{segment}  '.format(**segment) + text, flush=True
    )
