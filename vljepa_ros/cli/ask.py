# SPDX-License-Identifier: Apache-2.0
"""`vljepa ask SOURCE PROMPT`: answer a question about a recording, a span or a moment of it.

Every attention window of the recording, or of the span of --from and --to, is evaluated, as by the
service `query` for a question about the past: a yes/no question is answered yes if the answer was
yes in any window, and an open question by the sentences of the windows in order of time. --at
gives the answer of a live stack that has processed the recording up to that time.
"""

from __future__ import annotations

import argparse

from vljepa_ros.cli import common
from vljepa_ros.cli.time_spans import add_span_arguments, read_span


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vljepa ask`."""
    common.add_source_arguments(parser)
    parser.add_argument('prompt', metavar='PROMPT', help='the question to answer')
    parser.add_argument(
        '--candidate',
        action='append',
        default=[],
        metavar='C',
        help='a possible answer to choose from; may be repeated',
    )
    add_span_arguments(parser, moment=True)
    common.add_max_gap_argument(parser)
    common.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `vljepa ask` and return its exit status."""
    from vljepa_ros.cli.recorded_answer import answer_of
    from vljepa_ros.query.question import Question

    Question(args.prompt, tuple(args.candidate)).check()
    source = common.open_given(args, one_camera=True)
    span = read_span(args, source.start_ns)
    max_gap_s = common.perception_settings(args).max_gap_s
    model = common.load_model(args)
    answer = answer_of(model, source, args.prompt, args.candidate, span, max_gap_s)
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
                **({'message': answer.message} if answer.message else {}),
            }
        )
    else:
        doubt = common.doubt(answer)
        print(f'{answer.answer}  ({answer.confidence:.2f}{doubt}, at {stamp:.2f} s)')
        common.print_ranked(ranked)
    return 0
