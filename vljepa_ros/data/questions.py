# SPDX-License-Identifier: Apache-2.0
"""Questions about annotated streams, and the prompts and answers that apply to any scene.

Every answer has a concept id (`yes`, `no`, `unknown`, or the id of the annotated concept), so
that all paraphrases of an answer are the same target. `unknown` is the answer to questions about
an absent object, in the dark, or with a covered camera. prompts.yaml contains the prompts and
answers.
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
ANSWERS = (*YES_NO, UNKNOWN)  # ids of the answer concepts of every data set
CAPTION = 'caption'  # kind and topic of the questions that ask for a caption
TOPICS = (CAPTION, 'light', 'dark', 'covered', 'rest', 'moving', 'object', 'thing')


@dataclass(frozen=True)
class LabeledQuestion:
    """Prompt with its expected answer.

    Attributes:
        prompt: Text of the question; '' also asks for a caption.
        answer: Text of the answer.
        meaning: Concept id of the answer.
        kind: 'caption', 'yes/no', 'colour', 'object', 'thing' (distractor) or 'told' (annotated).
        candidates: Possible answers, if the question has a list of them.
        topic: Subject of the question, the same for all its paraphrases (see `TOPICS`).
        full: Answer as a full sentence, or '' if there is none.
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
    """Return the prompts of a topic in one of the lists of paraphrases.

    Args:
        topic: One of `TOPICS`.
        which: 'train', 'heldout' or 'sample'.
    """
    return tuple(_file()[topic][which])


def answers(concept: str) -> tuple[str, ...]:
    """Return the paraphrases of an answer in `ANSWERS`; the first one is the default text."""
    return tuple(_file()['answers'][concept])


def answer_concept(text: str) -> str:
    """Return the concept id of an annotated answer: yes, no, unknown, or the id of its text."""
    own = meaning_of(text)
    for concept in ANSWERS:
        if own in map(meaning_of, answers(concept)):
            return concept
    return own


def caption(
    annotation: Annotation, texts: Sequence[str], rng: np.random.Generator, which: str
) -> LabeledQuestion:
    """Return a question that asks for a caption of an annotation.

    Args:
        annotation: Annotation; its concept id is the answer's.
        texts: Paraphrases of the answer; one is drawn.
        rng: Random generator.
        which: List of prompts: 'train', 'heldout' or 'sample'.
    """
    prompt = pick(prompts(CAPTION, which), rng)
    return LabeledQuestion(prompt, pick(texts, rng), annotation.meaning, CAPTION, topic=CAPTION)


def as_question(told: AnnotatedQuestion) -> LabeledQuestion:
    """Convert an annotated question to a `LabeledQuestion` of kind 'told'."""
    return LabeledQuestion(
        told.prompt, told.answer, answer_concept(told.answer), 'told', told.candidates
    )


def pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    """Draw one of `texts` at random.

    `rng.choice` is slower, because it converts the texts to an array on each call.
    """
    return texts[int(rng.integers(len(texts)))]
