# SPDX-License-Identifier: Apache-2.0
"""Suite paraphrase: triples of sentences, and the text sides that solve them."""

from __future__ import annotations

import re

import pytest
from helpers.toy_suites import ToyLanguage, known, names

from vljepa_ros.data.english import with_not
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.contrasts import DIRECTIONS, OPPOSITES
from vljepa_ros.data.simulators.mwstream.meanings import doing, sentences
from vljepa_ros.data.simulators.mwstream.tasks import TASKS, meaning_of
from vljepa_ros.evaluate.suites.paraphrase import (
    TARGET,
    Triple,
    nearer,
    paraphrase,
    shares_more,
)
from vljepa_ros.evaluate.suites.paraphrase import triples as triples_of

PAIRS = CONCEPTS.contrasts()


def triples(slot: str) -> list[Triple]:
    """Return the triples of a slot of Meta-World's concepts."""
    return triples_of(CONCEPTS, PAIRS[slot])


def slots_of(meaning: str) -> tuple[str, str, str]:
    """Return phase, subject and color."""
    phase, _, rest = meaning.partition(':')
    subject, _, colour = rest.rpartition(':')
    return phase, subject, colour


def test_there_are_at_least_200_triples_and_they_are_deterministic() -> None:
    assert set(PAIRS) == {'object', 'verb', 'direction', 'state', 'negation'} and TARGET == 0.9
    found = {slot: triples(slot) for slot in PAIRS}
    assert sum(len(set(each)) for each in found.values()) >= 200
    assert all(len({t.kind for t in each}) >= 18 for each in found.values())
    assert found == {slot: triples(slot) for slot in PAIRS}


@pytest.mark.parametrize('slot', list(PAIRS))
def test_the_paraphrase_is_held_out_and_expresses_the_anchors_concept(slot: str) -> None:
    for t in triples(slot):
        meaning = known()[t.anchor]
        assert t.anchor in sentences(meaning, 'train')
        assert t.same in sentences(meaning, 'heldout')
        assert known().get(t.other) != meaning and t.other != t.anchor


@pytest.mark.parametrize('slot', ['object', 'verb', 'direction', 'state'])
def test_the_distractor_keeps_phase_and_color_and_shares_the_most_words(slot: str) -> None:
    for t in triples(slot):
        own, other = slots_of(known()[t.anchor]), slots_of(known()[t.other])
        assert (own[0], own[2]) == (other[0], other[2]) and own[1] != other[1]
        anchor = set(re.findall('[a-z]+', t.anchor))
        pool = [s for w in ('train', 'heldout') for s in sentences(known()[t.other], w)]
        word_sets = [set(re.findall('[a-z]+', s)) for s in pool]
        shared = [len(anchor & w) / len(anchor | w) for w in word_sets]
        assert shared[pool.index(t.other)] == max(shared)


def objects(slot: str) -> list[tuple[str, str, str, str, str]]:
    """Return phase, own subject, other subject, own object and other object."""
    found = []
    for t in triples(slot):
        phase, own, _ = slots_of(known()[t.anchor])
        other = slots_of(known()[t.other])[1]
        things = [TASKS[s].object if s in TASKS else s for s in (own, other)]
        found.append((phase, own, other, *things))
    return found  # type: ignore[return-value]


def test_the_distractor_differs_in_the_named_slot() -> None:
    for phase, own, other, thing, other_thing in objects('object'):
        assert thing != other_thing
        if phase in ('act', 'done'):
            assert doing(own, '').split()[0] == doing(other, '').split()[0]
    for phase, own, other, thing, other_thing in objects('verb'):
        assert phase == 'act' and thing == other_thing
        assert doing(own, '').split()[0] != doing(other, '').split()[0]
    for phase, own, other, *_ in objects('direction'):
        assert phase == 'act' and {(own, other), (other, own)} & set(DIRECTIONS)
    for phase, own, other, *_ in objects('state'):
        assert phase == 'done' and {(own, other), (other, own)} & set(OPPOSITES)


def test_object_triples_cover_all_phases() -> None:
    phases = [phase for phase, *_ in objects('object')]
    assert {phase: phases.count(phase) >= 12 for phase in phases} == dict.fromkeys(
        ('reach', 'contact', 'appear', 'gone', 'act', 'done'), True
    )


def test_contrasting_tasks_are_trained_and_share_their_object() -> None:
    for a, b in (*DIRECTIONS, *OPPOSITES):
        assert TASKS[a].object == TASKS[b].object
        assert {meaning_of(a, 'done', 'red'), meaning_of(b, 'done', 'red')} <= set(names())
    for a, b in OPPOSITES:
        if TASKS[a].after:
            assert (TASKS[a].before, TASKS[a].after) == (TASKS[b].after, TASKS[b].before)


@pytest.mark.parametrize(
    ('text', 'negated'),
    [
        ('the red drawer is open', 'the red drawer is not open'),
        ('the robot has opened the door', 'the robot has not opened the door'),
        ('the door is open and is red', 'the door is not open and is red'),
        ('the lights are out', 'the lights are not out'),
        ('the ring is no longer on the peg', ''),
        ('the robot is not moving', ''),
        ('nothing is happening', ''),
        ("it isn't so and is late", ''),
        ('the robot opens the door', ''),
        ('this island has', 'this island has not'),
    ],
)
def test_a_sentence_is_negated_at_most_once(text: str, negated: str) -> None:
    assert with_not(text) == negated


def test_negation_triples_negate_the_anchor() -> None:
    found = triples('negation')
    assert all(t.other.replace(' not', '', 1) == t.anchor for t in found)
    phases = {known()[t.anchor].partition(':')[0] for t in found}
    assert {'act', 'done', 'reach', 'contact', 'rest', 'dark', 'covered'} <= phases


@pytest.mark.parametrize('slot', list(PAIRS))
def test_concept_vectors_solve_the_triples_and_word_overlap_does_not(slot: str) -> None:
    found = triples(slot)
    assert nearer(ToyLanguage(), found) == [1.0] * len(found)  # type: ignore[arg-type]
    assert sum(map(shares_more, found)) / len(found) < 0.3


def test_a_tie_is_not_a_correct_triple() -> None:
    triple = Triple('', 'the robot is idle', 'the arm is at rest', 'the robot stands still')
    assert nearer(ToyLanguage(), [triple]) == [0.0]  # type: ignore[arg-type]
    assert shares_more(Triple('', 'a b', 'a c', 'a c')) is False
    assert shares_more(Triple('', 'a b', 'a b', 'a c')) is True


def test_the_report_has_a_row_per_slot_and_one_for_all() -> None:
    report = paraphrase(TextSideContext())  # type: ignore[arg-type]
    rows = {(row.who, row.what): row for row in report.rows}
    assert [rows['ours', slot].mean.value for slot in PAIRS] == [1.0] * 5
    assert rows['ours', 'all'].target == 0.9 and rows['ours', 'all'].mean.count == 500
    assert rows['shared words', 'all'].mean.value < 0.2


class TextSideContext:
    """A context with a text side only."""

    language = ToyLanguage()
    concepts = CONCEPTS

    def each(self, items: list[str], name: str) -> list[str]:
        return items
