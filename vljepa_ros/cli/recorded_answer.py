# SPDX-License-Identifier: Apache-2.0
"""Answers to questions about a recording, by the same rules as the service `query`.

For a long span, the service evaluates only some windows of the stored frames: at the ends of
segments, at the newest hop, and at equal distances. Here, every attention window of the span is
evaluated.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from vljepa_ros.cli import offline_run
from vljepa_ros.cli.time_spans import Span, check_reached
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.settings import PerceptionSettings
from vljepa_ros.core.types import Answer, Embedding, EvaluatedSpan
from vljepa_ros.core.vectors import as_sent, pooled
from vljepa_ros.query.answerer import Answerer
from vljepa_ros.query.question import Question
from vljepa_ros.query.service import Evaluated, QueryService
from vljepa_ros.sources import Source
from vljepa_ros.stream.perceiver import Perceiver

MAX_GAP_S = PerceptionSettings().max_gap_s


class RecordedHop(NamedTuple):
    """One hop of the recording: the stamp of its oldest frame, and its embedding."""

    start_ns: int
    embedding: Embedding


def answer_of(
    model: Model,
    source: Source,
    prompt: str,
    candidates: list[str],
    span: Span,
    max_gap_s: float = MAX_GAP_S,
) -> Answer:
    """Answer a question about a recording.

    Args:
        model: Model with both sides.
        source: The recording, of one camera.
        prompt: The question.
        candidates: Possible answers; empty for a generated text.
        span: Span or moment that the question is about.
        max_gap_s: A longer gap between frames, in seconds, resets the stream.

    Raises:
        InputError: The question is invalid, or there is no hop in the recording or span.
    """
    hops = evaluate(model, source, prompt, span, max_gap_s)
    if not hops:
        raise InputError(
            f'{source.path}: too few images for an answer about the requested time; if they are '
            f'more than {max_gap_s:g} s apart, raise --max-gap'
        )
    newest = hops[-1].embedding

    def looks(_: Question) -> Evaluated:
        if span.moment:
            start_ns, end_ns = newest.window_start_ns, newest.stamp_ns
            return newest.key.source, [
                EvaluatedSpan(start_ns, end_ns, newest.vector, unfamiliar=newest.unfamiliar)
            ]
        return newest.key.source, windows(hops, model.facts.window_tubelets)

    assert model.language is not None
    question = Question(prompt, tuple(candidates))
    if not span.moment:  # until the newest hop of the span
        question = replace(question, start_ns=span.start_ns or 0, end_ns=newest.stamp_ns)
    return QueryService(Answerer(model.language)).ask(question, looks)


def windows(hops: list[RecordedHop], length: int) -> list[EvaluatedSpan]:
    """Split hops into attention windows, and return each window with its pooled vector.

    Args:
        hops: Hops in order of time.
        length: Maximum number of hops per window. A window also ends at a state reset.
    """
    runs = [list(run) for _, run in groupby(hops, lambda hop: hop.embedding.reset_count)]
    parts = [run[first : first + length] for run in runs for first in range(0, len(run), length)]
    return [
        EvaluatedSpan(
            part[0].start_ns,
            part[-1].embedding.stamp_ns,
            pooled([hop.embedding.vector for hop in part]),
            unfamiliar=as_sent(np.mean([hop.embedding.unfamiliar for hop in part])),
        )
        for part in parts
    ]


def evaluate(
    model: Model, source: Source, prompt: str, span: Span, max_gap_s: float = MAX_GAP_S
) -> list[RecordedHop]:
    """Process a recording; return the hops of a span, or the newest hop up to a moment.

    The embeddings of the hops answer `prompt`.

    Raises:
        InputError: The span begins after the end of the recording.
    """
    assert model.vision is not None
    settings = PerceptionSettings(prompts=(prompt,), max_gap_s=max_gap_s)
    # An unreadable question is an abstention, not an error.
    perceiver = Perceiver(model.vision, settings, check_readable=False)
    found: list[RecordedHop] = []
    newest_ns = 0
    for [embedding] in offline_run.hops(perceiver, source, settings.max_gap_ns, span.end_ns):
        newest_ns = embedding.stamp_ns
        hop = RecordedHop(perceiver.hop_start_ns(embedding.key.source), embedding)
        if span.moment:
            found = [hop]
        elif not span.begins_after(embedding.stamp_ns):
            found.append(hop)
    check_reached(source, span, newest_ns)
    return found
