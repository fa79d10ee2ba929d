# SPDX-License-Identifier: Apache-2.0
"""Questions about an annotated moment, with answers from the simulator's state.

An answer has a meaning id of its own (`yes`, `no`, `colour:red`, `object:drawer:red`, or the
annotation's), so that all its wordings are one target. In the dark only the light is asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.mwstream.meanings import doing, sentences
from vljepa_ros.data.mwstream.tasks import (
    COLOUR_NAMES,
    TASKS,
    TRAIN_TASKS,
    training_colours,
)

CAPTION = {
    'train': (
        'What is happening?',
        'What is the robot doing?',
        '',
        'Describe the scene.',
        'What happens now?',
        'What can you see?',
        'Say what the robot does.',
    ),
    'heldout': ('What is going on?', 'Tell me what the arm is up to.'),
    'sample': ('What is taking place?',),
}
LIGHT = {
    'train': ('Is the light on?', 'Is it bright?', 'Are the lights on?', 'Can you see anything?'),
    'heldout': ('Is the lamp lit?',),
    'sample': ('Is there any light?',),
}
DARK = {
    'train': ('Is it dark?', 'Is the light off?', 'Are the lights out?'),
    'heldout': ('Is the lamp switched off?',),
    'sample': ('Is everything dark?',),
}
REST = {
    'train': ('Is the arm at rest?', 'Is the robot standing still?', 'Is the robot idle?'),
    'heldout': ('Is the machine pausing?',),
    'sample': ('Does the arm stay where it is?',),
}
MOVING = {
    'train': ('Is the robot moving?', 'Is the arm in motion?', 'Does the robot move?'),
    'heldout': ('Is the machine active?',),
    'sample': ('Is the arm on the move?',),
}
DOING = {
    'train': ('Is the robot {}?', 'Is the arm {}?', 'Is the robot {} now?'),
    'heldout': ('Is the machine {} at the moment?',),
    'sample': ('Is the arm {} just now?',),
}
REACHING = {
    'train': (
        'Is the robot reaching for the {}?',
        'Does the arm move toward the {}?',
        'Is the gripper going to the {}?',
    ),
    'heldout': ('Is the machine heading for the {}?',),
    'sample': ('Is the arm coming near the {}?',),
}
COLOUR = {
    'train': (
        'What colour is the {}?',
        'Which colour does the {} have?',
        'Tell me the colour of the {}.',
    ),
    'heldout': ('What is the hue of the {}?',),
    'sample': ('The {} is of what colour?',),
}
OBJECT = {
    'train': (
        'What is the robot working with?',
        'Which object does the robot deal with?',
        'What is on the table?',
    ),
    'heldout': ('What thing is the machine busy with?',),
    'sample': ('Which thing is the arm concerned with?',),
}


YES_NO = {
    'light': LIGHT,
    'dark': DARK,
    'rest': REST,
    'moving': MOVING,
    'doing': DOING,
    'reaching': REACHING,
}


@dataclass(frozen=True)
class Question:
    """A prompt with its answer as text and as a meaning id; candidates where it has them.

    `topic` is what a yes/no question is about, whatever its wording.
    """

    prompt: str
    answer: str
    meaning: str
    kind: str
    candidates: tuple[str, ...] = ()
    topic: str = ''


def questions(
    annotation: Annotation, rng: np.random.Generator, which: str = 'train'
) -> list[Question]:
    """One question of each kind that can be asked in this moment, in wordings of `which`."""
    light = annotation.light
    asked: list[Question | None] = [caption(annotation, rng, which), _light(light, rng, which)]
    if not light:
        return [item for item in asked if item is not None]
    resting = annotation.phase == 'rest'
    if annotation.phase != 'done':  # the arm holds still then, too
        asked.append(_yes_no('rest', which, rng, resting))
        asked.append(_yes_no('moving', which, rng, not resting))
    if annotation.object:
        asked += [_colour(annotation, rng, which), _object(annotation, rng, which)]
        asked.append(_doing(annotation, rng, which, true=True))
        asked.append(_doing(annotation, rng, which, true=False))
    return [item for item in asked if item is not None]


def caption(annotation: Annotation, rng: np.random.Generator, which: str) -> Question:
    """What happens, in the words of the annotation's meaning."""
    text = str(rng.choice(sentences(annotation.meaning, which)))
    return Question(_pick(CAPTION, which, rng), text, annotation.meaning, 'caption')


def _pick(table: dict[str, tuple[str, ...]], which: str, rng: np.random.Generator) -> str:
    return str(rng.choice(table[which]))


def _yes_no(
    topic: str,
    which: str,
    rng: np.random.Generator,
    true: bool,
    thing: str = '',
) -> Question:
    prompt = _pick(YES_NO[topic], which, rng).format(thing)
    answer = 'yes' if true else 'no'
    return Question(prompt, answer, answer, 'yes/no', ('yes', 'no'), topic=topic)


def _light(light: bool, rng: np.random.Generator, which: str) -> Question:
    if rng.random() < 0.5:
        return _yes_no('light', which, rng, light)
    return _yes_no('dark', which, rng, not light)


def _colour(annotation: Annotation, rng: np.random.Generator, which: str) -> Question:
    colour, prompt = annotation.colour, _pick(COLOUR, which, rng).format(annotation.object)
    return Question(prompt, colour, f'colour:{colour}', 'colour', COLOUR_NAMES)


def _object(annotation: Annotation, rng: np.random.Generator, which: str) -> Question:
    things = sorted({TASKS[name].object for name in TRAIN_TASKS} - {annotation.object})
    wrong = rng.choice(things, 3, replace=False).tolist()
    said = [f'the {annotation.colour} {annotation.object}']
    said += [f'the {annotation.colour} {thing}' for thing in wrong]
    return Question(
        _pick(OBJECT, which, rng),
        said[0],
        f'object:{annotation.object}:{annotation.colour}',
        'object',
        tuple(sorted(said)),
    )


def _doing(
    annotation: Annotation, rng: np.random.Generator, which: str, true: bool
) -> Question | None:
    """Whether this act or reach is going on; the wrong ones are near: same object, other phase."""
    task, colour, phase = annotation.task, annotation.colour, annotation.phase
    thing = f'{colour} {annotation.object}'
    if true and phase == 'act':
        return _yes_no('doing', which, rng, True, doing(task, colour))
    if true:
        return _yes_no('reaching', which, rng, True, thing) if phase == 'reach' else None
    if phase == 'act':
        same = [n for n in TRAIN_TASKS if TASKS[n].object == annotation.object and n != task]
        pool = same if same and rng.random() < 0.6 else [n for n in TRAIN_TASKS if n != task]
        return _yes_no('doing', which, rng, False, doing(str(rng.choice(pool)), colour))
    if phase == 'reach':
        things = [TASKS[n].object for n in TRAIN_TASKS]
        other = str(rng.choice([item for item in things if item != annotation.object]))
        return _yes_no('reaching', which, rng, False, f'{colour} {other}')
    return _yes_no('doing', which, rng, False, doing(task, colour))


# How the answers of questions are worded, by the first part of their meaning id.
ANSWERS = {
    'yes': ('yes', 'yes, it is', 'yes, that is so'),
    'no': ('no', 'no, it is not', 'no, that is not so'),
    'colour': ('{0}', 'it is {0}', 'the colour is {0}'),
    'object': ('the {1} {0}', 'a {1} {0}', 'it is the {1} {0}'),
}


def answers(meaning: str) -> tuple[str, ...]:
    """The wordings of a question's answer; the first is the answer's text in `Question`."""
    kind, *slots = meaning.split(':')
    return tuple(text.format(*slots) for text in ANSWERS[kind])


def answer_meanings(held_out_colours: bool = True) -> list[str]:
    """All meaning ids of answers that are not captions."""
    objects = {
        f'object:{TASKS[name].object}:{colour}'
        for name in TRAIN_TASKS
        for colour in (COLOUR_NAMES if held_out_colours else training_colours(name))
    }
    return ['yes', 'no', *(f'colour:{name}' for name in COLOUR_NAMES), *sorted(objects)]
