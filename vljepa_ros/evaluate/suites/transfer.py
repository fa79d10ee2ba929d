# SPDX-License-Identifier: Apache-2.0
"""Suite transfer: evaluation in the kitchen, a scene that is absent from training.

A predicted event is the start of a segment, as printed by `vljepa annotate`, with its final text.
True events are the starts of annotations. The start of a stream is not an event. An event has at
most one label: `dark`, `covered`, `light back` (the first event after `dark`), `uncovered` (the
first event after `covered`), `open` or `close` (for the movement and the final state of a door; a
sentence may call the door a drawer of any color). The concepts of the kitchen define the
questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import numpy as np

from vljepa_ros.data.concepts import ANY, ConceptSet
from vljepa_ros.data.english import words
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import blind_text, oracle_texts
from vljepa_ros.evaluate.graded_answers import Given, abstained, answered, streams_of
from vljepa_ros.evaluate.matching import Counts, f1, pairs
from vljepa_ros.evaluate.outcomes import f1_outcomes
from vljepa_ros.evaluate.questions import Posed
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.segments import run_stack
from vljepa_ros.evaluate.statistics import mean
from vljepa_ros.evaluate.views import CONTEXT_S, middle

WITHIN_S = 1.0
DARK, COVERED, OPEN, CLOSE = 'dark', 'covered', 'open', 'close'
# State -> concepts that express it; for a door or a drawer, of its movement and its final state.
STATES = {
    DARK: (DARK,),
    COVERED: (COVERED,),
    **{
        way: tuple(
            f'{phase}:{thing}-{way}:{ANY}'
            for thing in ('door', 'drawer')
            for phase in ('act', 'done')
        )
        for way in (OPEN, CLOSE)
    },
}
BACK = {DARK: 'light back', COVERED: 'uncovered'}
KINDS = {
    'light': (DARK, BACK[DARK]),
    'cover': (COVERED, BACK[COVERED]),
    'open': (OPEN,),
    'close': (CLOSE,),
}
LABELS = tuple(label for labels in KINDS.values() for label in labels)
OURS, ORACLE, BLIND = 'ours', 'oracle', 'blind'


@dataclass(frozen=True)
class LabeledEvent:
    """Event `at_s` seconds from the stream's start; `label` is one of `LABELS`, or ''."""

    at_s: float
    label: str


Events = dict[str, list[list[LabeledEvent]]]  # source -> stream -> events


def transfer(context: Context) -> Report:
    """Return the F1 of labeled events and the abstention rates in the kitchen."""
    if not context.concepts.tasks:
        return Report('transfer', (), ('These streams have no concepts of the kitchen.',))
    true, predicted = events_by_source(context)
    names = [stream.name for stream in context.streams]
    rows = []
    for kind, labels in (*KINDS.items(), ('all', LABELS)):
        for who, events in predicted.items():
            counts = count(events, true, labels)
            outcomes = f1_outcomes(counts, names) if who == OURS else None
            rows.append(Row(who, f'labeled F1: {kind}', f1(counts, names), outcomes=outcomes))
    rows.append(Row(OURS, 'F1: boundaries', f1(count(predicted[OURS], true), names)))
    rows += abstentions(context)
    note = f'{len(names)} streams of an untrained scene; events match within {WITHIN_S:g} s.'
    return Report('transfer', tuple(rows), (note,))


def events_by_source(context: Context) -> tuple[list[list[LabeledEvent]], Events]:
    """Return the true events of each stream, and the events of the model and each baseline."""
    found = context.map(_events_of, context.streams, 'streams')
    return [true for true, _ in found], {
        who: [predicted[who] for _, predicted in found] for who in (OURS, ORACLE, BLIND)
    }


def _events_of(
    context: Context, stream: Stream
) -> tuple[list[LabeledEvent], dict[str, list[LabeledEvent]]]:
    starts = [item.start for item in stream.annotations]
    true = labeled_events(starts, [state_of(item.meaning) for item in stream.annotations])
    best = oracle_texts(context, [item.meaning for item in stream.annotations])
    segments = run_stack(context, stream).segments
    times = [segment.start_s for segment in segments]
    state = partial(state_in, context.concepts)
    return true, {
        OURS: labeled_events(times, [state(segment.text) for segment in segments]),
        ORACLE: labeled_events(starts, [state(text) for text in best]),
        BLIND: labeled_events(times, [state(blind_text(context))] * len(segments)),
    }


def state_of(concept: str) -> str:
    """Return the state of light, cover and doors in a concept: one of `STATES`, or ''."""
    return next((name for name, concepts in STATES.items() if concept in concepts), '')


@cache
def state_in(concepts: ConceptSet, text: str) -> str:
    """Return the state that a sentence describes apart from colors: one of `STATES`, or ''."""
    plain = ' '.join(word for word in words(text) if word not in concepts.colors)
    for name, expressed in STATES.items():
        if any(concepts.expresses(concept, plain, color=False) for concept in expressed):
            return name
    return ''


def labeled_events(starts_s: Sequence[float], states: Sequence[str]) -> list[LabeledEvent]:
    """Return the events of a sequence of states; the first state is not an event.

    The first event after `dark` or `covered` is `light back` or `uncovered`.
    """
    return [
        LabeledEvent(at_s, now if now in BACK else BACK.get(before, now))
        for at_s, (before, now) in zip(starts_s[1:], pairwise(states), strict=True)
    ]


def count(
    predicted: Sequence[Sequence[LabeledEvent]],
    true: Sequence[Sequence[LabeledEvent]],
    labels: Sequence[str] = (),
) -> Counts:
    """Return the numbers of matched, predicted and true events (S, 3) with one of `labels`.

    By default, all events count and labels are ignored.
    """
    rows = []
    for ours, theirs in zip(predicted, true, strict=True):
        row = np.zeros(3)
        for label in labels or (None,):
            one, other = _times(ours, label), _times(theirs, label)
            row += (pairs(one, other, WITHIN_S), len(one), len(other))
        rows.append(row)
    return np.array(rows)


def _times(events: Sequence[LabeledEvent], label: str | None) -> list[float]:
    return [event.at_s for event in events if label is None or event.label == label]


def abstentions(context: Context) -> list[Row]:
    """Return abstention rates on unanswerable and answerable questions, and accuracy."""
    posed = pose(context.concepts, context.streams)
    if not posed:
        return []
    rows = []
    for who, given in answered(context, posed).items():
        unanswerable = [g for g in given if g.reason]
        answerable = [g for g in given if not g.reason]
        rows += abstained(who, 'unanswerable', unanswerable)
        for kind in ('colour', 'state'):
            part = [g for g in unanswerable if g.posed.question.topic == kind]
            rows += abstained(who, f'unanswerable, {kind}', part)
        rows += [*abstained(who, 'answerable', answerable), _right(who, answerable)]
    return rows


def pose(concepts: ConceptSet, streams: Sequence[Stream]) -> list[Posed]:
    """Return questions about the middle of every annotation, in held-out paraphrases."""
    rng = np.random.default_rng(0)
    return [
        Posed(stream, item, middle(item), question)
        for stream in streams
        for item in stream.annotations
        if middle(item) >= CONTEXT_S
        for question in concepts.questions(item, rng, 'heldout')
    ]


def _right(who: str, part: Sequence[Given]) -> Row:
    """Return the accuracy with equal weight of each (topic, true answer)."""
    groups = [(g.posed.question.topic, g.posed.question.meaning) for g in part]
    right = mean([float(g.right) for g in part], groups, clusters=streams_of(part))
    return Row(who, 'accuracy: answerable, yes and no balanced', right)
