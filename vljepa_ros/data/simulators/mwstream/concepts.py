# SPDX-License-Identifier: Apache-2.0
"""Concept set of Meta-World streams (see `data.concepts`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vljepa_ros.data.concepts import ANY, NOT, RECORDED, RECORDED_PHASES, ConceptSet, TrainingTexts
from vljepa_ros.data.english import negated
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import ANSWERS, LabeledQuestion
from vljepa_ros.data.simulators.mwstream import contrasts, meanings, questions
from vljepa_ros.data.simulators.mwstream.tasks import (
    COLOR_NAMES,
    PHASES,
    TASKS,
    TEST_TASKS,
    THINGS,
    TRAIN_TASKS,
    held_out_color,
    meaning_of,
)

FULL_ANSWERS = 300  # number of full-sentence answers for each of yes and no
KINDS_OF_ANSWERS = ('nothing', 'colour', 'object')


class MwstreamConcepts(ConceptSet):
    """Concepts of the 50 tasks of Meta-World, and of annotated recordings."""

    tasks = tuple(TASKS)
    train_tasks = TRAIN_TASKS
    test_tasks = TEST_TASKS
    colors = COLOR_NAMES
    labels: Mapping[str, tuple[str, ...]] = {
        'task': TRAIN_TASKS,
        'colour': COLOR_NAMES,
        'object_state': tuple(
            sorted(
                {s for task in TRAIN_TASKS for s in (TASKS[task].before, TASKS[task].after)} - {''}
            )
        ),
        'thing': (*THINGS, ''),
        'thing_colour': COLOR_NAMES,
        'phase': (*PHASES, 'dark', 'covered', 'appear', 'gone'),
    }

    def sentences(self, concept: str, which: str = 'train') -> tuple[str, ...]:
        """Return the paraphrases of a concept or an answer in the list `which`.

        Raises:
            InputError: the concept is unknown.
        """
        if concept.partition(':')[0] in KINDS_OF_ANSWERS:
            return questions.answers(concept)
        if concept in ANSWERS or concept.startswith(RECORDED):
            return super().sentences(concept, which)
        return meanings.sentences(concept, which)

    def expresses(self, concept: str, text: str, color: bool = True) -> bool:
        """Return whether a text expresses a concept; `color` is whether it must name the color."""
        if concept in ANSWERS or concept.partition(':')[0] in (RECORDED[:-1], *KINDS_OF_ANSWERS):
            return super().expresses(concept, text, color)
        return meanings.is_right(concept, text, color)

    def questions(
        self, annotation: Annotation, rng: np.random.Generator, which: str = 'train'
    ) -> list[LabeledQuestion]:
        """Return one question of each kind that applies; the first one asks for a caption."""
        if annotation.phase in RECORDED_PHASES:
            return super().questions(annotation, rng, which)
        return questions.questions(annotation, rng, which)

    def texts(self, which: str) -> list[str]:
        """Return all prompts and sentences of a list, except empty prompts.

        Args:
            which: List of paraphrases: 'train' or 'heldout'.
        """
        slots = {'state': 'open', 'doing': 'opening the drawer'}
        prompts = [
            prompt.format('ball', **slots)
            for topic in questions.TOPICS
            for prompt in questions.prompts(topic, which)
        ]
        sentences = [t for concept in self.concepts() for t in meanings.sentences(concept, which)]
        return [text for text in dict.fromkeys([*prompts, *sentences]) if text.strip()]

    def training_texts(self, tasks: Sequence[str]) -> TrainingTexts:
        """Return the training sentences of all concepts of `tasks`, without held-out colors."""
        tasks = tuple(tasks)
        if not tasks:
            return TrainingTexts()
        captions = meanings.meanings(tasks, held_out_colors=False)
        colorless = [name for name in map(meanings.without_color, captions) if name]
        names = (*captions, *dict.fromkeys(colorless))
        targets = {name: meanings.sentences(name) for name in names}
        targets |= questions.negated_states(tasks)
        targets |= {
            name: questions.answers(name) for name in questions.answer_meanings(False, tasks)
        }
        read = questions.full_answers(np.random.default_rng(0), FULL_ANSWERS, tasks)
        for name in names:
            read[name] = meanings.sentences(name, 'read')
            phase, _, rest = name.partition(':')
            if phase == 'act':
                task, _, color = rest.rpartition(':')
                read[name] += (meanings.doing(task, color).replace(f'{ANY} ', ''),)
        deniable = frozenset(n for n in names if any(negated(text) for text in targets[n]))
        return TrainingTexts(targets, read, deniable)

    def compatible(self, concept: str) -> list[str]:
        """Return ids of other concepts that may be true at the same time as `concept`.

        An id that begins with `NOT` stands for the negation of a concept.
        """
        if not concept.startswith(NOT):
            found = meanings.without_color(concept), questions.reached_state(concept)
            return [name for name in found if name]
        denied = concept.removeprefix(NOT)
        colorless = meanings.without_color(denied)
        others = [f'{NOT}{colorless}'] if colorless else []
        phase, _, rest = denied.partition(':')
        task, _, color = rest.rpartition(':')
        if phase == 'done' and (facts := TASKS[task]).before:
            others.append(f'is:{facts.object}:{facts.before}')
            state = (facts.object, facts.before)
            undone = [name for name, t in TASKS.items() if (t.object, t.after) == state]
            others += [f'done:{name}:{c}' for name in undone for c in (color, ANY)]
        return others

    def label(self, annotation: Annotation) -> dict[str, str]:
        """Return the visible labels of an annotation: class names by label name.

        In the dark and with a covered camera, only the phase is visible.
        """
        visible = {'phase': annotation.phase}
        if annotation.light and not annotation.covered:
            color, _, kind = annotation.thing.partition(' ')
            visible |= {
                'task': annotation.task,
                'colour': annotation.colour,
                'object_state': annotation.object_state,
            }
            if annotation.phase != 'gone':  # the distractor has disappeared
                visible |= {'thing': kind, 'thing_colour': color}
        return visible

    def concepts(
        self, tasks: Sequence[str] | None = None, held_out_colors: bool = True
    ) -> list[str]:
        """Return all concept ids of `tasks` (default: the training tasks) and of distractors.

        `held_out_colors` is whether to include combinations of task and color that are absent from
        training.
        """
        names = TRAIN_TASKS if tasks is None else tuple(tasks)
        return meanings.meanings(names, held_out_colors)

    def concept(self, task: str, phase: str, color: str) -> str:
        """Return the concept id of a task's phase, for an object of color `color`."""
        return meaning_of(task, phase, color)

    def held_out_color(self, task: str) -> str:
        """Return the color that the object of `task` never has in training."""
        return held_out_color(task)

    def contrasts(self) -> dict[str, list[tuple[str, str]]]:
        """Return pairs of concept ids that differ in one slot only, by slot (such as 'verb')."""
        return contrasts.by_slot()


CONCEPTS = MwstreamConcepts()
