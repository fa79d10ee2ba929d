# SPDX-License-Identifier: Apache-2.0
"""Suites events and views-events: event detection by the whole stack with default settings.

A predicted event is a segment's start with its final text, as printed by `vljepa annotate`. A true
event is the start of an annotation; consecutive annotations of the same concept are merged. The
start of a stream is neither a predicted nor a true event. Events match one-to-one within
`WITHIN_S`; the labeled F1 counts correct sentences only. A false event at rest
starts while the arm is at rest and matches no true start. The start of an act with a hidden object
is not a true event, and a predicted event that matches only such a start is not counted.

Suite views-events is the same evaluation on streams with cameras of the wide distribution, one
camera per stream, with a target for the labeled F1 only.

The baselines `uniform` and `motion energy` (the highest peaks of the difference between frames)
predict as many events as our model. Their texts are decoded by our Y-Decoder from the first hop
whose newest frame is not before the event. The oracle has the true starts and decodes the true
concepts. The vision-blind baseline predicts one fixed sentence at our times. A delay is the time
from the true start to the stamp at which the segment's first text was published, for events that
match in their final texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import blind_text, decoder_of, oracle_texts
from vljepa_ros.evaluate.matching import Counts, f1, f1_draws, match, near
from vljepa_ros.evaluate.moments import hidden_rows, is_known
from vljepa_ros.evaluate.motion import motion_of
from vljepa_ros.evaluate.outcomes import f1_outcomes
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.segments import DetectedSegment, merged, run_stack
from vljepa_ros.evaluate.statistics import more, quantile, redrawn
from vljepa_ros.evaluate.stream_embeddings import StreamEmbeddings

WITHIN_S = 1.0
OURS, ORACLE, UNIFORM, MOTION, BLIND = 'ours', 'oracle', 'uniform', 'motion energy', 'blind'
SOURCES = (OURS, ORACLE, UNIFORM, MOTION, BLIND)
FIRST_TEXTS = 'ours, first texts'
LABELLED, BOUNDARIES, AT_REST = 'F1: labeled', 'F1: boundaries', 'false events per minute at rest'
F1_ROWS = (LABELLED, BOUNDARIES)
TARGETS = {LABELLED: 0.70, BOUNDARIES: 0.85}
VIEWS_TARGETS = {LABELLED: 0.65}
MARGIN_TARGET = 0.10  # minimum margin over the simple baselines
DELAYS = {'delay to the text, p50 (s)': 0.5, 'delay to the text, p90 (s)': 0.9}
REST = 'rest'  # the phase


@dataclass(frozen=True)
class TextEvent:
    """Event with its text, `at_s` seconds from the start of the stream."""

    at_s: float
    text: str


@dataclass(frozen=True)
class StreamEvents:
    """Merged annotations of a stream, and the events that the model and each baseline predict.

    `segments`: segments detected by the model, except the first. `predicted`: events by name of
    the model or baseline.
    """

    name: str
    annotations: list[Annotation]
    segments: tuple[DetectedSegment, ...]
    predicted: dict[str, list[TextEvent]]
    concepts: ConceptSet

    @property
    def true_events(self) -> list[Annotation]:
        """Return the true events: annotations of visible objects, except the first one."""
        return [item for item in self.annotations[1:] if not item.hidden]

    @property
    def starts_s(self) -> list[float]:
        """Return the times of the true events, in seconds from the start of the stream."""
        return [item.start for item in self.true_events]

    @property
    def hidden_s(self) -> list[float]:
        """Return the start times (s) of annotations with hidden objects, except the first one."""
        return [item.start for item in self.annotations[1:] if item.hidden]


def events(context: Context) -> Report:
    """Return F1 and false events at rest of the model and baselines, and the model's delay."""
    return _report(context, 'events', TARGETS, MARGIN_TARGET)


def views_events(context: Context) -> Report:
    """Return the metrics of `events` for streams with cameras of the wide distribution."""
    return _report(context, 'views-events', VIEWS_TARGETS, None)


def _report(
    context: Context, suite: str, targets: Mapping[str, float], margin_target: float | None
) -> Report:
    streams = [s for s in context.streams if is_known(s, context.concepts.tasks)]
    if not streams:
        return Report(suite, (), ('These streams have no events of known tasks.',))
    found = context.map(collect, streams, 'streams')
    first = count(found, FIRST_TEXTS, labeled=True)
    rows = [
        *(row for who in SOURCES for row in figures(found, who, targets if who == OURS else {})),
        Row(FIRST_TEXTS, LABELLED, f1(first, [stream.name for stream in found])),
        *(row for who in (UNIFORM, MOTION) for row in compare(found, who, margin_target)),
        *delays(found),
        *hidden_rows(streams, context.concepts.train_tasks),
    ]
    total = sum(len(stream.segments) for stream in found)
    notes = (
        f'{len(found)} streams; {total} predicted events. A predicted and a true event match if '
        f'they are at most {WITHIN_S:g} s apart; the start of a stream is not an event.',
        'Delays are differences of stamps: they do not include compute time.',
    )
    return Report(suite, tuple(rows), notes)


def collect(context: Context, stream: Stream) -> StreamEvents:
    """Return the annotations of a stream and the events of the model and each baseline."""
    annotations, output = merged(stream.annotations), run_stack(context, stream)
    ours, true = output.segments[1:], [item for item in annotations[1:] if not item.hidden]
    starts_s = [segment.start_s for segment in ours]
    oracle = oracle_texts(context, [item.meaning for item in true])
    spread = evenly(len(ours), annotations[-1].end)
    moved = motion_of(stream).moments(len(ours))
    predicted = {
        OURS: text_events(starts_s, [segment.text for segment in ours]),
        FIRST_TEXTS: text_events(starts_s, [segment.first_text for segment in ours]),
        ORACLE: text_events([item.start for item in true], oracle),
        UNIFORM: decoded_events(context, output.hops, spread),
        MOTION: decoded_events(context, output.hops, moved),
        BLIND: text_events(starts_s, [blind_text(context)] * len(ours)),
    }
    return StreamEvents(stream.name, annotations, ours, predicted, context.concepts)


def text_events(at_s: Sequence[float], texts: Sequence[str]) -> list[TextEvent]:
    """Return one event per pair of time (s) and text."""
    return [TextEvent(at, text) for at, text in zip(at_s, texts, strict=True)]


def evenly(count: int, length_s: float) -> list[float]:
    """Return `count` times that divide `length_s` into equal segments."""
    return [length_s * (i + 1) / (count + 1) for i in range(count)]


def decoded_events(
    context: Context, hops: StreamEmbeddings, at_s: Sequence[float]
) -> list[TextEvent]:
    """Return events at times `at_s`, with the decoded text of the first hop at or after each."""
    return text_events(
        at_s, decoder_of(context).texts(hops.vectors[hops.not_before(at_s)]) if at_s else []
    )


def figures(found: Sequence[StreamEvents], who: str, targets: Mapping[str, float]) -> list[Row]:
    """Return the F1 and the rate of false events at rest of the model or baseline `who`."""
    rows, names = [], [stream.name for stream in found]
    for what in F1_ROWS:
        counts = count(found, who, what == LABELLED)
        outcomes = f1_outcomes(counts, names) if who == OURS else None
        rows.append(Row(who, what, f1(counts, names), targets.get(what), outcomes=outcomes))
    return [*rows, at_rest(found, who)]


def compare(found: Sequence[StreamEvents], who: str, target: float | None) -> list[Row]:
    """Return the model's margins over the baseline `who` in labeled F1 and in boundary F1."""
    rows, names = [], [stream.name for stream in found]
    for what in F1_ROWS:
        ours, other = (
            f1_draws(count(found, name, what == LABELLED), names) for name in (OURS, who)
        )
        rows.append(Row(f'{OURS} - {who}', what, more(ours, other), target))
    return rows


def count(found: Sequence[StreamEvents], who: str, labeled: bool) -> Counts:
    """Return the numbers of matched, predicted and true events of S streams (S, 3)."""
    rows = []
    for stream in found:
        pairs = matches(stream, who, labeled)
        predicted = len(stream.predicted[who]) - len(of_hidden(stream, who, pairs))
        rows.append((len(pairs), predicted, len(stream.starts_s)))
    return np.array(rows, float)


def of_hidden(stream: StreamEvents, who: str, pairs: Sequence[tuple[int, int]]) -> set[int]:
    """Return indices of unmatched predictions that match an act whose object is hidden."""
    predicted, matched = stream.predicted[who], {i for i, _ in pairs}
    rest = [i for i in range(len(predicted)) if i not in matched]
    options = near([predicted[i].at_s for i in rest], stream.hidden_s, WITHIN_S)
    return {rest[i] for i, _ in match(options)}


def matches(stream: StreamEvents, who: str, labeled: bool) -> list[tuple[int, int]]:
    """Return index pairs (predicted, true) of events at most `WITHIN_S` apart.

    If `labeled` is true, the predicted text must express the true concept.
    """
    predicted, true = stream.predicted[who], stream.true_events
    options = near([event.at_s for event in predicted], stream.starts_s, WITHIN_S)
    if labeled:
        expresses = stream.concepts.expresses
        options = [
            [j for j in row if expresses(true[j].meaning, event.text)]
            for row, event in zip(options, predicted, strict=True)
        ]
    return match(options)


def at_rest(found: Sequence[StreamEvents], who: str) -> Row:
    """Return the row of false events per minute of rest; its `count` is their number."""
    rests = [(stream.name, rest) for stream in found for rest in false_at_rest(stream, who)]
    counts = np.array([rest for _, rest in rests], float).reshape(-1, 2)

    def figure(weight: NDArray[np.float64]) -> float:
        false, minutes = weight @ counts
        return float(false / minutes) if minutes else float('nan')

    rate = redrawn(figure, [name for name, _ in rests]).interval()
    return Row(who, AT_REST, replace(rate, count=int(counts[:, 0].sum())))


def false_at_rest(stream: StreamEvents, who: str) -> list[tuple[int, float]]:
    """Return, for each period of rest, the number of false events and its length in minutes."""
    pairs = matches(stream, who, labeled=False)
    excluded = {i for i, _ in pairs} | of_hidden(stream, who, pairs)
    false = [e.at_s for i, e in enumerate(stream.predicted[who]) if i not in excluded]
    return [
        (sum(item.start <= at < item.end for at in false), (item.end - item.start) / 60)
        for item in stream.annotations
        if item.phase == REST
    ]


def delays(found: Sequence[StreamEvents]) -> list[Row]:
    """Return the median and the 90th percentile of the model's delay to the first text (s)."""
    pairs = [
        (stream.name, stream.segments[predicted].first_text_s - stream.starts_s[true])
        for stream in found
        for predicted, true in matches(stream, OURS, labeled=True)
    ]
    streams, after_s = [name for name, _ in pairs], [delay_s for _, delay_s in pairs]
    return [
        Row(OURS, what, redrawn(partial(quantile, after_s, share), streams).interval())
        for what, share in DELAYS.items()
    ]
