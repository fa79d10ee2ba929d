# SPDX-License-Identifier: Apache-2.0
"""Measure how often verdicts of `vljepa check` are wrong, on a sample bag with ground truth.

    tools/clean_env.sh .venv/bin/python benchmarks/expectations.py samples/bench

For each annotated span, several expectations are made whose right verdict is known: its sentence
must be seen within a few seconds of its start, and must never be seen where it is not annotated;
sentences of other spans must not be seen within a few seconds (right verdict: broken), and
sentences of this span are seen (a "never" that is broken). Spans of one concept in a row are
merged.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import run, show

from vljepa_ros.cli.common import add_model_arguments, load_model
from vljepa_ros.cli.event_grading import TrueEvent, read_true_events
from vljepa_ros.cli.main import Parser
from vljepa_ros.data import concepts
from vljepa_ros.expectations import Expectations, Verdict, judge_all, watch
from vljepa_ros.expectations.spec import Expectation, Never, Within, describe
from vljepa_ros.sources import open_source

BEFORE_S, WITHIN_S = 1.5, 3.0
HELD_OUT = 'heldout'  # paraphrases that the model was not trained on
APART_S = 4.0  # from spans with the same concept, for sentences that must not be seen


def expectations(events: Sequence[TrueEvent]) -> Iterator[tuple[Expectation, Verdict]]:
    """Yield expectations with their right verdicts."""
    for event in events:
        after = max(0.0, event.start - BEFORE_S)
        for text in concepts.named().sentences(event.meaning, HELD_OUT)[:5]:
            seen = Within(text, after, event.start - after + WITHIN_S)
            yield _made(seen), Verdict.HOLDS
            yield _made(Never(text, event.start, event.end)), Verdict.BROKEN
            for start, end in gaps(events, event.meaning):
                yield _made(Never(text, start, end)), Verdict.HOLDS
                yield _made(Within(text, start, end - start)), Verdict.BROKEN


def gaps(events: Sequence[TrueEvent], meaning: str) -> list[tuple[float, float]]:
    """Return up to three spans of other concepts, far from all spans with a concept."""
    own = [event for event in events if event.meaning == meaning]
    found = [
        (event.start, event.end)
        for event in events
        if all(event.end + APART_S < o.start or event.start > o.end + APART_S for o in own)
    ]
    return found[:: max(1, len(found) // 3)][:3]


def _made(kind: Within | Never) -> Expectation:
    return Expectation(kind, describe(kind))


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('sample', type=Path, help='folder of a bag with ground_truth.json')
    add_model_arguments(parser)
    args = parser.parse_args()
    cases = list(expectations(read_true_events(args.sample)))
    model = load_model(args)
    expected = Expectations(args.sample / 'ground_truth.json', tuple(item for item, _ in cases))
    began_s = time.monotonic()
    results = judge_all(expected, watch(model, open_source(args.sample), expected))
    seconds = time.monotonic() - began_s
    count: Counter[str] = Counter()
    for result, (_, right) in zip(results, cases, strict=True):
        kind = type(result.expectation.kind).__name__.lower()
        outcome = 'right' if result.verdict is right else 'wrong'
        outcome = 'cannot tell' if result.verdict is Verdict.CANNOT_TELL else outcome
        count[f'{kind}, must be {right.value}: {outcome}'] += 1
        count[outcome] += 1
    shares: dict[str, Any] = {key: count[key] / len(cases) for key in ('wrong', 'cannot tell')}
    found = {'expectations': len(cases), **shares, 'seconds': seconds, 'counts': dict(count)}
    table = '\n'.join(
        [f'{len(cases)} expectations in {seconds:.0f} s']
        + [f'{key:40} {value:.1%}' for key, value in shares.items()]
        + [f'    {key:45} {value}' for key, value in sorted(count.items())]
    )
    show(args, model.facts, found, table)


if __name__ == '__main__':
    sys.exit(run(main))
