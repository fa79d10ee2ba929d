# SPDX-License-Identifier: Apache-2.0
"""Answers of the vision side at many moments of streams, computed in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import Moment
from vljepa_ros.evaluate.views import Vectors, answers

PROMPT = 'What is going on?'  # a held-out paraphrase


@dataclass(frozen=True)
class Look:
    """Prompts for a stream, `at_s` from its start."""

    stream: Stream
    at_s: float
    prompts: tuple[str, ...]


def look(context: Context, looks: Sequence[Look], name: str) -> list[Vectors]:
    """Return answers (P, D) to the prompts of each item."""
    return context.map(_look, looks, name)


def caption(context: Context, found: Sequence[Moment], name: str) -> Vectors:
    """Return answers (N, D) to `PROMPT` at each moment."""
    seen = look(context, [Look(m.stream, m.at_s, (PROMPT,)) for m in found], name)
    return np.concatenate([np.zeros((0, context.vision.facts.embedding_dim), np.float32), *seen])


def _look(context: Context, item: Look) -> Vectors:
    return answers(context.vision, item.stream, item.at_s, item.prompts)
