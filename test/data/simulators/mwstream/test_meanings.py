# SPDX-License-Identifier: Apache-2.0
"""Paraphrases, their lists, the lexicon and the questions, without a simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import answer_concept
from vljepa_ros.data.simulators.mwstream.meanings import (
    LISTS,
    is_right,
    meanings,
    sentences,
    without_color,
    words,
)
from vljepa_ros.data.simulators.mwstream.questions import (
    TOPICS,
    LabeledQuestion,
    answers,
    full_answers,
    negated_states,
    prompts,
    questions,
    reached_state,
)
from vljepa_ros.data.simulators.mwstream.tasks import (
    BARE,
    COLOR_NAMES,
    TASKS,
    TEST_TASKS,
    TRAIN_TASKS,
    held_out_color,
    meaning_of,
    training_colors,
)

ALL = meanings(tuple(TASKS))


def test_five_of_fifty_tasks_are_held_out() -> None:
    assert len(TASKS) == 50 and len(TRAIN_TASKS) == 45
    assert set(TEST_TASKS) == {
        'bin-picking',
        'box-close',
        'door-lock',
        'door-unlock',
        'hand-insert',
    }


def test_paraphrase_lists_share_no_sentence() -> None:
    lists = [{t for m in ALL for t in sentences(m, which)} for which in (*LISTS, 'read')]
    assert len(set().union(*lists)) == sum(map(len, lists))


RED = [m for m in ALL if m in BARE or m.endswith(':red')]
STOP = set(
    words(
        'a an the of to in on at by it is are was be been being has have had and or not no with'
        ' from its out into over up down for as that this there than all so their them'
    )
)


INVERSIONS = [('is', 'is not'), ('has', 'has not'), ('robot', 'mug')]
INVERSIONS += [
    pair
    for a, b in (
        ('open', 'closed'),
        ('opens', 'closes'),
        ('up', 'down'),
        ('in', 'out'),
        ('into', 'out of'),
        ('on', 'off'),
        ('forward', 'back'),
        ('pulls', 'pushes'),
        ('pulled', 'pushed'),
        ('lifts', 'lowers'),
        ('front', 'side'),
    )
    for pair in ((a, b), (b, a))
]


@pytest.mark.parametrize('which', LISTS)
def test_every_paraphrase_expresses_its_own_concept(which: str) -> None:
    wrong = [(m, text) for m in RED for text in sentences(m, which) if not is_right(m, text)]
    assert wrong == []


def test_every_concept_has_nine_training_and_three_held_out_paraphrases() -> None:
    few = [m for m in RED if len(sentences(m, 'train')) < 9 or len(sentences(m, 'heldout')) < 3]
    assert few == []


def test_each_held_out_paraphrase_has_a_word_unseen_in_training() -> None:
    for meaning in RED:
        training = (*sentences(meaning, 'train'), *sentences(meaning, 'read'))
        known = {word for text in training for word in words(text)}
        for text in sentences(meaning, 'heldout'):
            assert set(words(text)) - known - STOP, (meaning, text)


def test_a_sentence_belongs_to_one_concept() -> None:
    lists = (*LISTS, 'read')
    texts = [text.lower() for m in RED for which in lists for text in sentences(m, which)]
    assert len(texts) == len(set(texts))


def test_sentences_without_color_are_the_same_for_every_color() -> None:
    bare = without_color('act:drawer-open:red')
    assert bare == 'act:drawer-open:any' and without_color('rest') is None
    colored = sentences('act:drawer-open:red')
    assert sentences(bare) == tuple(text.replace('red ', '') for text in colored)


@pytest.mark.parametrize(
    ('meaning', 'text'),
    [
        ('act:drawer-open:red', 'the robot closes the red drawer'),
        ('act:drawer-open:red', 'the robot opens the blue drawer'),
        ('act:drawer-open:red', 'the robot opens the red window'),
        ('act:drawer-open:red', 'the red drawer is open'),
        ('act:drawer-open:red', 'the arm moves toward the red drawer'),
        ('reach:drawer:red', 'the robot opens the red drawer'),
        ('rest', 'it is dark'),
        ('dark', 'the arm is at rest'),
        ('act:plate-slide:green', 'the robot slides the green plate sideways into the goal'),
        ('act:drawer-open:red', 'the robot is not opening the red drawer'),
        ('done:drawer-open:red', 'the red drawer is not open'),
        ('done:drawer-open:red', 'the red drawer has been pushed open'),
        ('act:handle-pull:red', 'the robot pulls the red handle on the front down'),
        ('done:assembly:blue', 'the blue ring is off the peg'),
        ('rest', 'the robot is moving'),
        ('rest', 'the mug is at rest'),
        ('covered', 'something blocks the drawer'),
    ],
)
def test_a_sentence_with_one_wrong_slot_does_not_express_the_concept(
    meaning: str, text: str
) -> None:
    assert not is_right(meaning, text)


def test_few_sentences_with_one_inverted_word_express_the_concept() -> None:
    inverted = [
        (meaning, text.replace(f' {word} ', f' {other} ', 1))
        for meaning in RED
        for text in (f'{sentence} ' for sentence in sentences(meaning))
        for word, other in INVERSIONS
        if f' {word} ' in text
    ]
    right = [pair for pair in inverted if is_right(*pair)]
    assert len(inverted) > 1000 and len(right) < 0.03 * len(inverted), right


def test_one_color_per_task_is_held_out_of_training() -> None:
    seen = set(meanings(TRAIN_TASKS, held_out_colors=False))
    for task in TRAIN_TASKS:
        assert len(training_colors(task)) == len(COLOR_NAMES) - 1
        assert meaning_of(task, 'act', held_out_color(task)) not in seen
    assert seen < set(ALL)


def test_an_unknown_concept_is_named() -> None:
    with pytest.raises(InputError, match='act:fly:red'):
        sentences('act:fly:red')


def annotation(phase: str, **more: Any) -> Annotation:
    """Return an annotation of opening the red drawer next to a blue tin."""
    facts = {'light': phase not in ('dark', 'covered'), 'covered': phase == 'covered'}
    state = {'rest': 'closed', 'done': 'open'}.get(phase, '')
    meaning = meaning_of('drawer-open', phase, 'red')
    values = {'object_state': state, 'thing': 'blue tin', **facts, **more}
    return Annotation(0, 5, meaning, phase, 'drawer-open', 'drawer', 'red', **values)


def questions_about(
    phase: str, which: str = 'train', seeds: int = 40, **more: Any
) -> list[LabeledQuestion]:
    """Return all questions of some draws."""
    item = annotation(phase, **more)
    return [
        q for seed in range(seeds) for q in questions(item, np.random.default_rng(seed), which)
    ]


TRUTH = {
    'rest': lambda phase, prompt: phase == 'rest',
    'moving': lambda phase, prompt: phase in ('reach', 'contact', 'act'),
    'light': lambda phase, prompt: True,
    'dark': lambda phase, prompt: False,
    'covered': lambda phase, prompt: False,
    'finished': lambda phase, prompt: phase == 'done',
    'present': lambda phase, prompt: 'blue tin' in prompt,
    'doing': lambda phase, prompt: phase == 'act' and 'opening the red drawer' in prompt,
    'reaching': lambda phase, prompt: phase == 'reach' and 'red drawer' in prompt,
    'state': lambda phase, prompt: (' open' in prompt) == (phase == 'done'),
}


@pytest.mark.parametrize('which', LISTS)
@pytest.mark.parametrize('phase', ['rest', 'reach', 'contact', 'act', 'done'])
def test_yes_no_answers_are_true(phase: str, which: str) -> None:
    found = [
        q for q in questions_about(phase, which) if q.kind == 'yes/no' and q.meaning != 'unknown'
    ]
    assert len({q.topic for q in found}) >= 5
    for q in found:
        assert q.answer == ('yes' if TRUTH[q.topic](phase, q.prompt) else 'no'), q
        assert q.candidates == ('yes', 'no')


def test_yes_no_topics_have_both_answers() -> None:
    for topic in ('doing', 'reaching', 'state', 'present'):
        phases = ('rest', 'reach', 'act', 'done')
        found = {q.answer for phase in phases for q in questions_about(phase) if q.topic == topic}
        assert found >= {'yes', 'no'}, topic


def test_choices_contain_the_visible_objects() -> None:
    for q in questions_about('act'):
        if q.kind == 'object':
            assert q.answer == 'the red drawer' and q.answer in q.candidates
        if q.kind == 'thing':
            assert q.answer == 'the blue tin' and q.answer in q.candidates
        if q.kind == 'colour' and q.meaning != 'unknown':
            assert q.answer == ('blue' if ' tin' in q.prompt else 'red')
    nothing = [q for q in questions_about('act', thing='') if q.kind == 'thing']
    assert nothing and {q.answer for q in nothing} == {'nothing else'}
    assert all(q.answer in q.candidates for q in nothing)


@pytest.mark.parametrize('phase', ['rest', 'reach', 'act', 'done'])
def test_questions_about_absent_objects_are_unanswerable(phase: str) -> None:
    found = [q for q in questions_about(phase) if q.meaning == 'unknown']
    assert found and {q.answer for q in found} == {'cannot tell'}
    for q in found:
        assert q.topic in ('state', 'colour') and q.answer not in q.candidates
        assert not {'drawer', 'tin'} & set(words(q.prompt))


def test_only_light_and_cover_are_answerable_in_the_dark() -> None:
    for q in questions_about('dark'):
        if q.topic in ('light', 'dark', 'covered'):
            assert q.answer == ('yes' if q.topic == 'dark' else 'no')
        elif q.kind != 'caption':
            assert q.meaning == 'unknown'


def test_the_light_is_unanswerable_behind_a_cover() -> None:
    found = questions_about('covered')
    assert {q.answer for q in found if q.topic == 'covered'} == {'yes'}
    rest = [q for q in found if q.topic != 'covered' and q.kind != 'caption']
    assert {q.meaning for q in rest} == {'unknown'}
    assert {q.topic for q in rest} >= {'light', 'dark', 'rest', 'colour'}


def test_a_full_answer_has_the_same_concept() -> None:
    for q in questions_about('act'):
        if q.full and q.kind == 'yes/no':
            assert q.full.startswith(q.answer)
    full = {q.full for q in questions_about('done') if q.topic == 'state'}
    assert 'yes, the drawer is open' in full
    assert 'no, it is not so that the drawer is closed' in full


def test_one_task_has_fewer_full_answers_than_requested() -> None:
    found = full_answers(np.random.default_rng(0), 300, ('drawer-open',))
    assert 30 < len(found['yes']) < 300 and len(set(found['yes'])) == len(found['yes'])
    assert not any('door ' in text for texts in found.values() for text in texts)


def test_the_first_paraphrase_of_an_answer_is_its_text() -> None:
    for phase in ('act', 'dark'):
        for q in questions_about(phase):
            if q.kind != 'caption':
                assert answers(q.meaning)[0] == q.answer


def test_prompt_lists_share_no_prompt() -> None:
    for topic in TOPICS:
        lists = [set(prompts(topic, which)) for which in LISTS]
        assert len(lists[0]) >= 9 and len(lists[1]) >= 3 and len(lists[2]) >= 1
        assert not lists[0] & lists[1] and not lists[0] & lists[2] and not lists[1] & lists[2]


@pytest.mark.parametrize('topic', TOPICS)
def test_each_held_out_prompt_has_a_word_unseen_in_training_prompts(
    topic: str,
) -> None:
    known = {word for text in prompts(topic) for word in words(text)}
    for text in prompts(topic, 'heldout'):
        assert set(words(text)) - known, text


def test_a_negated_state_is_the_opposite_state() -> None:
    found = negated_states()
    assert 'the drawer is not closed' in found['is:drawer:open']
    assert 'the ring is no longer on the peg' in found['is:ring:off']
    assert reached_state('done:drawer-open:red') == 'is:drawer:open'
    assert reached_state('act:drawer-open:red') is None


@pytest.mark.parametrize(
    ('text', 'meaning'),
    [
        ('Yes.', 'yes'),
        ('no', 'no'),
        ('I cannot tell', 'unknown'),
        ('The  red Cup', 'say:the red cup'),
    ],
)
def test_user_answers_have_a_concept(text: str, meaning: str) -> None:
    assert answer_concept(text) == meaning
