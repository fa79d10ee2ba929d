# SPDX-License-Identifier: Apache-2.0
"""Questions about an annotation, with answers from the simulator's state.

In addition to the general answers (see `data.questions`), the concept id of an answer may be
`nothing`, `colour:red` or `object:drawer:red`, for example. prompts.yaml contains the prompts
about Meta-World and the paraphrases of these answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vljepa_ros.data import questions as general
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import ANSWERS, UNKNOWN, YES_NO, LabeledQuestion, pick
from vljepa_ros.data.simulators.mwstream.meanings import doing, sentences
from vljepa_ros.data.simulators.mwstream.tasks import (
    COLOR_NAMES,
    TASKS,
    THINGS,
    TRAIN_TASKS,
    UNSEEN,
    meaning_of,
    training_colors,
)

TOPICS = (
    'caption',
    'light',
    'dark',
    'covered',
    'rest',
    'moving',
    'doing',
    'reaching',
    'finished',
    'state',
    'present',
    'colour',
    'object',
    'thing',
)


@cache
def _file() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / 'prompts.yaml').read_text())
    return loaded


@cache
def prompts(topic: str, which: str = 'train') -> tuple[str, ...]:
    """Return the prompt templates of a topic, with placeholders such as {} and {state}.

    Args:
        topic: One of `TOPICS`.
        which: List of paraphrases: 'train', 'heldout' or 'sample'.
    """
    if topic in general.TOPICS:
        return general.prompts(topic, which)
    return tuple(_file()[topic][which])


def state_words(thing: str, state: str) -> str:
    """Return the phrase for an object's state: ('ring', 'on') -> 'on the peg'.

    The result is '' if the state is '' or has no phrase.
    """
    states = _file()['states']
    return str(states.get(thing, states).get(state, '')) if state else ''


def negated_states(tasks: tuple[str, ...] = TRAIN_TASKS) -> dict[str, tuple[str, ...]]:
    """Return sentences that describe a state by negating the opposite state, by concept id.

    For example, `is:drawer:open` has the sentence 'the drawer is not closed'.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in tasks:
        facts = TASKS[name]
        for state, other in ((facts.before, facts.after), (facts.after, facts.before)):
            words = state_words(facts.object, other)
            if words and not words.startswith('not '):
                found[f'is:{facts.object}:{state}'] = (
                    f'the {facts.object} is not {words}',
                    f'the {facts.object} is no longer {words}',
                    f"the {facts.object} isn't {words} any more",
                )
    return found


def reached_state(meaning: str) -> str | None:
    """Convert the concept id `done:drawer-open:red` to `is:drawer:open`.

    The result is None if the phase is not 'done' or the task reaches no named state.
    """
    phase, _, rest = meaning.partition(':')
    task = rest.rpartition(':')[0]
    if phase != 'done' or not TASKS[task].after:
        return None
    return f'is:{TASKS[task].object}:{TASKS[task].after}'


def opposite(task: str, state: str) -> str:
    """Return the other one of the two states that a task's object can have."""
    facts = TASKS[task]
    return facts.after if state == facts.before else facts.before


class _QuestionMaker:
    """Generator of questions about one annotation.

    `which` is the list of paraphrases for the prompts: 'train', 'heldout' or 'sample'.
    """

    def __init__(self, item: Annotation, rng: np.random.Generator, which: str) -> None:
        self.item, self.rng, self.which = item, rng, which

    def ask(
        self,
        topic: str,
        kind: str,
        meaning: str,
        full: str = '',
        *slots: str,
        candidates: tuple[str, ...] = (),
        **named: str,
    ) -> LabeledQuestion:
        """Return a question with a random prompt of its topic.

        Args:
            topic: One of `TOPICS`.
            kind: Kind of the question (see `LabeledQuestion`).
            meaning: Concept id of the answer.
            full: Answer as a full sentence, or ''.
            *slots: Values of the placeholders {} in the prompt.
            candidates: Possible answers.
            **named: Values of the named placeholders in the prompt.
        """
        prompt = pick(prompts(topic, self.which), self.rng).format(*slots, **named)
        return LabeledQuestion(prompt, answers(meaning)[0], meaning, kind, candidates, topic, full)

    def yes_no(
        self, topic: str, true: bool, statement: str, *slots: str, **named: str
    ) -> LabeledQuestion:
        """Return a yes/no question with a random prompt of its topic.

        Args:
            topic: One of `TOPICS`.
            true: Whether the answer is yes.
            statement: Sentence that is true if the answer is yes.
            *slots: Values of the placeholders {} in the prompt.
            **named: Values of the named placeholders in the prompt.
        """
        answer = 'yes' if true else 'no'
        full = f'yes, {statement}' if true else f'no, it is not so that {statement}'
        return self.ask(topic, 'yes/no', answer, full, *slots, candidates=YES_NO, **named)

    def unknown(self, question: LabeledQuestion) -> LabeledQuestion:
        """Return the same question with the answer `unknown`."""
        answer = answers(UNKNOWN)[0]
        return LabeledQuestion(
            question.prompt, answer, UNKNOWN, question.kind, question.candidates, question.topic
        )

    def pick(self, values: Any) -> str:
        """Draw one of `values` at random."""
        return pick(tuple(values), self.rng)

    def light(self) -> LabeledQuestion:
        """Return a yes/no question about the light: is it on, or is it dark?"""
        lit = self.item.light
        if self.rng.random() < 0.5:
            return self.yes_no('light', lit, 'the light is on')
        return self.yes_no('dark', not lit, 'it is dark')

    def covered(self) -> LabeledQuestion:
        """Return a yes/no question about the camera: is it covered?"""
        return self.yes_no('covered', self.item.covered, 'the camera is covered')

    def rest(self) -> LabeledQuestion:
        """Return a yes/no question about the arm: is it at rest?"""
        return self.yes_no('rest', self.item.phase == 'rest', 'the arm is at rest')

    def moving(self) -> LabeledQuestion:
        """Return a yes/no question about the robot: is it moving?"""
        return self.yes_no('moving', self.item.phase != 'rest', 'the robot is moving')

    def doing(self, true: bool) -> LabeledQuestion | None:
        """Return a yes/no question about the robot's action; None if the answer is ambiguous.

        The answer is yes if `true`. Otherwise, the question is about another task, often with the
        same object, or about another object.
        """
        item, phase = self.item, self.item.phase
        thing = f'{item.colour} {item.object}'
        if phase == 'act':
            task = item.task if true else self._other_task()
            act = doing(task, item.colour)
            return self.yes_no('doing', true, f'the robot is {act}', act)
        if phase == 'reach':
            claimed = thing if true else f'{item.colour} {self._other_object()}'
            return self.yes_no('reaching', true, f'the arm moves toward the {claimed}', claimed)
        if true or phase == 'contact':  # it is ambiguous whether contact belongs to the task
            return None
        act = doing(item.task, item.colour)
        return self.yes_no('doing', False, f'the robot is {act}', act)

    def finished(self) -> LabeledQuestion | None:
        """Return a yes/no question: is the task finished? None if the images do not show it."""
        item = self.item
        if not TASKS[item.task].after or item.phase not in ('rest', 'act', 'done'):
            return None
        act = doing(item.task, item.colour)
        done = item.phase == 'done'
        return self.yes_no('finished', done, f'the robot has finished {act}', act)

    def state(self, true: bool) -> LabeledQuestion | None:
        """Return a yes/no question about the object's state; None if its states have no names.

        The question is about the current state if `true`, otherwise about the opposite state.
        """
        item = self.item
        now = state_words(item.object, item.object_state)
        other = state_words(item.object, opposite(item.task, item.object_state))
        if not now or not other:
            return None
        claimed = now if true else other
        name = item.object if self.rng.random() < 0.5 else f'{item.colour} {item.object}'
        return self.yes_no('state', true, f'the {name} is {claimed}', name, state=claimed)

    def present(self, true: bool) -> LabeledQuestion | None:
        """Return a yes/no question: is a distractor on the table?

        If `true`, the question is about the annotation's distractor; None if there is none.
        Otherwise, the question is about an absent distractor, and the answer is no.
        """
        item = self.item
        if true and not item.thing:
            return None
        claimed = item.thing
        while not true and claimed == item.thing:
            color, kind = self.pick(COLOR_NAMES), self.pick(THINGS)
            if item.thing and self.rng.random() < 0.6:  # hard negative: one word differs
                own = item.thing.split()
                claimed = f'{own[0]} {kind}' if self.rng.random() < 0.5 else f'{color} {own[1]}'
            else:
                claimed = f'{color} {kind}'
        return self.yes_no('present', true, f'there is a {claimed} on the table', claimed)

    def color(self) -> LabeledQuestion:
        """Return a question about the color of the task's object or of the distractor."""
        name, color = self.item.object, self.item.colour
        if self.item.thing and self.rng.random() < 0.3:
            color, name = self.item.thing.split()
        return self.ask(
            'colour',
            'colour',
            f'colour:{color}',
            f'the {name} is {color}',
            name,
            candidates=COLOR_NAMES,
        )

    def object(self) -> LabeledQuestion:
        """Return a question that asks which object the robot manipulates."""
        item = self.item
        names = {item.object}
        while len(names) < 4:  # by task frequency, to hide which one is the answer
            names.add(TASKS[self.pick(TRAIN_TASKS)].object)
        options = tuple(sorted(f'the {item.colour} {name}' for name in names))
        meaning = f'object:{item.object}:{item.colour}'
        return self.ask('object', 'object', meaning, candidates=options)

    def thing(self) -> LabeledQuestion:
        """Return a question that asks which other object, if any, is on the table."""
        own = self.item.thing
        pool = [f'{c} {t}' for c in COLOR_NAMES for t in THINGS if f'{c} {t}' != own]
        wrong = [f'the {pool[i]}' for i in self.rng.permutation(len(pool))[: 3 if own else 4]]
        options = tuple(sorted([*wrong, *([f'the {own}'] if own else [])]))
        color, _, kind = own.partition(' ')
        meaning = f'object:{kind}:{color}' if own else 'nothing'
        candidates = (*options, answers('nothing')[0])
        return self.ask('thing', 'thing', meaning, candidates=candidates)

    def absent(self) -> LabeledQuestion:
        """Return a question about the color or state of an absent object (answer: `unknown`)."""
        here = self.item.object
        tasks = [n for n in TRAIN_TASKS if TASKS[n].object != here]
        facts = TASKS[self.pick(tasks)]
        state = state_words(facts.object, self.pick((facts.before, facts.after)))
        own = self.item.thing.partition(' ')[2]
        others = [name for name in THINGS if name != own]
        if state and self.rng.random() < 0.5:
            asked = self.ask(
                'state', 'yes/no', UNKNOWN, '', facts.object, candidates=YES_NO, state=state
            )
        else:
            name = self.pick(others) if self.rng.random() < 0.3 else facts.object
            asked = self.ask('colour', 'colour', UNKNOWN, '', name, candidates=COLOR_NAMES)
        return asked

    def _other_task(self) -> str:
        item = self.item
        same = [n for n in TRAIN_TASKS if TASKS[n].object == item.object and n != item.task]
        near = same and self.rng.random() < 0.6
        return self.pick(same if near else [n for n in TRAIN_TASKS if n != item.task])

    def _other_object(self) -> str:
        return self.pick(sorted({TASKS[n].object for n in TRAIN_TASKS} - {self.item.object}))


def questions(
    annotation: Annotation, rng: np.random.Generator, which: str = 'train'
) -> list[LabeledQuestion]:
    """Return one question of each kind that applies to an annotation, and unanswerable ones.

    The first question asks for a caption.

    Args:
        annotation: Annotation that the questions are about.
        rng: Random generator.
        which: List of paraphrases: 'train', 'heldout' or 'sample'.
    """
    asker = _QuestionMaker(annotation, rng, which)
    found = [general.caption(annotation, sentences(annotation.meaning, which), rng, which)]
    found.append(asker.covered())
    if annotation.phase == 'covered':
        return [*found, asker.unknown(asker.light()), *unanswerable(annotation, rng, which)]
    found.append(asker.light())
    if annotation.phase == 'dark':
        return [*found, *unanswerable(annotation, rng, which)]
    asked: list[LabeledQuestion | None] = [
        asker.color(),
        asker.object(),
        asker.state(True),
        asker.state(False),
        asker.finished(),
    ]
    if annotation.phase not in ('appear', 'gone'):  # these labels replace the task's phase
        asked += [asker.doing(True), asker.doing(False)]
        if annotation.phase != 'done':  # in `done` the arm does not move although it is not `rest`
            asked += [asker.rest(), asker.moving()]
    if annotation.phase != 'gone':
        asked += [asker.present(True), asker.present(False), asker.thing()]
    found += [item for item in asked if item is not None]
    return [*found, *unanswerable(annotation, rng, which)]


def unanswerable(
    annotation: Annotation, rng: np.random.Generator, which: str = 'train'
) -> list[LabeledQuestion]:
    """Return two questions about an annotation with the answer `unknown`.

    They are about absent objects. If it is dark or the camera is covered, they are about the
    scene, which is then invisible.

    Args:
        annotation: Annotation that the questions are about.
        rng: Random generator.
        which: List of paraphrases: 'train', 'heldout' or 'sample'.
    """
    asker = _QuestionMaker(annotation, rng, which)
    if annotation.phase not in UNSEEN:
        return [asker.absent(), asker.absent()]
    made: list[Callable[[], LabeledQuestion | None]] = [
        asker.rest,
        asker.moving,
        lambda: asker.doing(False),
        asker.color,
        asker.object,
        asker.thing,
        lambda: asker.present(False),
        asker.absent,
    ]
    chosen = [made[i]() for i in rng.permutation(len(made))]
    return [asker.unknown(item) for item in chosen if item is not None][:2]


def answers(meaning: str) -> tuple[str, ...]:
    """Return the paraphrases of an answer by its concept id; the first is the default text."""
    if meaning in ANSWERS:
        return general.answers(meaning)
    kind, *slots = meaning.split(':')
    return tuple(text.format(*slots) for text in _file()['answers'][kind])


def answer_meanings(
    held_out_colors: bool = True, tasks: tuple[str, ...] = TRAIN_TASKS
) -> list[str]:
    """Return the concept ids of all answers except captions.

    Args:
        held_out_colors: Whether to include combinations of task and color that are absent from
            training.
        tasks: Tasks whose objects may be the answer.
    """
    objects = {
        f'object:{TASKS[name].object}:{color}'
        for name in tasks
        for color in (COLOR_NAMES if held_out_colors else training_colors(name))
    }
    objects |= {f'object:{thing}:{color}' for thing in THINGS for color in COLOR_NAMES}
    return [
        *YES_NO,
        UNKNOWN,
        'nothing',
        *(f'colour:{name}' for name in COLOR_NAMES),
        *sorted(objects),
    ]


def full_answers(
    rng: np.random.Generator, count: int, tasks: tuple[str, ...] = TRAIN_TASKS
) -> dict[str, tuple[str, ...]]:
    """Return full-sentence answers for 'yes' and for 'no', at most `count` each.

    Args:
        rng: Random generator.
        count: Maximum number of sentences of each answer, and number of random annotations.
        tasks: Tasks that the questions are about.
    """
    found: dict[str, dict[str, None]] = {'yes': {}, 'no': {}}
    for _ in range(count):
        for question in questions(_any_annotation(rng, tasks), rng):
            if question.full and question.meaning in found:
                found[question.meaning][question.full] = None
    return {meaning: tuple(texts)[:count] for meaning, texts in found.items()}


def _any_annotation(rng: np.random.Generator, tasks: tuple[str, ...]) -> Annotation:
    """Return an annotation of a random phase of a random task."""
    task = str(rng.choice(tasks))
    color, facts = str(rng.choice(training_colors(task))), TASKS[task]
    phase = str(rng.choice(('rest', 'reach', 'act', 'done')))
    state = {'rest': facts.before, 'done': facts.after}.get(phase, '')
    thing = f'{rng.choice(COLOR_NAMES)} {rng.choice(THINGS)}'
    return Annotation(
        0,
        1,
        meaning_of(task, phase, color),
        phase,
        task,
        facts.object,
        color,
        object_state=state,
        thing=thing,
    )
