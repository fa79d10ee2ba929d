# SPDX-License-Identifier: Apache-2.0
"""Answers from a predicted vector, including abstentions and their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.fake_models import FACTS, UNREADABLE, FakeLanguage, color_vector

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import AnswerSettings
from vljepa_ros.core.types import (
    AbstainReason,
    Answer,
    Basis,
    Candidate,
    EvaluatedSpan,
    Moment,
    Vector,
    first_reason,
)
from vljepa_ros.query.answerer import Answerer
from vljepa_ros.query.question import MAX_CANDIDATES, Question

CHOICES = ['it is red', 'it is blue']


def answer_now(
    answerer: Answerer, vector: Vector, candidates: Sequence[str] = (), prompt: str = '?'
) -> Answer:
    """Answer a question about now from one answer embedding."""
    question = Question(prompt, tuple(candidates))
    return answerer.answer(question, [EvaluatedSpan(7, 7, vector)], Basis.NOW)


def answer_past(
    answerer: Answerer,
    seen: Sequence[EvaluatedSpan],
    candidates: Sequence[str] = (),
    prompt: str = '?',
    **about: Any,
) -> Answer:
    """Answer a question about the past; `about`: camera and span of the question."""
    return answerer.answer(Question(prompt, tuple(candidates), **about), seen)


def recall(
    answerer: Answerer,
    seen: Sequence[EvaluatedSpan],
    candidates: Sequence[str] = (),
    prompt: str = '?',
    own: bool = True,
    **about: Any,
) -> Answer:
    """Answer a question from stored embeddings; `about`: camera and span of the question."""
    return answerer.recall(Question(prompt, tuple(candidates), **about), seen, own)


@pytest.mark.parametrize('candidates', [CHOICES, []])
def test_an_unanswerable_question_is_an_abstention(candidates: list[str]) -> None:
    answerable = Answerer(FakeLanguage())
    unanswerable = Answerer(FakeLanguage(FACTS, unseen='red'))
    for color, abstained in (('red', True), ('blue', False)):
        vector = color_vector(color)
        answer = answer_now(unanswerable, vector, candidates)
        assert answer.abstained is abstained and color in answer.answer
        assert answer.abstain_reason.name == ('UNANSWERABLE' if abstained else 'NONE')
        known = answer_now(answerable, vector, candidates)
        assert not known.abstained
        assert (known.answer, known.confidence) == (answer.answer, answer.confidence)


def test_low_confidence_is_an_abstention() -> None:
    answerer = Answerer(FakeLanguage(), AnswerSettings(abstain_below=0.6))
    assert answer_now(answerer, color_vector('red'), ['red', 'a red one']).abstained
    assert not answer_now(answerer, color_vector('red'), CHOICES).abstained


def test_answers_are_decoded_as_answers_and_checked_for_answerability() -> None:
    arguments: list[Any] = []

    class RecordingLanguage(FakeLanguage):
        def decode(self, vectors: Any, asked: bool = False) -> Any:
            arguments.append(asked)
            return super().decode(vectors, asked)

        def is_unanswerable(self, vector: Any, candidates: Any, text: str) -> bool:
            arguments.append((list(candidates), text))
            return False

    answerer = Answerer(RecordingLanguage())
    answer_now(answerer, color_vector('blue'), CHOICES)
    answer_now(answerer, color_vector('blue'))
    assert arguments == [(CHOICES, 'it is blue'), True, ([], 'the scene is blue')]


def test_retrieved_sentences_are_marked() -> None:
    class BankLanguage(FakeLanguage):
        def decode(self, vectors: Any, asked: bool = False) -> Any:
            found = super().decode(vectors, asked)
            return [replace(d, nearest='red' in d.text) for d in found]

    answerer = Answerer(BankLanguage())
    assert answer_now(answerer, color_vector('red')).nearest
    assert not answer_now(answerer, color_vector('blue')).nearest
    assert not answer_now(answerer, color_vector('red'), CHOICES).nearest
    assert answer_past(answerer, spans_of('blue', 'red'), source='front').nearest
    assert not answer_past(answerer, spans_of('blue', 'green'), source='front').nearest
    for retrieved in (False, True):  # the text is the published one
        seen = EvaluatedSpan(
            0, 9, color_vector('red' if not retrieved else 'blue'), 'then', retrieved
        )
        assert recall(answerer, [seen, seen], source='front').nearest is retrieved


def test_vectors_of_a_standing_prompt_are_not_decoded_as_answers() -> None:
    arguments: list[bool] = []

    class RecordingLanguage(FakeLanguage):
        def decode(self, vectors: Any, asked: bool = False) -> Any:
            arguments.append(asked)
            return super().decode(vectors, asked)

    answerer = Answerer(RecordingLanguage())
    for colors in (('red',), ('red', 'blue')):
        recall(answerer, spans_of(*colors), source='front', own=False)
        recall(answerer, spans_of(*colors), source='front')
    assert arguments == [False, True, False, True]


# The past: one answer from several spans.


def spans_of(*colors: str) -> list[EvaluatedSpan]:
    """Return spans of ten seconds each."""
    return [EvaluatedSpan(10 * n, 10 * n + 9, color_vector(c)) for n, c in enumerate(colors)]


def test_open_answers_join_the_texts_of_each_span_in_order() -> None:
    answer = answer_past(
        Answerer(FakeLanguage()), spans_of('red', 'red', 'blue', 'red'), source='front'
    )
    assert answer.answer == 'the scene is red; the scene is blue; the scene is red'
    assert answer.evidence[2] == Moment('front', 20, 29, 1.0, 'the scene is blue')
    assert (len(answer.evidence), answer.stamp_ns) == (4, 39)
    assert answer.basis is Basis.FRAMES and not answer.abstained


def test_confidence_is_the_lowest_of_all_spans() -> None:
    seen = spans_of('red', 'blue')
    vague = np.asarray(0.6 * color_vector('green'), np.float32)
    answer = answer_past(Answerer(FakeLanguage()), [*seen, EvaluatedSpan(20, 29, vague)])
    assert answer.confidence == pytest.approx(0.6)


class YesForBlue(FakeLanguage):
    """Answers yes for blue; questions about green are unanswerable."""

    def rank(self, vector: Any, candidates: Any) -> Any:
        yes = 0.8 if vector[3] > 0.5 else 0.1
        scores = {'yes': yes, 'No.': 0.95 - yes, 'unknown': 0.01}
        return sorted((Candidate(c, scores[c]) for c in candidates), key=lambda c: -c.score)

    def is_unanswerable(self, vector: Any, candidates: Any, text: str) -> bool:
        return bool(vector[2] > 0.5)


@pytest.mark.parametrize('more', [[], ['unknown']])
def test_yes_in_one_span_answers_yes(more: list[str]) -> None:
    answerer = Answerer(YesForBlue())
    seen = spans_of('red', 'blue', 'red', 'blue', 'red')
    once = answer_past(answerer, seen, ['yes', 'No.', *more])
    assert (once.answer, once.confidence, once.stamp_ns) == ('yes', 0.8, 39)
    assert [(m.start_ns, m.text) for m in once.evidence] == [(10, 'yes'), (30, 'yes')]
    assert once.vector is not None
    np.testing.assert_allclose(once.vector, color_vector('blue'))
    never = answer_past(answerer, spans_of('red', 'red'), ['No.', 'yes', *more])
    assert (never.answer, never.confidence) == ('No.', pytest.approx(0.85))
    assert len(never.evidence) == 2


def test_confidence_in_no_scales_with_the_evaluated_fraction() -> None:
    answerer = Answerer(YesForBlue())
    most = answer_past(answerer, spans_of('red', 'green', 'red'), ['yes', 'No.'])
    assert (most.answer, most.abstained) == ('No.', False)
    assert most.confidence == pytest.approx(0.85 * 2 / 3)
    assert [c.score for c in most.ranked] == pytest.approx([0.85 * 2 / 3, 0.1 * 2 / 3])
    assert [m.start_ns for m in most.evidence] == [0, 20]
    few = answer_past(answerer, spans_of('red', 'green', 'green'), ['yes', 'No.'])
    assert few.abstained


def test_confidence_in_no_scales_with_the_stored_fraction() -> None:
    answerer, both = Answerer(YesForBlue()), ['yes', 'No.']
    held = [EvaluatedSpan(1000, 1099, color_vector('red'))]  # at the end of the requested span

    def ask(start_ns: int, color: str = 'red', count: int = 1) -> Any:
        seen = [EvaluatedSpan(s.start_ns, s.end_ns, color_vector(color)) for s in held * count]
        return answer_past(answerer, seen, both, start_ns=start_ns)

    assert ask(0).confidence == ask(1000).confidence == ask(1050).confidence == 0.85
    assert ask(967).confidence == pytest.approx(0.85 * 99 / 132) and not ask(967).abstained
    assert ask(967, count=2).confidence == pytest.approx(0.85 * 99 / 132)
    assert ask(99).abstained and ask(99).answer == 'No.'  # a tenth of the span
    # One span with yes suffices.
    assert ask(99, 'blue').confidence == 0.8 and not ask(99, 'blue').abstained
    text = answer_past(answerer, held, start_ns=99)
    assert text.answer == 'the scene is red' and not text.abstained
    assert recall(answerer, held, both, start_ns=99).abstained


def test_windows_of_a_long_span_represent_the_time_between_them() -> None:
    """Only 16 windows of a long span are evaluated: at the ends of segments and in between."""
    seen = [EvaluatedSpan(100 * n, 100 * n + 9, color_vector('red')) for n in range(1, 17)]
    answer = answer_past(Answerer(YesForBlue()), seen, ['yes', 'No.'], start_ns=100)
    assert (answer.answer, answer.confidence, answer.abstained) == ('No.', 0.85, False)


@pytest.mark.parametrize('own', [True, False])
def test_the_future_part_of_a_span_reduces_the_confidence_in_no(own: bool) -> None:
    """The span is from second 10 to second 40; seconds 10 to 25 have passed."""
    answerer, both = Answerer(YesForBlue()), ['yes', 'No.']

    def ask(end_s: float, color: str = 'red') -> Any:
        second = 10**9
        seen = [EvaluatedSpan(10 * second, 25 * second, color_vector(color))]
        span = 10 * second, round(end_s * second)
        if own:
            return answer_past(answerer, seen, both, start_ns=span[0], end_ns=span[1])
        return recall(answerer, seen, both, start_ns=span[0], end_ns=span[1])

    assert ask(0).confidence == ask(25).confidence == ask(25.9).confidence == 0.85
    assert ask(30).confidence == pytest.approx(0.85 * 15 / 20) and not ask(30).abstained
    assert ask(40).abstained and ask(40).abstain_reason is AbstainReason.NOT_SEEN
    assert ask(40).confidence == pytest.approx(0.85 / 2)
    assert ask(40, 'blue').answer == 'yes' and ask(40, 'blue').confidence == 0.8


@pytest.mark.parametrize('candidates', [['yes', 'no'], ['it is red', 'it is blue', 'it is green']])
def test_duplicate_candidates_count_once(candidates: list[str]) -> None:
    answerer = Answerer(FakeLanguage())
    seen, twice = spans_of('red', 'blue'), [candidates[0], *candidates]
    for ask in (
        lambda choice: answer_now(answerer, color_vector('red'), choice),
        lambda choice: answer_past(answerer, seen, choice),
    ):
        assert ask(twice).ranked == ask(candidates).ranked
        assert ask(twice).confidence == ask(candidates).confidence


def test_candidates_other_than_yes_and_no_are_ranked_by_mean_score() -> None:
    language = FakeLanguage()
    candidates = ['it is red', 'it is blue']
    seen = spans_of('red', 'red', 'blue')
    answer = answer_past(Answerer(language), seen, candidates)
    one, other = (
        {c.text: c.score for c in language.rank(color_vector(color), candidates)}
        for color in ('red', 'blue')
    )
    mean = {text: (2 * one[text] + other[text]) / 3 for text in one}
    assert [c.text for c in answer.ranked] == ['it is red', 'it is blue']
    assert [c.score for c in answer.ranked] == pytest.approx([mean[c.text] for c in answer.ranked])


@pytest.mark.parametrize('candidates', [CHOICES, []])
def test_unanswerable_spans_are_left_out(candidates: list[str]) -> None:
    answerer = Answerer(FakeLanguage(FACTS, unseen='red'))
    answer = answer_past(answerer, spans_of('red', 'blue', 'red'), candidates)
    assert 'blue' in answer.answer and 'red' not in answer.answer and not answer.abstained
    nothing = answer_past(answerer, spans_of('red', 'red'), candidates)
    assert nothing.abstained


def test_one_span_is_answered_from_its_vector_and_is_the_evidence() -> None:
    vector = color_vector('blue')
    question = Question('?', tuple(CHOICES), 'front')
    answer = Answerer(FakeLanguage()).answer(question, [EvaluatedSpan(3, 7, vector)], Basis.NOW)
    ranked = sorted(FakeLanguage().rank(vector, CHOICES), key=lambda c: -c.score)
    assert (answer.answer, answer.confidence) == ('it is blue', ranked[0].score)
    assert answer.evidence == (Moment('front', 3, 7, 1.0),) and answer.basis is Basis.NOW
    assert answer.stamp_ns == 7 and answer.vector is vector


def test_stored_data_of_another_prompt_abstains_from_yes_no_questions() -> None:
    answerer = Answerer(FakeLanguage())
    seen = spans_of('red', 'blue')
    answer = recall(answerer, seen, ['yes', 'no'], prompt='Is it hot?', own=False)
    assert answer.abstained and answer.basis is Basis.MEMORY and answer.ranked == ()
    assert answer.answer == 'the scene is red; the scene is blue'
    assert [moment.text for moment in answer.evidence] == ['the scene is red', 'the scene is blue']
    assert recall(answerer, seen, prompt='How hot is it?', own=False).abstained
    assert not recall(answerer, seen, prompt='What?').abstained
    assert recall(answerer, seen, ['yes', 'no', 'unknown'], own=False).ranked == ()
    chosen = recall(answerer, spans_of('blue', 'blue'), CHOICES, prompt='Which?', own=False)
    assert chosen.answer == 'it is blue' and chosen.abstained and len(chosen.ranked) == 2


def test_stored_texts_are_the_evidence() -> None:
    seen = [EvaluatedSpan(0, 9, color_vector('red'), 'it was red'), *spans_of('blue')]
    answer = recall(Answerer(FakeLanguage()), seen)
    assert answer.evidence[0].text == 'it was red'
    assert answer.answer == 'it was red; the scene is blue'


# Abstention reasons.


def test_abstention_reasons_have_a_precedence() -> None:
    order = ['UNREADABLE', 'NOT_SEEN', 'UNFAMILIAR', 'UNANSWERABLE', 'LOW_CONFIDENCE', 'NONE']
    while order:
        assert first_reason(AbstainReason[name] for name in reversed(order)).name == order.pop(0)
    assert first_reason([]) is AbstainReason.NONE


def unfamiliar(*shares: float, color: str = 'red') -> list[EvaluatedSpan]:
    """Return spans of ten seconds each."""
    return [
        EvaluatedSpan(10 * n, 10 * n + 9, color_vector(color), unfamiliar=share)
        for n, share in enumerate(shares)
    ]


@pytest.mark.parametrize('shares', [(0.5,), (0.5, 1.0)])
@pytest.mark.parametrize('candidates', [CHOICES, ['yes', 'no'], []])
def test_texts_of_unfamiliar_scenes_are_withheld(
    shares: tuple[float, ...], candidates: list[str]
) -> None:
    language = FakeLanguage()
    answer = answer_past(Answerer(language), unfamiliar(*shares), candidates, source='front')
    assert answer.abstained and answer.abstain_reason is AbstainReason.UNFAMILIAR
    assert (answer.answer, answer.confidence, answer.ranked) == ('', 0.0, ())
    assert answer.unfamiliar == max(shares)
    assert [(m.score, m.text) for m in answer.evidence] == [(0.0, '')] * len(shares)
    assert answer.stamp_ns == 10 * len(shares) - 1 and language.decoded == 0


@pytest.mark.parametrize('candidates', [CHOICES, []])
def test_unfamiliar_spans_are_left_out(candidates: list[str]) -> None:
    seen = [*unfamiliar(0.9, color='blue'), *unfamiliar(0.0, 0.4)[1:]]
    answer = answer_past(Answerer(FakeLanguage()), seen, candidates, source='front')
    assert not answer.abstained and 'red' in answer.answer and 'blue' not in answer.answer
    assert answer.unfamiliar == 0.4
    assert [m.start_ns for m in answer.evidence] == [10]


def test_stored_texts_of_unfamiliar_scenes_are_withheld() -> None:
    seen = [EvaluatedSpan(0, 9, color_vector('red'), 'it was red', unfamiliar=0.6)]
    answer = recall(Answerer(FakeLanguage()), seen, source='front')
    assert answer.answer == answer.evidence[0].text == ''


def test_a_no_about_a_mostly_unfamiliar_span_is_withheld() -> None:
    answerer = Answerer(YesForBlue())
    one = answer_past(answerer, unfamiliar(0.0, 0.0, 0.9), ['yes', 'No.'])
    assert (one.answer, one.confidence) == ('No.', pytest.approx(0.85 * 2 / 3))
    most = answer_past(answerer, unfamiliar(0.0, 0.9, 0.9), ['yes', 'No.'])
    assert most.abstain_reason is AbstainReason.UNFAMILIAR and most.answer == ''
    blue = EvaluatedSpan(30, 39, color_vector('blue'))
    assert answer_past(answerer, [*unfamiliar(0.9, 0.9), blue], ['yes', 'No.']).answer == 'yes'


def test_no_about_a_mostly_unseen_span_is_an_abstention() -> None:
    answerer, held = Answerer(YesForBlue()), [EvaluatedSpan(1000, 1099, color_vector('red'))]
    answer = answer_past(answerer, held, ['yes', 'No.'], start_ns=99)
    assert answer.abstain_reason is AbstainReason.NOT_SEEN
    other = recall(answerer, held, ['yes', 'No.'], own=False)
    assert other.abstain_reason is AbstainReason.NOT_SEEN


@pytest.mark.parametrize('count', [1, 2])
def test_an_unreadable_question_is_an_abstention(count: int) -> None:
    answerer, seen = Answerer(FakeLanguage()), spans_of(*['red'] * count)
    mixed = [UNREADABLE, 'it is red']
    for prompt, candidates in (
        (UNREADABLE, CHOICES),
        (UNREADABLE, []),
        ('?', [UNREADABLE]),
        ('?', mixed),
    ):
        answer = answer_past(answerer, seen, candidates, prompt=prompt)
        assert answer.abstain_reason is AbstainReason.UNREADABLE and answer.abstained
        assert (answer.answer, answer.confidence, answer.ranked) == ('', 0.0, ())
        assert f"'{UNREADABLE}'" in answer.message and 'it is red' not in answer.message
    for prompt, candidates in (('?', ['it is red', 'it is blue']), ('', ()), (' ', ())):
        answer = answer_past(answerer, seen, candidates, prompt=prompt)
        assert not answer.abstained and not answer.message
    memory = recall(answerer, seen, prompt=UNREADABLE, own=False)
    assert memory.abstain_reason is AbstainReason.UNREADABLE  # before NOT_SEEN


def test_confidence_below_the_threshold_has_its_own_reason() -> None:
    answerer = Answerer(FakeLanguage(), AnswerSettings(abstain_below=0.6))
    answer = answer_now(answerer, color_vector('red'), ['red', 'a red one'])
    assert answer.abstain_reason is AbstainReason.LOW_CONFIDENCE and answer.answer == 'red'


def test_many_unreadable_candidates_are_summarized_in_one_line() -> None:
    texts = [f'{UNREADABLE} {number} ' + 'x' * 1000 for number in range(MAX_CANDIDATES)]
    message = answer_now(Answerer(FakeLanguage()), color_vector('red'), texts).message
    assert f"'{UNREADABLE} 4 " in message and f'{MAX_CANDIDATES - 5} more' in message
    assert len(message) < 600 and '\n' not in message


@pytest.mark.parametrize('prompt', ['', ' '])
@pytest.mark.parametrize('candidates', [['yes', 'no'], ['No, it is not', 'Yes, it is', 'maybe']])
def test_yes_no_candidates_require_a_prompt(prompt: str, candidates: list[str]) -> None:
    with pytest.raises(InputError, match='prompt is empty'):
        answer_now(Answerer(FakeLanguage()), color_vector('red'), candidates, prompt=prompt)
    with pytest.raises(InputError, match='prompt is empty'):
        Question(prompt, tuple(candidates)).check()
    assert answer_now(Answerer(FakeLanguage()), color_vector('red'), candidates)
