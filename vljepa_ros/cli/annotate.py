# SPDX-License-Identifier: Apache-2.0
"""`vljepa annotate SOURCE`: describe a recording segment by segment in text.

With --json, each segment is one line with a JSON object: source, segment, start, end, text,
confidence. Times are in seconds from the start of the source. "nearest": true marks a text from
the model's sentence bank. "abstained": true and "abstain_reason": "unfamiliar" mark a scene that
is unfamiliar to the model; its text is withheld ("", confidence 0). Each segment is printed with
its final text when it ends. With --offline, all segments are printed at the end. With several
prompts, each segment has the key "prompt".
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vljepa_ros.cli import common
from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.core.types import Event


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa annotate`."""
    common.add_source_arguments(parser)
    parser.add_argument(
        '--prompt',
        action='append',
        help="the question that every embedding answers; may be repeated (default: 'What is "
        "happening?')",
    )
    parser.add_argument(
        '--out',
        type=common.path,
        metavar='BAG',
        help='also write a copy of the bag with the topics /vljepa/semantic_embedding, '
        '/vljepa/semantic_change and /vljepa/text_event',
    )
    parser.add_argument(
        '--vtt',
        type=common.path,
        metavar='FILE',
        help='also write the texts as subtitles (WebVTT)',
    )
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
    from vljepa_ros.cli import annotated_bag, offline_run
    from vljepa_ros.core.settings import SegmenterSettings, Settings
    from vljepa_ros.core.types import State
    from vljepa_ros.pipeline import Pipeline
    from vljepa_ros.stream.offline_segmenter import OfflineSegmenter

    if args.out is not None:
        if args.offline:
            raise InputError('--out cannot be combined with --offline, which has no changes')
        annotated_bag.check_new(args.out, args.source)
    segmentation = SegmenterSettings(events_per_minute=args.events_per_minute)
    perception = common.perception_settings(args, tuple(args.prompt or ()))
    settings = Settings(perception, segmentation)
    offline = OfflineSegmenter(segmentation, 'offline') if args.offline else None
    source = common.open_given(args)
    pipeline = Pipeline(common.load_model(args), settings, segmenter=offline)
    outputs: list[annotated_bag.Output] = []
    events: list[Event] = []
    for event in offline_run.events(pipeline, source, True, outputs if args.out else None):
        events.append(event)
        if event.state is State.ENDED:
            segment = as_json(event, source.start_ns, len(settings.perception.prompts) > 1)
            show(segment, args.json, pipeline.model.facts.name)
    if not events:
        common.note_unseen(source)
    if args.vtt is not None:
        args.vtt.write_text(annotated_bag.webvtt(events, source.start_ns), encoding='utf-8')
    if args.out is not None:
        count = annotated_bag.write(args.out, source, [*outputs, *events])
        common.note(f'{args.out}: {count} messages added')
    return 0


def as_json(event: Event, start_ns: int, with_prompt: bool = False) -> dict[str, Any]:
    """Return the JSON object of a segment.

    Args:
        event: The ended segment.
        start_ns: Start of the source.
        with_prompt: Whether to include the prompt.
    """
    return {
        'source': event.key.source,
        **({'prompt': event.key.prompt} if with_prompt else {}),
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
