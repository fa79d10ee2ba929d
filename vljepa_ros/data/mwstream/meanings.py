# SPDX-License-Identifier: Apache-2.0
"""What meanings are called, and whether a sentence says the right thing.

`wordings.yaml` holds the sentences, in three disjoint lists a meaning: `train`, `heldout` and
`sample`. A sentence is right when it names the meaning's object and colour and no other's, and of
all wordings of all meanings one of its own shares most words with it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vljepa_ros.data.mwstream.tasks import (
    COLOUR_NAMES,
    TASKS,
    TRAIN_TASKS,
    meaning_of,
    training_colours,
)
from vljepa_ros.errors import InputError

LISTS = ('train', 'heldout', 'sample')

# Words that name each object; the first is the object's own.
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
}
# Nouns that a sentence about the key may use although another object owns them.
ALSO: dict[str, tuple[str, ...]] = {
    'ring': ('peg',),
    'lock': ('door',),
    'mug': ('coffee',),
    'faucet': ('handle', 'knob'),
    'coffee button': ('button',),
    'stick': ('rod',),
    'handle': ('lever',),
}


@cache
def wordings() -> dict[str, Any]:
    """The parsed file of wordings."""
    loaded: dict[str, Any] = yaml.safe_load((Path(__file__).parent / 'wordings.yaml').read_text())
    return loaded


def sentences(meaning: str, which: str = 'train') -> tuple[str, ...]:
    """The wordings of a meaning in one of the lists. Raises InputError for an unknown meaning."""
    table = _templates(meaning)
    if table is None:
        raise InputError(f"unknown meaning '{meaning}'")
    subject, _, colour = meaning.partition(':')[2].rpartition(':')
    return tuple(
        text.replace('<colour>', colour).replace('<object>', subject) for text in table[which]
    )


def _templates(meaning: str) -> dict[str, list[str]] | None:
    phase, _, rest = meaning.partition(':')
    subject = rest.rpartition(':')[0]
    if phase in ('rest', 'dark', 'reach'):
        return wordings()[phase]
    entry = wordings()['tasks'].get(subject)
    if entry is None or phase not in ('act', 'done'):
        return None
    return entry if phase == 'act' else entry['done']


def doing(task: str, colour: str) -> str:
    """The act in the -ing form: 'opening the red drawer'."""
    return str(wordings()['tasks'][task]['ing']).replace('<colour>', colour)


def meanings(names: tuple[str, ...] = TRAIN_TASKS, held_out_colours: bool = True) -> list[str]:
    """All meaning ids of the given tasks, with or without the combinations unseen in training."""
    found = ['rest', 'dark']
    for name in names:
        for colour in COLOUR_NAMES if held_out_colours else training_colours(name):
            found += [meaning_of(name, phase, colour) for phase in ('reach', 'act', 'done')]
    return list(dict.fromkeys(found))


def sentence_index(which: str = 'train') -> dict[str, str]:
    """Every sentence of a list -> its meaning id (all 50 tasks)."""
    return {
        text: meaning for meaning in meanings(tuple(TASKS)) for text in sentences(meaning, which)
    }


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return re.findall(r'[a-z]+', text.lower())


def names_object(meaning: str, text: str) -> bool:
    """Whether `text` names the meaning's object and no other."""
    thing = object_of(meaning)
    said = set(words(text))
    own = set(NOUNS[thing]) | set(ALSO.get(thing, ()))
    others = {noun for nouns in NOUNS.values() for noun in nouns} - own
    return bool(said & set(NOUNS[thing])) and not said & others


def object_of(meaning: str) -> str:
    """The object of a reach, act or done meaning."""
    phase, _, rest = meaning.partition(':')
    subject = rest.rpartition(':')[0]
    return subject if phase == 'reach' else TASKS[subject].object


def is_right(meaning: str, text: str, colour: bool = True) -> bool:
    """Whether `text` says what `meaning` means (see the module's docstring)."""
    phase, _, rest = meaning.partition(':')
    subject, _, hue = rest.rpartition(':')
    if phase in ('rest', 'dark'):
        return nearest(text) == phase
    said = set(words(text))
    if not names_object(meaning, text):
        return False
    if said & set(COLOUR_NAMES) - {hue} or (colour and hue not in said):
        return False
    found = nearest(text).split(':')
    if found[0] != phase:
        return False
    return phase == 'reach' or found[1] == subject


@cache
def _stems() -> dict[str, list[frozenset[str]]]:
    """Every wording (all lists) of every meaning without its colour, as sets of words."""
    table: dict[str, list[frozenset[str]]] = {}
    for meaning in [
        m for m in meanings(tuple(TASKS)) if m in ('rest', 'dark') or m.endswith(':red')
    ]:
        key = meaning.removesuffix(':red')
        table[key] = [
            frozenset(words(text)) - {'red'}
            for which in LISTS
            for text in sentences(meaning, which)
        ]
    return table


def nearest(text: str) -> str:
    """The meaning (without colour) whose wording shares most words with `text` (Jaccard)."""
    said = frozenset(words(text)) - set(COLOUR_NAMES)
    best, score = '', 0.0
    for key, wordings_of in _stems().items():
        for item in wordings_of:
            overlap = len(said & item) / max(len(said | item), 1)
            if overlap > score:
                best, score = key, overlap
    return best
