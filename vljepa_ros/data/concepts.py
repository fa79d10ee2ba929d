# SPDX-License-Identifier: Apache-2.0
"""Concepts of annotated streams: their sentences, questions about them, and labels.

`ConceptSet` is the set of annotated recordings, in which each annotated text is a concept of its
own. A simulator has a subclass with tasks, colors and paraphrases of its own. `of` finds the set
of some streams by the key `simulator` of their meta.json and imports the simulator's module only
then, so that nothing of a simulator is imported for recordings.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import questions
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.questions import ANSWERS, Question
from vljepa_ros.data.splits import KITCHEN

MWSTREAM = 'mwstream'
# Name of a simulator -> module with its `CONCEPTS`.
MODULES = {
    MWSTREAM: 'vljepa_ros.data.simulators.mwstream.concepts',
    KITCHEN: 'vljepa_ros.data.simulators.kitchen.concepts',
}
RECORDED = 'say:'  # prefix of the concept ids of annotated texts
ANY = 'any'  # in place of a color, for sentences without a color
NOT = 'not:'  # prefix of the concept ids of negated sentences
RECORDED_PHASES = ('told', 'none')


@dataclass(frozen=True)
class TrainingTexts:
    """Sentences of a set's concepts by concept id.

    `targets` are also targets of the Y-Decoder; `read` are further paraphrases for the Y-Encoder.
    `deniable`: concepts whose sentences can be negated.
    """

    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deniable: frozenset[str] = frozenset()


class ConceptSet:
    """Concepts of annotated recordings; base class of the simulators' sets.

    `tasks`: all tasks, of which `train_tasks` occur in training and `test_tasks` do not. `colors`:
    names of colors that objects may have. `labels`: classes of each kind of label that training
    may probe, by field of `label`.
    """

    tasks: tuple[str, ...] = ()
    train_tasks: tuple[str, ...] = ()
    test_tasks: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = {}

    def sentences(self, concept: str, which: str = 'train') -> tuple[str, ...]:
        """Return the paraphrases of a concept or an answer.

        Args:
            concept: Concept id.
            which: List of paraphrases: 'train', 'heldout', 'sample' or 'read'.

        Raises:
            InputError: The concept is unknown.
        """
        if concept in ANSWERS:
            return questions.answers(concept)
        if concept.startswith(RECORDED):
            return (concept.removeprefix(RECORDED),)
        raise InputError(f"unknown concept '{concept}'")

    def expresses(self, concept: str, text: str, color: bool = True) -> bool:
        """Return whether a text expresses a concept; `color`: whether it must name the color."""
        if concept.startswith(RECORDED):
            return questions.answer_concept(text) == concept
        return text in self.sentences(concept)

    def questions(
        self, annotation: Annotation, rng: np.random.Generator, which: str = 'train'
    ) -> list[Question]:
        """Return questions about an annotation; in training data, the first is for a caption."""
        return [self.caption(annotation, rng, which)]

    def caption(self, annotation: Annotation, rng: np.random.Generator, which: str) -> Question:
        """Return a question for a caption; its answer is a sentence of the annotation."""
        is_recorded = annotation.phase in RECORDED_PHASES
        texts = (annotation.text,) if is_recorded else self.sentences(annotation.meaning, which)
        return questions.caption(annotation, texts, rng, which)

    def texts(self, which: str) -> list[str]:
        """Return all prompts and sentences of one of the lists, without the empty prompt."""
        prompts = [p for topic in questions.TOPICS for p in questions.prompts(topic, which)]
        return [prompt for prompt in prompts if prompt.strip()]

    def training_texts(self, tasks: Sequence[str]) -> TrainingTexts:
        """Return the training sentences of all concepts of some tasks."""
        del tasks
        return TrainingTexts()

    def compatible(self, concept: str) -> list[str]:
        """Return concepts that may be true together with a concept or, after `NOT`, its negation.

        It is sufficient that each pair is found from one of its sides.
        """
        del concept
        return []

    def label(self, annotation: Annotation) -> dict[str, str]:
        """Return the class of each kind of `labels` that is visible."""
        del annotation
        return {}

    def concepts(
        self, tasks: Sequence[str] | None = None, held_out_colors: bool = True
    ) -> list[str]:
        """Return all concept ids of some tasks (default: the training tasks).

        Args:
            tasks: Names of tasks.
            held_out_colors: Whether to include combinations of task and color that are absent from
                training.
        """
        del tasks, held_out_colors
        return []

    def concept(self, task: str, phase: str, color: str) -> str:
        """Return the concept id of a phase of a task."""
        raise InputError(
            f'imported recordings have no concept for task {task!r} ({phase}, {color}): '
            'only simulated streams have tasks'
        )

    def held_out_color(self, task: str) -> str:
        """Return the color that the task's object never has in training; '' if there is none."""
        del task
        return ''

    def contrasts(self) -> dict[str, list[tuple[str, str]]]:
        """Return, by slot, pairs of concepts that differ in this slot only.

        The color of a concept is {}. A pair of equal concepts stands for a concept and its
        negation.
        """
        return {}


RECORDINGS = ConceptSet()


def named(name: str = MWSTREAM) -> ConceptSet:
    """Return the concepts of a simulator. Raises InputError if the name is unknown."""
    if name not in MODULES:
        raise InputError(f'unknown simulator {name!r} (known: {", ".join(MODULES)})')
    found: ConceptSet = importlib.import_module(MODULES[name]).CONCEPTS
    return found


def simulator_of(stream: Stream) -> str:
    """Return the name of the simulator that generated a stream; '' for a recording."""
    if 'simulator' in stream.meta:
        return str(stream.meta['simulator'])
    if all(item.phase in RECORDED_PHASES for item in stream.annotations):
        return ''
    # Streams of earlier versions do not name their simulator.
    return KITCHEN if stream.meta.get('split') == KITCHEN else MWSTREAM


def of(streams: Iterable[Stream]) -> ConceptSet:
    """Return the concepts of streams: recordings, and at most one simulator.

    Raises:
        InputError: The streams come from several simulators, or from an unknown one.
    """
    names = sorted({name for stream in streams if (name := simulator_of(stream))})
    if len(names) > 1:
        raise InputError(
            f'the streams are from several simulators ({", ".join(names)}): use one simulator only'
        )
    return named(names[0]) if names else RECORDINGS
