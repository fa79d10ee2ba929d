# SPDX-License-Identifier: Apache-2.0
"""`vljepa ask SOURCE PROMPT`: answer a question about a recording, a span or a moment of it.

Without a time, and for a span, every attention window is asked, as `query` does about the past:
yes where it ever was so, the sentences of one after the other. --at is what a live stack answers
when it has seen the recording up to there.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vljepa_ros.cli import common
from vljepa_ros.cli.spans import Span, add_span_arguments, check_reached, read_span
from vljepa_ros.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.sources import Source
    from vljepa_ros.stream.interfaces import Model
    from vljepa_ros.stream.types import Answer, Embedding, Seen


WHY = {
    'LOW_CONFIDENCE': 'the confidence is too low',
    'UNANSWERABLE': 'what the camera shows does not answer the question',
    'UNFAMILIAR': 'the scene is unfamiliar to the model',
    'UNREADABLE': 'the model cannot read the question or its candidates',
    'NOT_SEEN': 'too little of the span was evaluated for this question',
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    common.add_source_arguments(parser)
    parser.add_argument('prompt', metavar='PROMPT', help='the question')
    parser.add_argument(
        '--candidate',
        action='append',
        default=[],
        metavar='C',
        help='an answer to choose from; may be repeated',
    )
    add_span_arguments(parser, moment=True)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from vljepa_ros.stream.answers import check_question

    check_question(args.prompt, args.candidate)
    source = common.open_given(args, one_camera=True)
    span = read_span(args, source.start_ns)
    answer = answer_of(common.load_model(args), source, args.prompt, args.candidate, span)
    stamp = common.seconds(answer.stamp_ns, source.start_ns)
    ranked = [(c.text, float(c.score)) for c in answer.ranked]
    if args.json:
        common.print_json(
            {
                'answer': answer.answer,
                'confidence': float(answer.confidence),
                'abstained': answer.abstained,
                'ranked': [{'text': text, 'score': score} for text, score in ranked],
                'stamp': stamp,
                **({'nearest': True} if answer.nearest else {}),
                **common.abstention(answer.abstain_reason),
            }
        )
    else:
        doubt = f', abstained: {WHY[answer.abstain_reason.name]}' if answer.abstained else ''
        print(f'{answer.answer}  ({answer.confidence:.2f}{doubt}, at {stamp:.2f} s)')
        common.print_ranked(ranked)
    return 0


def answer_of(
    model: Model, source: Source, prompt: str, candidates: list[str], span: Span
) -> Answer:
    """Look at the span, then answer as `query` does. Raises InputError where it holds no hop."""
    from vljepa_ros.stream.answers import Answerer

    found = look(model, source, prompt, span)
    if not found:
        raise InputError(f'{source.path}: the model has seen too little to answer there')
    assert model.language is not None
    answerer = Answerer(model.language)
    if span.moment:
        return answerer.answer(prompt, found[-1].vector, found[-1].stamp_ns, candidates)
    seen = windows(found, model.facts.window_tubelets)
    return answerer.recount(prompt, found[-1].key.source, seen, candidates)


def windows(found: list[Embedding], hops: int) -> list[Seen]:
    """The mean of each attention window of so many hops."""
    from vljepa_ros.stream.types import Seen
    from vljepa_ros.stream.vectors import pooled

    parts = [found[first : first + hops] for first in range(0, len(found), hops)]
    return [
        Seen(part[0].stamp_ns, part[-1].stamp_ns, pooled([e.vector for e in part]))
        for part in parts
    ]


def look(model: Model, source: Source, prompt: str, span: Span) -> list[Embedding]:
    """The answer embeddings at the hops of a span; of a moment, the newest one."""
    from vljepa_ros.cli import watching
    from vljepa_ros.stream.perceiver import Perceiver
    from vljepa_ros.stream.settings import PerceptionSettings

    assert model.eyes is not None
    settings = PerceptionSettings(prompts=(prompt,))
    perceiver = Perceiver(model.eyes, settings)
    found: list[Embedding] = []
    newest_ns = 0
    for made in watching.hops(perceiver, source, settings.max_gap_ns, span.end_ns):
        for embedding in made:
            newest_ns = embedding.stamp_ns
            if span.moment:
                found = [embedding]
            elif not span.begins_after(embedding.stamp_ns):
                found.append(embedding)
    check_reached(source, span, newest_ns)
    return found
