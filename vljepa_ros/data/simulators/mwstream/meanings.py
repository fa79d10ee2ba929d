# SPDX-License-Identifier: Apache-2.0
"""Sentences of each concept, and a check whether a sentence expresses a concept.

`paraphrases.yaml` has disjoint lists of sentences for each concept: `train`, `heldout`, `sample`,
and `read` (training sentences for the Y-Encoder only, never targets of the Y-Decoder). A sentence
expresses a concept if it meets two conditions: it names the concept's object and color and no
other, and the known sentence with the most similar set of words (Jaccard index) belongs to the
concept and does not differ from it by a negation or an antonym.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.concepts import ANY
from vljepa_ros.data.english import NEGATIONS, words
from vljepa_ros.data.simulators.mwstream.tasks import (
    BARE,
    COLOR_NAMES,
    PHASES,
    TASKS,
    THINGS,
    TRAIN_TASKS,
    meaning_of,
    training_colors,
)

LISTS = ('train', 'heldout', 'sample')
SHARED = ('reach', 'contact', 'appear', 'gone')  # phases with sentence templates for all objects

# Nouns for each object; a sentence about the object contains at least one.
NOUNS: dict[str, tuple[str, ...]] = {
    'ring': ('ring',),
    'basketball': ('basketball', 'ball'),
    'block': ('block', 'cube'),
    'lid': ('lid', 'cover'),
    'button': ('button',),
    'coffee button': ('coffee',),
    'mug': ('mug', 'cup'),
    'dial': ('dial', 'knob'),
    'door': ('door',),
    'lock': ('lock', 'latch'),
    'drawer': ('drawer',),
    'faucet': ('faucet', 'tap'),
    'hammer': ('hammer',),
    'handle': ('handle',),
    'lever': ('lever',),
    'puck': ('puck', 'disc'),
    'plate': ('plate', 'dish', 'saucer'),
    'peg': ('peg', 'rod'),
    'plug': ('plug', 'connector'),
    'soccer ball': ('soccer', 'football', 'ball'),
    'stick': ('stick', 'thermos', 'bottle', 'flask'),
    'window': ('window',),
    **{thing: (thing,) for thing in THINGS},
}
# Nouns of other objects that a sentence about the object (key) may contain.
ALSO: dict[str, tuple[str, ...]] = {
    'ring': ('peg',),
    'lock': ('door',),
    'mug': ('coffee',),
    'faucet': ('handle', 'knob'),
    'coffee button': ('button',),
    'stick': ('rod',),
    'handle': ('lever',),
}

_ALL_NOUNS = {noun for nouns in NOUNS.values() for noun in nouns}
NAMED_BARE = {'cover'}  # noun that also occurs in sentences of the concept `covered`
OPPOSITES = (
    (
        'open opens opened opening ajar unlocks unlocked',
        'close closes closed closing shut shuts shutting sealed locks locked',
    ),
    ('on onto', 'off'),
    ('in into inside', 'out outside'),
    (
        'up upward raises raised raising lifts lifted lifting',
        'down downward lowers lowered lowering',
    ),
    ('pull pulls pulled pulling drags draws', 'push pushes pushed pushing press presses pressed'),
    ('front', 'side sideways'),
    ('forward ahead', 'back backward'),
    ('forward ahead back backward', 'sideways'),
    ('above over', 'below under'),
    ('over', 'around'),
    ('to toward', 'from away'),
    ('appears appeared', 'gone disappeared'),
)
_OPPOSITE: dict[str, set[str]] = {}
for _one, _other in OPPOSITES:
    for _word in _one.split():
        _OPPOSITE.setdefault(_word, set()).update(_other.split())
    for _word in _other.split():
        _OPPOSITE.setdefault(_word, set()).update(_one.split())


@cache
def paraphrases() -> dict[str, Any]:
    """Return the parsed paraphrases.yaml."""
    loaded: dict[str, Any] = yaml.safe_load(
        (Path(__file__).parent / 'paraphrases.yaml').read_text()
    )
    return loaded


def sentences(meaning: str, which: str = 'train') -> tuple[str, ...]:
    """Return the sentences of a concept in the list `which`.

    Raises:
        InputError: the concept is unknown.
    """
    table = _templates(meaning)
    if table is None:
        raise InputError(f"unknown meaning '{meaning}'")
    subject, _, color = meaning.partition(':')[2].rpartition(':')
    named = '' if color == ANY else f'{color} '
    return tuple(
        text.replace('<colour> ', named).replace('<object>', subject) for text in table[which]
    )


def _templates(meaning: str) -> dict[str, list[str]] | None:
    phase, _, rest = meaning.partition(':')
    subject = rest.rpartition(':')[0]
    if phase in BARE or phase in SHARED:
        return paraphrases()[phase]
    entry = paraphrases()['tasks'].get(subject)
    if entry is None or phase not in ('act', 'done'):
        return None
    return entry if phase == 'act' else entry['done']


def doing(task: str, color: str) -> str:
    """Return the -ing form of a task for an object color: 'opening the red drawer'."""
    return str(paraphrases()['tasks'][task]['ing']).replace('<colour>', color)


def meanings(names: tuple[str, ...] = TRAIN_TASKS, held_out_colors: bool = True) -> list[str]:
    """Return the concept ids of all phases of tasks, and of distractors.

    Args:
        names: Names of the tasks.
        held_out_colors: Whether to include combinations of task and color that are absent from
            training.
    """
    found = list(BARE)
    for name in names:
        for color in COLOR_NAMES if held_out_colors else training_colors(name):
            found += [meaning_of(name, phase, color) for phase in PHASES[1:]]
    for thing in THINGS:
        found += [f'{what}:{thing}:{c}' for what in ('appear', 'gone') for c in COLOR_NAMES]
    return list(dict.fromkeys(found))


def without_color(meaning: str) -> str | None:
    """Return the concept id with 'any' in place of the color, or None if it has no color."""
    return f'{meaning.rpartition(":")[0]}:{ANY}' if meaning.count(':') == 2 else None


def sentence_index(which: str = 'train') -> dict[str, str]:
    """Return the concept id of every sentence in the list `which`, for all 50 tasks."""
    return {
        text: meaning for meaning in meanings(tuple(TASKS)) for text in sentences(meaning, which)
    }


def names_object(meaning: str, text: str) -> bool:
    """Return whether `text` names the concept's object and no other object."""
    thing = object_of(meaning)
    text_words = set(words(text))
    own = set(NOUNS[thing]) | set(ALSO.get(thing, ()))
    return bool(text_words & set(NOUNS[thing])) and not text_words & _ALL_NOUNS - own


def object_of(meaning: str) -> str:
    """Return the name of a concept's object, which may be a distractor."""
    phase, _, rest = meaning.partition(':')
    subject = rest.rpartition(':')[0]
    return subject if phase in SHARED else TASKS[subject].object


@lru_cache(1 << 16)
def is_right(meaning: str, text: str, color: bool = True) -> bool:
    """Return whether `text` expresses the concept `meaning` (see the module's docstring).

    `color` is whether the text must name the object's color; another color is always wrong.
    """
    phase, _, rest = meaning.partition(':')
    subject, _, hue = rest.rpartition(':')
    text_words = set(words(text))
    if phase in BARE:
        if text_words & _ALL_NOUNS - NAMED_BARE:
            return False
    elif (
        not names_object(meaning, text)
        or text_words & set(COLOR_NAMES) - {hue}
        or (color and hue not in text_words)
    ):
        return False
    own = phase if phase in BARE else f'{phase}:{subject}'
    for name, bag in _nearest(text):
        same = name.partition(':')[0] == phase if phase in SHARED else name == own
        if same and _agree(text_words, bag):
            return True
    return False


def _agree(text_words: set[str], paraphrase: set[str]) -> bool:
    """Return whether two sets of words contain the same negations and no pair of antonyms."""
    lacks = paraphrase - text_words
    if text_words & NEGATIONS != paraphrase & NEGATIONS:
        return False
    return not any(_OPPOSITE.get(word, set()) & lacks for word in text_words - paraphrase)


@dataclass(frozen=True)
class _Sentences:
    """Sets of words of all sentences in `LISTS`, for all concepts without their color.

    Attributes:
        meanings: Concept id of each sentence.
        bags: Set of words of each sentence.
        number: Column of each word in `has`.
        has: (sentences, words): 1 if the sentence contains the word, else 0.
    """

    meanings: tuple[str, ...]
    bags: tuple[set[str], ...]
    number: dict[str, int]
    has: NDArray[np.float32]


@cache
def _known_sentences() -> _Sentences:
    sentence_bags = [
        (meaning.removesuffix(':red'), set(words(text)) - {'red'})
        for meaning in meanings(tuple(TASKS))
        if meaning in BARE or meaning.endswith(':red')
        for which in LISTS
        for text in sentences(meaning, which)
    ]
    vocabulary = sorted({word for _, bag in sentence_bags for word in bag})
    number = {word: column for column, word in enumerate(vocabulary)}
    has = np.zeros((len(sentence_bags), len(number)), np.float32)
    for row, (_, bag) in enumerate(sentence_bags):
        has[row, [number[word] for word in bag]] = 1.0
    names, bags = zip(*sentence_bags, strict=True)
    return _Sentences(names, bags, number, has)


def _nearest(text: str) -> list[tuple[str, set[str]]]:
    """Return the known sentences whose words are most similar to `text` (Jaccard index).

    Each result is a concept id without color and the set of the sentence's words.
    """
    known, bag = _known_sentences(), set(words(text)) - set(COLOR_NAMES)
    indicator = np.zeros(len(known.number), np.float32)
    indicator[[known.number[word] for word in bag if word in known.number]] = 1.0
    both = known.has @ indicator
    overlap = both / (known.has.sum(axis=1) + len(bag) - both)
    best = overlap.max()
    if best == 0:
        return []
    return [(known.meanings[i], known.bags[i]) for i in np.flatnonzero(overlap >= best - 1e-6)]
