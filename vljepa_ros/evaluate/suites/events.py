# SPDX-License-Identifier: Apache-2.0
"""Suites events and views-events: event detection by the whole stack with default settings.

A predicted event is a segment's start with its final text, as printed by `vljepa annotate`.
Neighboring annotations of the same concept are merged. The start of a stream is not an event,
neither of the annotations nor of any source. Events match one-to-one within `WITHIN_S`; the
labeled F1 counts correct sentences only. A false event at rest starts while the arm is at rest and
matches no true start. The start of a hidden act (its object is not visible) is not a true event,
and a predicted event that matches only such a start is not counted.

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
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.simulators.mwstream.meanings import is_right
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import blind_text, oracle_texts, words_of
from vljepa_ros.evaluate.matching import Counts, f1, f1_draws, match, near
from vljepa_ros.evaluate.moments import hidden_rows, is_known
from vljepa_ros.evaluate.motion import motion_of
from vljepa_ros.evaluate.outcomes import f1_outcomes
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.segments import Segment, merged, watch
from vljepa_ros.evaluate.statistics import more, quantile, redrawn
from vljepa_ros.evaluate.stream_embeddings import Hops

WITHIN_S = 1.0
OURS, ORACLE, UNIFORM, MOTION, BLIND = 'ours', 'oracle', 'uniform', 'motion energy', 'blind'
SPEAKERS = (OURS, ORACLE, UNIFORM, MOTION, BLIND)
FIRST_WORDS = 'ours, first words'
LABELLED, BOUNDARIES, AT_REST = 'F1: labelled', 'F1: boundaries', 'false events a minute at rest'
F1_ROWS = (LABELLED, BOUNDARIES)
MARKS = {LABELLED: 0.70, BOUNDARIES: 0.85}
VIEWS_MARKS = {LABELLED: 0.65}
MORE_MARK = 0.10  # minimum margin over the simple baselines
DELAYS = {'delay to the text, p50 (s)': 0.5, 'delay to the text, p90 (s)': 0.9}
REST = 'rest'  # the phase


@dataclass(frozen=True)
class Said:
    """Event with its text, `at_s` from the stream's start."""

    at_s: float
    text: str


@dataclass(frozen=True)
class Heard:
    """One stream: merged annotations, our segments except the first, events of each source."""

    name: str
    truths: list[Annotation]
    segments: tuple[Segment, ...]
    said: dict[str, list[Said]]

    @property
    def true(self) -> list[Annotation]:
        """Return the true events: annotations of visible objects, except the first one."""
        return [item for item in self.truths[1:] if not item.hidden]

    @property
    def starts_s(self) -> list[float]:
        """Return the start times of the true events."""
        return [item.start for item in self.true]

    @property
    def hidden_s(self) -> list[float]:
        """Return the start times of the events with hidden objects."""
        return [item.start for item in self.truths[1:] if item.hidden]


def events(context: Context) -> Report:
    """Evaluate F1 of all sources, false events at rest, and our delay."""
    return _report(context, 'events', MARKS, MORE_MARK)


def views_events(context: Context) -> Report:
    """Evaluate `events` on streams with cameras of the wide distribution."""
    return _report(context, 'views-events', VIEWS_MARKS, None)


def _report(
    context: Context, suite: str, marks: Mapping[str, float], more_mark: float | None
) -> Report:
    streams = [s for s in context.streams if is_known(s)]
    if not streams:
        return Report(suite, (), ('These streams have no events of known tasks.',))
    heard = context.map(hear, streams, 'streams')
    first = count(heard, FIRST_WORDS, labelled=True)
    rows = [
        *(row for who in SPEAKERS for row in figures(heard, who, marks if who == OURS else {})),
        Row(FIRST_WORDS, LABELLED, f1(first, [h.name for h in heard])),
        *(row for who in (UNIFORM, MOTION) for row in compare(heard, who, more_mark)),
        *delays(heard),
        *hidden_rows(streams, TRAIN_TASKS),
    ]
    said = sum(len(h.segments) for h in heard)
    notes = (
        f'{len(heard)} streams; {said} predicted events. They match within {WITHIN_S:g} s; the '
        'start of a stream is not an event.',
        "Delays are differences of stamps: compute time, including the Y-Decoder's, does not "
        'count.',
    )
    return Report(suite, tuple(rows), notes)


def hear(context: Context, stream: Stream) -> Heard:
    """Return the events of all sources for a stream."""
    truths, watched = merged(stream.annotations), watch(context, stream)
    ours, true = watched.segments[1:], [item for item in truths[1:] if not item.hidden]
    starts_s = [segment.start_s for segment in ours]
    oracle = oracle_texts(context, [item.meaning for item in true])
    spread = evenly(len(ours), truths[-1].end)
    moved = motion_of(stream).moments(len(ours))
    found = {
        OURS: said(starts_s, [segment.text for segment in ours]),
        FIRST_WORDS: said(starts_s, [segment.first_text for segment in ours]),
        ORACLE: said([item.start for item in true], oracle),
        UNIFORM: in_words(context, watched.hops, spread),
        MOTION: in_words(context, watched.hops, moved),
        BLIND: said(starts_s, [blind_text(context)] * len(ours)),
    }
    return Heard(stream.name, truths, ours, found)


def said(at_s: Sequence[float], texts: Sequence[str]) -> list[Said]:
    """Combine times and texts to events."""
    return [Said(at, text) for at, text in zip(at_s, texts, strict=True)]


def evenly(count: int, length_s: float) -> list[float]:
    """Return the starts of `count` + 1 equal segments, except the first."""
    return [length_s * (i + 1) / (count + 1) for i in range(count)]


def in_words(context: Context, hops: Hops, at_s: Sequence[float]) -> list[Said]:
    """Return events at these times with texts decoded from the embeddings at these times."""
    return said(at_s, words_of(context).say(hops.vectors[hops.not_before(at_s)]) if at_s else [])


def figures(heard: Sequence[Heard], who: str, marks: Mapping[str, float]) -> list[Row]:
    """Return the F1 and the false events of one source."""
    rows, names = [], [h.name for h in heard]
    for what in F1_ROWS:
        counts = count(heard, who, what == LABELLED)
        outcomes = f1_outcomes(counts, names) if who == OURS else None
        rows.append(Row(who, what, f1(counts, names), marks.get(what), outcomes=outcomes))
    return [*rows, at_rest(heard, who)]


def compare(heard: Sequence[Heard], who: str, mark: float | None) -> list[Row]:
    """Return the margin of our F1 over a simple baseline's."""
    rows, names = [], [h.name for h in heard]
    for what in F1_ROWS:
        ours, other = (
            f1_draws(count(heard, name, what == LABELLED), names) for name in (OURS, who)
        )
        rows.append(Row(f'{OURS} - {who}', what, more(ours, other), mark))
    return rows


def count(heard: Sequence[Heard], who: str, labelled: bool) -> Counts:
    """Count matched, predicted and true events (S, 3)."""
    rows = []
    for h in heard:
        pairs = matches(h, who, labelled)
        said = len(h.said[who]) - len(of_hidden(h, who, pairs))
        rows.append((len(pairs), said, len(h.starts_s)))
    return np.array(rows, float)


def of_hidden(heard: Heard, who: str, pairs: Sequence[tuple[int, int]]) -> set[int]:
    """Return the predicted events without a pair that match the start of a hidden act."""
    matched = {said for said, _ in pairs}
    rest = [i for i in range(len(heard.said[who])) if i not in matched]
    options = near([heard.said[who][i].at_s for i in rest], heard.hidden_s, WITHIN_S)
    return {rest[i] for i, _ in match(options)}


def matches(heard: Heard, who: str, labelled: bool) -> list[tuple[int, int]]:
    """Return pairs (predicted, true) within the time; `labelled`: of correct sentences only."""
    said = heard.said[who]
    options = near([event.at_s for event in said], heard.starts_s, WITHIN_S)
    if labelled:
        options = [
            [j for j in row if right(heard.true[j].meaning, event.text)]
            for row, event in zip(options, said, strict=True)
        ]
    return match(options)


@cache
def right(meaning: str, text: str) -> bool:
    """Return whether a sentence is correct."""
    return is_right(meaning, text)


def at_rest(heard: Sequence[Heard], who: str) -> Row:
    """Return false events per minute over all rests; its count is the number of events."""
    rests = [(h.name, rest) for h in heard for rest in false_at_rest(h, who)]
    found = np.array([rest for _, rest in rests], float).reshape(-1, 2)

    def figure(weight: NDArray[np.float64]) -> float:
        false, minutes = weight @ found
        return float(false / minutes) if minutes else float('nan')

    rate = redrawn(figure, [name for name, _ in rests]).interval()
    return Row(who, AT_REST, replace(rate, count=int(found[:, 0].sum())))


def false_at_rest(heard: Heard, who: str) -> list[tuple[int, float]]:
    """Return the number of false events and the length in minutes of each rest."""
    pairs = matches(heard, who, labelled=False)
    known = {said for said, _ in pairs} | of_hidden(heard, who, pairs)
    false = [e.at_s for i, e in enumerate(heard.said[who]) if i not in known]
    return [
        (sum(item.start <= at < item.end for at in false), (item.end - item.start) / 60)
        for item in heard.truths
        if item.phase == REST
    ]


def delays(heard: Sequence[Heard]) -> list[Row]:
    """Return median and 90th percentile of the delay to the text."""
    found = [
        (h.name, h.segments[said].heard_s - h.starts_s[true])
        for h in heard
        for said, true in matches(h, OURS, labelled=True)
    ]
    streams, after_s = [name for name, _ in found], [delay_s for _, delay_s in found]
    return [
        Row(OURS, what, redrawn(partial(quantile, after_s, share), streams).interval())
        for what, share in DELAYS.items()
    ]
