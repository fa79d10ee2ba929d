# SPDX-License-Identifier: Apache-2.0
"""Pairs of Meta-World concepts that differ in one slot: object, verb, direction or state."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, permutations

from vljepa_ros.data.english import with_not
from vljepa_ros.data.simulators.mwstream.meanings import doing, sentences
from vljepa_ros.data.simulators.mwstream.tasks import BARE, TASKS, THINGS, TRAIN_TASKS

Pair = tuple[str, str]  # concept ids, with {} for the color

# Tasks with the same action on different objects.
ALIKE = (
    ('drawer-open', 'door-open', 'window-open', 'faucet-open'),
    ('drawer-close', 'door-close', 'window-close', 'faucet-close'),
)
# Tasks with the same action on the same object, in another direction or at another place.
DIRECTIONS = (
    ('button-press', 'button-press-topdown'),
    ('button-press-wall', 'button-press-topdown-wall'),
    ('handle-press', 'handle-press-side'),
    ('handle-pull', 'handle-pull-side'),
    ('handle-press', 'handle-pull'),
    ('handle-press-side', 'handle-pull-side'),
    ('plate-slide', 'plate-slide-back'),
    ('plate-slide', 'plate-slide-side'),
    ('plate-slide-back', 'plate-slide-back-side'),
    ('plate-slide-side', 'plate-slide-back-side'),
    ('sweep', 'sweep-into'),
)
# Tasks that leave the same object in opposite states.
OPPOSITES = (
    ('drawer-open', 'drawer-close'),
    ('door-open', 'door-close'),
    ('window-open', 'window-close'),
    ('faucet-open', 'faucet-close'),
    ('assembly', 'disassemble'),
    ('handle-press', 'handle-pull'),
    ('handle-press-side', 'handle-pull-side'),
    ('plate-slide', 'plate-slide-back'),
    ('plate-slide-side', 'plate-slide-back-side'),
    ('coffee-push', 'coffee-pull'),
)


def by_slot() -> dict[str, list[Pair]]:
    """Return pairs of concepts by the slot in which they differ.

    The slot 'negation' has pairs of equal concepts, which stand for a concept and its negation.
    """
    return {
        'object': _objects(),
        'verb': _verbs(),
        'direction': _directions(),
        'state': _states(),
        'negation': _negations(),
    }


def _objects() -> list[Pair]:
    names = sorted({TASKS[task].object for task in TRAIN_TASKS})
    found = [(f'{p}:{a}', f'{p}:{b}') for p in ('reach', 'contact') for a, b in _both(names)]
    found += [(f'{p}:{a}', f'{p}:{b}') for p in ('appear', 'gone') for a, b in _both(THINGS)]
    for tasks in ALIKE:
        found += [(f'{p}:{a}', f'{p}:{b}') for p in ('act', 'done') for a, b in _both(tasks)]
    return _with_colors(found)


def _verbs() -> list[Pair]:
    known = {frozenset(pair) for pair in DIRECTIONS}
    return _with_colors(
        pair
        for a, b in combinations(TRAIN_TASKS, 2)
        if TASKS[a].object == TASKS[b].object and frozenset((a, b)) not in known
        if doing(a, '').split()[0] != doing(b, '').split()[0]
        for pair in ((f'act:{a}', f'act:{b}'), (f'act:{b}', f'act:{a}'))
    )


def _directions() -> list[Pair]:
    tasks = [pair for a, b in DIRECTIONS for pair in ((a, b), (b, a))]
    return _with_colors((f'act:{a}', f'act:{b}') for a, b in tasks)


def _states() -> list[Pair]:
    tasks = [pair for a, b in OPPOSITES for pair in ((a, b), (b, a))]
    return _with_colors((f'done:{a}', f'done:{b}') for a, b in tasks)


def _negations() -> list[Pair]:
    stems = [f'{phase}:{task}' for phase in ('act', 'done') for task in TRAIN_TASKS]
    stems += [f'{p}:{TASKS[task].object}' for p in ('reach', 'contact') for task in TRAIN_TASKS]
    stems += [f'{phase}:{thing}' for phase in ('appear', 'gone') for thing in THINGS]
    found = [*BARE, *(f'{stem}:{{}}' for stem in dict.fromkeys(stems))]
    return [(m, m) for m in found if any(with_not(text) for text in sentences(m.format('red')))]


def _both(names: Iterable[str]) -> list[tuple[str, str]]:
    return list(permutations(names, 2))


def _with_colors(stems: Iterable[tuple[str, str]]) -> list[Pair]:
    return [(f'{a}:{{}}', f'{b}:{{}}') for a, b in stems]
