# SPDX-License-Identifier: Apache-2.0
"""Predicted embeddings (answers) of the vision side at many moments of streams, in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import AnnotationMoment
from vljepa_ros.evaluate.questions import Posed, by_moment
from vljepa_ros.evaluate.views import Vectors, answers

PROMPT = 'What is going on?'  # a held-out paraphrase


@dataclass(frozen=True)
class Probe:
    """Prompts to answer at one time of a stream, `at_s` seconds from its start."""

    stream: Stream
    at_s: float
    prompts: tuple[str, ...]


def probe(context: Context, probes: Sequence[Probe], name: str) -> list[Vectors]:
    """Return the answer embeddings (P, D) to the P prompts of each probe; report progress."""
    return context.map(_answers, probes, name)


def caption(context: Context, found: Sequence[AnnotationMoment], name: str) -> Vectors:
    """Return the answer embeddings (N, D) to `PROMPT` at N moments; report progress."""
    seen = probe(context, [Probe(m.stream, m.at_s, (PROMPT,)) for m in found], name)
    return np.concatenate([np.zeros((0, context.vision.facts.embedding_dim), np.float32), *seen])


def ask(context: Context, posed: Sequence[Posed], name: str) -> Vectors:
    """Return the answer embeddings (N, D) to N questions; frames are encoded once per moment."""
    groups, probes = list(by_moment(posed).values()), list[Probe]()
    for rows in groups:
        prompts = tuple(dict.fromkeys(posed[i].question.prompt for i in rows))
        probes.append(Probe(posed[rows[0]].stream, posed[rows[0]].at_s, prompts))
    found = np.zeros((len(posed), context.vision.facts.embedding_dim), np.float32)
    for rows, item, vectors in zip(groups, probes, probe(context, probes, name), strict=True):
        found[rows] = vectors[[item.prompts.index(posed[i].question.prompt) for i in rows]]
    return found


def _answers(context: Context, item: Probe) -> Vectors:
    return answers(context.vision, item.stream, item.at_s, item.prompts)
