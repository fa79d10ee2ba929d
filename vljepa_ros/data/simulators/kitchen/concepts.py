# SPDX-License-Identifier: Apache-2.0
"""Concepts of kitchen streams: the concepts of Meta-World, with different questions.

The questions are about light and cover, and about objects that the kitchen lacks.
"""

from __future__ import annotations

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import UNKNOWN, YES_NO, LabeledQuestion
from vljepa_ros.data.simulators.mwstream.concepts import MwstreamConcepts
from vljepa_ros.data.simulators.mwstream.questions import answers, prompts, state_words
from vljepa_ros.data.simulators.mwstream.tasks import COLOR_NAMES, TASKS, THINGS

# Objects of Meta-World without a similar object in the kitchen.
ABSENT = ('ring', 'basketball', 'block', 'hammer', 'puck', 'peg', 'soccer ball', 'stick', *THINGS)


class KitchenConcepts(MwstreamConcepts):
    """Concepts of Meta-World, with questions for the evaluation in the kitchen."""

    def questions(
        self, annotation: Annotation, rng: np.random.Generator, which: str = 'train'
    ) -> list[LabeledQuestion]:
        """Return questions about light and cover, and unanswerable ones about absent objects."""
        return [*_answerable(annotation, rng, which), *_unanswerable(rng, which)]


def _answerable(item: Annotation, rng: np.random.Generator, which: str) -> list[LabeledQuestion]:
    """Return a question about the lens cover and, if it is uncovered, one about the light."""
    found = [_ask(which, 'covered', 'yes' if item.covered else 'no', rng)]
    if not item.covered:
        found.append(_ask(which, 'dark', 'no' if item.light else 'yes', rng))
    return found


def _unanswerable(rng: np.random.Generator, which: str) -> list[LabeledQuestion]:
    """Return two questions about absent objects, one about a color and one about a state."""
    stateful = [facts for facts in TASKS.values() if facts.object in ABSENT and facts.after]
    facts = stateful[int(rng.integers(len(stateful)))]
    state = state_words(facts.object, str(rng.choice([facts.before, facts.after])))
    name = str(rng.choice(ABSENT))
    return [
        _ask(which, 'colour', UNKNOWN, rng, name, candidates=COLOR_NAMES),
        _ask(which, 'state', UNKNOWN, rng, facts.object, state=state),
    ]


def _ask(
    which: str,
    topic: str,
    concept: str,
    rng: np.random.Generator,
    *slots: str,
    candidates: tuple[str, ...] = YES_NO,
    **named: str,
) -> LabeledQuestion:
    prompt = str(rng.choice(prompts(topic, which))).format(*slots, **named)
    kind = 'yes/no' if candidates == YES_NO else topic
    return LabeledQuestion(prompt, answers(concept)[0], concept, kind, candidates, topic)


CONCEPTS = KitchenConcepts()
