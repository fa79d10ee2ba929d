# SPDX-License-Identifier: Apache-2.0
"""Questions about annotated streams, with the prompts and answers that apply to any scene.

An answer has a concept id (`yes`, `no`, `unknown`, or the annotated concept's), so that all its
paraphrases are one target. `unknown` is the answer to unanswerable questions: about an absent
object, in the dark, or with a covered camera. Prompts and answers are in prompts.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vljepa_ros.data.annotation_file import meaning_of
from vljepa_ros.data.format import AnnotatedQuestion, Annotation

UNKNOWN = 'unknown'
YES_NO = ('yes', 'no')
ANSWERS = (*YES_NO, UNKNOWN)  # concept ids that every data set has
CAPTION = 'caption'  # kind and topic of a question for a description
TOPICS = (CAPTION, 'light', 'dark', 'covered', 'rest', 'moving', 'object', 'thing')


@dataclass(frozen=True)
class Question:
    """Prompt with its answer as text and as concept id, and optional candidates.

    `kind`: caption, yes/no, colour, object, thing, told. `topic` is the subject of the question,
    independent of its paraphrase. `full` is the answer as a full sentence, '' if there is none.
    """

    prompt: str
    answer: str
    meaning: str
    kind: str
    candidates: tuple[str, ...] = ()
    topic: str = ''
    full: str = ''


@cache
def _file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name('prompts.yaml').read_text())
    return loaded


@cache
def prompts(topic: str, which: str = 'train') -> tuple[str, ...]:
    """Return the prompts of one of `TOPICS`; `which` is 'train', 'heldout' or 'sample'."""
    return tuple(_file()[topic][which])


def answers(concept: str) -> tuple[str, ...]:
    """Return the paraphrases of one of `ANSWERS`; the first is the text of the answer."""
    return tuple(_file()['answers'][concept])


def answer_concept(text: str) -> str:
    """Return the concept id of an annotated answer: yes, no, unknown, or its own text."""
    own = meaning_of(text)
    for concept in ANSWERS:
        if own in map(meaning_of, answers(concept)):
            return concept
    return own


def caption(
    annotation: Annotation, texts: Sequence[str], rng: np.random.Generator, which: str
) -> Question:
    """Return a question for a caption of an annotation; one of `texts` is its answer."""
    prompt = pick(prompts(CAPTION, which), rng)
    return Question(prompt, pick(texts, rng), annotation.meaning, CAPTION, topic=CAPTION)


def as_question(told: AnnotatedQuestion) -> Question:
    """Convert an annotated question."""
    return Question(told.prompt, told.answer, answer_concept(told.answer), 'told', told.candidates)


def pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of `texts`; `rng.choice` would convert them to an array on each call."""
    return texts[int(rng.integers(len(texts)))]
