# SPDX-License-Identifier: Apache-2.0
"""Suite paraphrase: is a held-out paraphrase nearer than a sentence of another concept?

A triple is a training paraphrase (the anchor), a held-out paraphrase of the same concept, and a
distractor that differs in one slot: object, verb, direction, state or negation. Among the
paraphrases of the other concept, the distractor shares the most words with the anchor, so that a
decision by shared words is mostly wrong (the row `shared words`). Every slot has equal weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vljepa_ros.core.protocols import Language
from vljepa_ros.data.concepts import ConceptSet
from vljepa_ros.data.english import with_not, words
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.moments import in_turn
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import mean

TARGET, TRIPLES_A_SLOT = 0.90, 100

Pair = tuple[str, str]  # concept ids, with {} for the color


@dataclass(frozen=True)
class Triple:
    """Sentences to compare: `same` is a paraphrase of `anchor`, `other` is the distractor.

    `kind`: ids of the two concepts.
    """

    kind: str
    anchor: str
    same: str
    other: str


def paraphrase(context: Context) -> Report:
    """Return the fraction of triples whose paraphrase is nearer, per slot and overall."""
    concepts = context.concepts
    pairs = concepts.contrasts()
    if not pairs:
        return Report('paraphrase', (), ('These streams have no concepts to contrast.',))
    found = {slot: triples(concepts, pairs[slot]) for slot in pairs}
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
        Row('ours', 'all', mean(everything, slots, clusters=kinds), TARGET),
        Row('shared words', 'all', mean(counted, slots, clusters=kinds)),
    ]
    return Report('paraphrase', tuple(rows), (f'{len(kinds)} triples of texts.',))


def triples(
    concepts: ConceptSet, pairs: Sequence[Pair], count: int = TRIPLES_A_SLOT
) -> list[Triple]:
    """Return `count` triples of concept pairs, round-robin over phases, with random sentences."""
    rng = np.random.default_rng(0)
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    turns = in_turn(shuffled, lambda pair: pair[0].partition(':')[0])
    return [_triple(concepts, turns[i % len(turns)], rng) for i in range(count)]


def nearer(language: Language, found: Sequence[Triple]) -> list[float]:
    """Return, per triple, 1 if the anchor is nearer to `same` than to `other`, else 0."""
    anchor, same, other = (
        language.encode(texts) for texts in zip(*((t.anchor, t.same, t.other) for t in found))
    )
    return [float(a @ s > a @ o) for a, s, o in zip(anchor, same, other, strict=True)]


def shares_more(triple: Triple) -> bool:
    """Return whether the anchor shares more words with `same` than with `other`."""
    return _overlap(triple.anchor, triple.same) > _overlap(triple.anchor, triple.other)


def _triple(concepts: ConceptSet, pair: Pair, rng: np.random.Generator) -> Triple:
    sentences, color = concepts.sentences, str(rng.choice(concepts.colors))
    concept, changed = (name.format(color) for name in pair)
    same = str(rng.choice(sentences(concept, 'heldout')))
    if pair[0] == pair[1]:
        anchor = str(rng.choice([text for text in sentences(concept) if with_not(text)]))
        return Triple('/'.join(pair), anchor, same, with_not(anchor))
    anchor = str(rng.choice(sentences(concept)))
    others = (*sentences(changed), *sentences(changed, 'heldout'))
    return Triple('/'.join(pair), anchor, same, max(others, key=lambda t: _overlap(anchor, t)))


def _overlap(one: str, other: str) -> float:
    """Return the Jaccard index of the words of two sentences."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) / len(a | b)
