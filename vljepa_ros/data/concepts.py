# SPDX-License-Identifier: Apache-2.0
"""Concepts of annotated streams, with their sentences, questions and labels.

A concept is the meaning that several paraphrases share. It has an id, such as
`act:drawer-open:red`. `ConceptSet` is for recordings, in which every annotated text is a concept.
Each simulator has a subclass with tasks, colors and paraphrases. `of` selects the concept set of
streams by the key `simulator` in their meta.json. It imports the module of a simulator only if a
stream needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import questions
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.questions import ANSWERS, LabeledQuestion
from vljepa_ros.data.splits import KITCHEN

MWSTREAM = 'mwstream'
# Name of a simulator -> module that defines its concept set `CONCEPTS`.
MODULES = {
    MWSTREAM: 'vljepa_ros.data.simulators.mwstream.concepts',
    KITCHEN: 'vljepa_ros.data.simulators.kitchen.concepts',
}
RECORDED = 'say:'  # prefix of the concept ids of annotated texts
ANY = 'any'  # replaces the color in the ids of concepts without a color
NOT = 'not:'  # prefix of the concept ids of negated sentences
RECORDED_PHASES = ('told', 'none')


@dataclass(frozen=True)
class TrainingTexts:
    """Training sentences of a set of concepts, by concept id.

    Attributes:
        targets: Sentences that the Y-Encoder encodes and the Y-Decoder learns to generate.
        read: Further paraphrases, which only the Y-Encoder is trained on.
        deniable: Ids of the concepts with at least one sentence that can be negated.
    """

    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deniable: frozenset[str] = frozenset()


class ConceptSet:
    """Concepts of annotated recordings; base class of the simulators' concept sets.

    Attributes:
        tasks: Names of all tasks.
        train_tasks: Tasks that occur in training.
        test_tasks: Tasks that do not occur in training.
        colors: Names of the colors that objects may have.
        labels: Possible classes by label name; linear probes predict them in training.
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
        """Return whether a text expresses a concept.

        Args:
            concept: Concept id.
            text: Text to check.
            color: Whether the text must name the color of the concept's object.
        """
        if concept.startswith(RECORDED):
            return questions.answer_concept(text) == concept
        return text in self.sentences(concept)

    def questions(
        self, annotation: Annotation, rng: np.random.Generator, which: str = 'train'
    ) -> list[LabeledQuestion]:
        """Return questions about an annotation, with their answers.

        In training data, the first question asks for a caption.

        Args:
            annotation: Annotation that the questions are about.
            rng: Random generator, which selects paraphrases and candidates.
            which: List of paraphrases: 'train', 'heldout' or 'sample'.
        """
        return [self.caption(annotation, rng, which)]

    def caption(
        self, annotation: Annotation, rng: np.random.Generator, which: str
    ) -> LabeledQuestion:
        """Return a question that asks for a caption; its answer is a sentence of `annotation`."""
        is_recorded = annotation.phase in RECORDED_PHASES
        texts = (annotation.text,) if is_recorded else self.sentences(annotation.meaning, which)
        return questions.caption(annotation, texts, rng, which)

    def texts(self, which: str) -> list[str]:
        """Return all prompts and sentences of a list, except empty prompts.

        Args:
            which: List of paraphrases: 'train' or 'heldout'.
        """
        prompts = [p for topic in questions.TOPICS for p in questions.prompts(topic, which)]
        return [prompt for prompt in prompts if prompt.strip()]

    def training_texts(self, tasks: Sequence[str]) -> TrainingTexts:
        """Return the training sentences of all concepts of `tasks`."""
        del tasks
        return TrainingTexts()

    def compatible(self, concept: str) -> list[str]:
        """Return ids of other concepts that may be true at the same time as `concept`.

        An id that begins with `NOT` stands for the negation of a concept. The relation is
        symmetric, but a pair may be listed for only one of its two concepts.
        """
        del concept
        return []

    def label(self, annotation: Annotation) -> dict[str, str]:
        """Return the visible labels of an annotation: class names by label name (see `labels`)."""
        del annotation
        return {}

    def concepts(
        self, tasks: Sequence[str] | None = None, held_out_colors: bool = True
    ) -> list[str]:
        """Return the ids of all concepts of some tasks.

        Args:
            tasks: Names of tasks; None for the training tasks.
            held_out_colors: Whether to include combinations of task and color that are absent from
                training.
        """
        del tasks, held_out_colors
        return []

    def concept(self, task: str, phase: str, color: str) -> str:
        """Return the concept id of a task's phase, for an object of color `color`."""
        raise InputError(
            f'imported recordings have no concept for task {task!r} ({phase}, {color}): '
            'only simulated streams have tasks'
        )

    def held_out_color(self, task: str) -> str:
        """Return the color that a task's object never has in training, or '' if there is none."""
        del task
        return ''

    def contrasts(self) -> dict[str, list[tuple[str, str]]]:
        """Return pairs of concepts that differ in one slot only, by slot (such as 'verb').

        Concept ids have the placeholder {} for the color. A pair of equal ids stands for a concept
        and its negation.
        """
        return {}


RECORDINGS = ConceptSet()


def named(name: str = MWSTREAM) -> ConceptSet:
    """Return the concept set of the simulator `name`. Raises InputError if it is unknown."""
    if name not in MODULES:
        raise InputError(f'unknown simulator {name!r} (known: {", ".join(MODULES)})')
    found: ConceptSet = importlib.import_module(MODULES[name]).CONCEPTS
    return found


def simulator_of(stream: Stream) -> str:
    """Return the name of the simulator that generated a stream, or '' for a recording."""
    if 'simulator' in stream.meta:
        return str(stream.meta['simulator'])
    if all(item.phase in RECORDED_PHASES for item in stream.annotations):
        return ''
    # Streams of earlier versions do not name their simulator.
    return KITCHEN if stream.meta.get('split') == KITCHEN else MWSTREAM


def of(streams: Iterable[Stream]) -> ConceptSet:
    """Return the concept set of streams, which come from recordings and at most one simulator.

    Raises:
        InputError: The streams come from several simulators, or from an unknown one.
    """
    names = sorted({name for stream in streams if (name := simulator_of(stream))})
    if len(names) > 1:
        raise InputError(
            f'the streams are from several simulators ({", ".join(names)}): use one simulator only'
        )
    return named(names[0]) if names else RECORDINGS
