# SPDX-License-Identifier: Apache-2.0
"""Suite paraphrase: is a held-out paraphrase nearer than a sentence of another concept?

A triple is a training paraphrase (the anchor), a held-out paraphrase of the same concept, and a
distractor that differs in one slot: object, verb, direction, state or negation. Among the
paraphrases of the other concept, the distractor shares the most words with the anchor, so that
word overlap is mostly wrong (the row `shared words`). Every slot has equal weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from vljepa_ros.core.protocols import Language
from vljepa_ros.data.simulators.mwstream.meanings import (
    AUXILIARY,
    denials,
    doing,
    sentences,
    words,
)
from vljepa_ros.data.simulators.mwstream.tasks import (
    BARE,
    COLOR_NAMES,
    TASKS,
    THINGS,
    TRAIN_TASKS,
)
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import in_turn
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import mean

MARK, TRIPLES_A_SLOT = 0.90, 100

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

Pair = tuple[str, str]  # concept ids, with {} for the color


@dataclass(frozen=True)
class Triple:
    """`same` is a paraphrase of `anchor`, `other` is not. `kind` is the pair of concepts."""

    kind: str
    anchor: str
    same: str
    other: str


def paraphrase(context: Context) -> Report:
    """Evaluate the fraction of triples with the paraphrase nearer, per slot and overall."""
    found = {slot: triples(slot) for slot in SLOTS}
    right: dict[str, list[float]] = {}
    for slot in context.each(list(found), 'triples'):
        right[slot] = nearer(context.language, found[slot])
    rows = [
        Row('ours', slot, mean(right[slot], clusters=[t.kind for t in found[slot]]))
        for slot in found
    ]
    slots = [slot for slot in found for _ in found[slot]]
    kinds = [triple.kind for slot in found for triple in found[slot]]
    everything = [value for slot in found for value in right[slot]]
    counted = [float(shares_more(triple)) for slot in found for triple in found[slot]]
    rows += [
        Row('ours', 'all', mean(everything, slots, clusters=kinds), MARK),
        Row('shared words', 'all', mean(counted, slots, clusters=kinds)),
    ]
    return Report('paraphrase', tuple(rows), (f'{len(kinds)} triples of texts.',))


def triples(slot: str, count: int = TRIPLES_A_SLOT) -> list[Triple]:
    """Return the slot's triples: pairs of each phase in turn, with random color and paraphrase."""
    rng, pairs = np.random.default_rng(0), SLOTS[slot]()
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    turns = in_turn(shuffled, lambda pair: pair[0].partition(':')[0])
    return [_triple(turns[i % len(turns)], rng) for i in range(count)]


def nearer(language: Language, found: Sequence[Triple]) -> list[float]:
    """Return 1 for each triple whose anchor is nearer to the paraphrase, else 0."""
    anchor, same, other = (
        language.encode(texts) for texts in zip(*((t.anchor, t.same, t.other) for t in found))
    )
    return [float(a @ s > a @ o) for a, s, o in zip(anchor, same, other, strict=True)]


def shares_more(triple: Triple) -> bool:
    """Return whether the anchor shares more words with the paraphrase."""
    return _overlap(triple.anchor, triple.same) > _overlap(triple.anchor, triple.other)


def negate(text: str) -> str:
    """Negate a sentence ('the drawer is not open'); '' without auxiliary or if negated."""
    return next(iter(denials(text)), '') if AUXILIARY.search(text) else ''


def _triple(pair: Pair, rng: np.random.Generator) -> Triple:
    colour = str(rng.choice(COLOR_NAMES))
    meaning, changed = (name.format(colour) for name in pair)
    same = str(rng.choice(sentences(meaning, 'heldout')))
    if pair[0] == pair[1]:
        anchor = str(rng.choice([text for text in sentences(meaning) if negate(text)]))
        return Triple('/'.join(pair), anchor, same, negate(anchor))
    anchor = str(rng.choice(sentences(meaning)))
    others = (*sentences(changed), *sentences(changed, 'heldout'))
    return Triple('/'.join(pair), anchor, same, max(others, key=lambda t: _overlap(anchor, t)))


def _overlap(one: str, other: str) -> float:
    """Return the Jaccard index of the words."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) / len(a | b)


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
    return [(m, m) for m in found if any(negate(text) for text in sentences(m.format('red')))]


SLOTS: dict[str, Callable[[], list[Pair]]] = {
    'object': _objects,
    'verb': _verbs,
    'direction': _directions,
    'state': _states,
    'negation': _negations,
}


def _both(names: Iterable[str]) -> list[tuple[str, str]]:
    return list(permutations(names, 2))


def _with_colors(stems: Iterable[tuple[str, str]]) -> list[Pair]:
    return [(f'{a}:{{}}', f'{b}:{{}}') for a, b in stems]
