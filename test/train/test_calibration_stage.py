# SPDX-License-Identifier: Apache-2.0
"""Fitting of confidences and abstentions, on data with known ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.synthetic_streams import film
from helpers.tiny_streaming import fresh_language

from vljepa_ros.data.format import Annotation, Stream, read_stream, write_stream
from vljepa_ros.data.questions import UNKNOWN, LabeledQuestion, answers
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.evaluate.questions import pose
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.language.generation import Hypothesis
from vljepa_ros.train import calibration_stage as module
from vljepa_ros.train.calibration_stage import (
    AnsweredQuestion,
    calibrate,
    choose,
    cross_validated_loss,
    fit_logistic_regression,
    negative_log_likelihood,
    predict_answers,
    recalibrate,
    threshold,
)


@pytest.mark.parametrize(
    ('most', 'expected'),
    [
        (0.3, 0.45),  # all unanswerable, one of four answerable: the middle of the gap
        (0.25, 0.45),
        (0.2, 0.925),  # no answerable one: one of three unanswerable is above 0.9
    ],
)
def test_threshold_abstains_most_within_the_allowed_loss(most: float, expected: float) -> None:
    share = np.array([0.1, 0.2, 0.3, 0.9, 0.6, 0.8, 0.95])
    answerable = np.array([True] * 4 + [False] * 3)
    assert threshold(share, answerable, most) == pytest.approx(expected)


def test_threshold_is_one_if_abstention_does_not_help() -> None:
    both = np.array([True, False])
    assert threshold(np.array([0.9, 0.1]), both) == 1.0  # the answerable one has the greater share
    assert threshold(np.array([0.9, 0.1]), np.array([True, True])) == 1.0
    assert threshold(np.array([0.9, 0.1]), np.array([False, False])) == 1.0
    assert threshold(np.array([0.1, 0.9]), both) == pytest.approx(0.5)


def test_at_most_four_percent_of_answerable_questions_are_abstained_from() -> None:
    rng = np.random.default_rng(0)
    answerable = rng.random(4000) < 0.8
    share = np.where(answerable, rng.beta(2, 4, 4000), rng.beta(4, 2, 4000))
    found = threshold(share, answerable)
    assert 0.03 < (share[answerable] > found).mean() <= 0.04


def test_negative_log_likelihood_equals_a_manual_calculation() -> None:
    logits = np.array([[2.0, 1.0, -np.inf], [0.0, 0.0, 0.0]])
    # log(1 + 1/e) and log(3)
    assert negative_log_likelihood(logits, np.array([0, 2])) == pytest.approx(
        (0.31326169 + 1.09861229) / 2
    )


def test_logistic_regression_recovers_all_slopes() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([2.0, -1.0], [3.0, 0.5], (30_000, 2))
    y = rng.random(30_000) < 1 / (1 + np.exp(-(0.5 * x[:, 0] - 2.0 * x[:, 1] + 1.0)))
    slopes, bias = fit_logistic_regression(x, y, ridge=0.0)
    assert slopes == pytest.approx([0.5, -2.0], rel=0.06) and bias == pytest.approx(1.0, abs=0.15)
    slopes, bias = fit_logistic_regression(np.zeros((4, 0)), np.array([True, True, True, False]))
    assert slopes == [] and bias == pytest.approx(np.log((3 + 1) / (1 + 1)), abs=1e-4)


def test_only_features_that_predict_on_held_out_streams_are_chosen() -> None:
    rng = np.random.default_rng(0)
    streams = [f's{i % 10}' for i in range(2000)]
    x = rng.normal(size=(2000, 3))
    right = rng.random(2000) < 1 / (1 + np.exp(-2.0 * x[:, 1]))
    assert choose(x, right, streams, 3) == [1]
    assert choose(x, rng.random(2000) < 0.7, streams, 3) == []
    assert choose(x, right, streams, 1) == [0, 1, 2]  # the informative feature is among the many
    assert choose(x, rng.random(2000) < 0.7, streams, 1) == []
    assert choose(x, right, ['s0', 's1', 's2', 's3'] * 500, 1) == []  # too few streams
    clear = x[:, :2] > 0
    assert choose(clear[:9].astype(float), clear[:9, 0], streams[:9], 0) == [0, 1]
    assert choose(clear[:7].astype(float), clear[:7, 0], streams[:7], 0) == []  # 4 rows a column


def test_cross_validated_loss_is_computed_on_held_out_folds() -> None:
    fold = np.repeat([0, 1], 50)
    right = fold == 0  # each half predicts the wrong answer for the other
    found = cross_validated_loss(np.zeros((100, 0)), right, fold)
    assert found == pytest.approx(np.log(52), abs=1e-3)  # 1 of 50 + 2


class Table:
    """Text side with given vectors."""

    def __init__(self, vectors: dict[str, Any]) -> None:
        self.vectors = vectors

    def encode(self, texts: Sequence[str]) -> Any:
        return np.stack([self.vectors[text] for text in texts])


@pytest.mark.parametrize(('temperature', 'bias'), [(0.05, 0.0), (0.2, 1.5), (0.1, -1.0)])
def test_scale_recovers_the_temperature_and_bias_of_sampled_answers(
    temperature: float, bias: float
) -> None:
    rng = np.random.default_rng(1)
    texts = ['red', 'blue', 'green', 'cannot tell']
    language = Table(dict(zip(texts, np.eye(4), strict=True)))
    answered = []
    for vector in rng.uniform(0.0, 0.5, (3000, 4)):
        weight = np.exp(vector / temperature + bias * np.eye(4)[3])
        chosen = texts[int(rng.choice(4, p=weight / weight.sum()))]
        meaning = UNKNOWN if chosen == 'cannot tell' else f'colour:{chosen}'
        answered.append(
            AnsweredQuestion(
                LabeledQuestion('?', chosen, meaning, 'colour', tuple(texts[:3])), vector
            )
        )
    found = module.scale(language, answered, 'cannot tell')  # type: ignore[arg-type]
    assert found is not None
    assert found[0] == pytest.approx(temperature, rel=0.15) and found[1] == pytest.approx(
        bias, abs=0.3
    )
    answerable = [a for a in answered if a.answerable]
    assert module.scale(language, answerable, '')[1] == 0.0  # type: ignore[arg-type,index]
    assert module.scale(language, [], 'cannot tell') is None  # type: ignore[arg-type]


@pytest.mark.parametrize('preference', [-0.1, 0.0, 0.15])
def test_yes_bias_corrects_a_preference_for_no_if_yes_is_rare(preference: float) -> None:
    rng = np.random.default_rng(2)
    language = Table({'yes': np.array([1.0, 0.0]), 'no': np.array([0.0, 1.0])})
    answered = []
    for _ in range(4000):
        yes = rng.random() < 0.1
        margin = (0.2 if yes else -0.2) - preference + rng.normal(0.0, 0.2)
        vector = np.array([0.5 + margin / 2, 0.5 - margin / 2])
        chosen = 'yes' if yes else 'no'
        question = LabeledQuestion('?', chosen, chosen, 'yes/no', ('no', 'yes'), 'rest')
        answered.append(AnsweredQuestion(question, vector))
    found = module.yes_bias(language, answered, 0.1)  # type: ignore[arg-type]
    assert found == pytest.approx(preference / 0.1, abs=0.3)


def questions_about(number: int) -> list[AnsweredQuestion]:
    """Return the questions about some annotations, without vectors."""
    rng, answered = np.random.default_rng(0), []
    for i in range(number):
        task, thing, colour = (('drawer-open', 'drawer', 'red'), ('door-close', 'door', 'green'))[
            i % 2
        ]
        item = Annotation(0, 4, f'act:{task}:{colour}', 'act', task, thing, colour)
        for _, pool in pose(CONCEPTS, item, rng):
            vector = np.zeros(1, np.float32)
            answered += [AnsweredQuestion(q, vector, f's{i % 5}', CONCEPTS) for q in pool]
    return answered


def test_a_calibrated_model_abstains_from_unanswerable_questions(tiny: Any) -> None:
    language = fresh_language(tiny)
    rng = np.random.default_rng(0)
    answered = []
    for a in questions_about(20):
        noise = 0.1 * rng.normal(size=tiny.facts.embedding_dim) / tiny.facts.embedding_dim**0.5
        vector = language.encode([a.question.answer])[0] + noise
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        answered.append(dataclasses.replace(a, vector=vector))
    fitted = calibrate(language, answered, 0)
    assert language.calibration == fitted and fitted.unknown == answers(UNKNOWN)[0]
    assert fitted.yes_no_temperature > 0.0 and 0.0 < fitted.abstain_above < 1.0
    abstained = {True: [], False: []}
    for a in answered:
        if a.question.candidates:
            chosen = language.rank(a.vector, a.question.candidates)[0].text
            abstained[a.answerable].append(
                language.is_unanswerable(a.vector, a.question.candidates, chosen)
            )
    assert np.mean(abstained[True]) <= 0.04 and np.mean(abstained[False]) > 0.9


def test_a_model_calibrated_without_unanswerable_questions_never_abstains(tiny: Any) -> None:
    language = fresh_language(tiny)
    answered = [
        dataclasses.replace(a, vector=language.encode([a.question.answer])[0])
        for a in questions_about(4)
        if a.answerable
    ]
    fitted = calibrate(language, answered, 0)
    assert (fitted.unknown, fitted.abstain_above) == ('', 1.0)
    assert not language.is_unanswerable(answered[0].vector, [], '')


def test_questions_of_user_annotations_are_enough_for_calibration(tiny: Any) -> None:
    language = fresh_language(tiny)
    answered = [
        AnsweredQuestion(
            LabeledQuestion('?', text, f'say:{text}', 'caption'), language.encode([text])[0], text
        )
        for text in ('a cat sits', 'a dog runs')
    ]
    fitted = calibrate(language, answered, 0)
    start = CalibrationConfig()
    assert fitted.rank_temperature == start.rank_temperature
    assert fitted.yes_no_temperature == 0.0


class CountingVision:
    """Vision side with a vector that encodes the number of tubelets."""

    def __init__(self, facts: Any) -> None:
        self.facts = facts

    def new_state(self) -> list[int]:
        return [0]

    def step(self, state: list[int], images: Any) -> None:
        assert len(images) == 2
        state[0] += 1

    def predict(self, state: list[int], prompts: Sequence[str]) -> Any:
        return np.full((len(prompts), 1), state[0], np.float32)


def test_questions_are_predicted_when_the_stream_reaches_their_moment(
    tiny: Any, tmp_path: Path
) -> None:
    stream: Stream = read_stream(write_stream(tmp_path, film('a', 0)))
    answered = predict_answers(CountingVision(tiny.facts), [stream], 0)  # type: ignore[arg-type]
    assert {a.stream for a in answered} == {'a'}
    captions = [int(a.vector[0]) for a in answered if a.question.kind == 'caption']
    # Twelve annotations of 3 s: at 0.75, 1.5 and 2.25 s of each, three prompts, five tubelets/s.
    expected = [int((3 * n + q) * 5) for n in range(12) for q in (0.75, 1.5, 2.25)]
    assert captions == [tubelet for tubelet in expected for _ in range(3)]
    others = {int(a.vector[0]) for a in answered if a.question.kind != 'caption'}
    assert others == {int((3 * n + 1.5) * 5) for n in range(12)}
    assert any(not a.answerable for a in answered)


class FakeDecoder(Table):
    """Decodes vectors with a positive first value to 'right', all others to 'wrong'."""

    calibration = CalibrationConfig(
        unknown='cannot tell', abstain_above=0.3, rank_temperature=0.09, decode_slope=7.0
    )

    def hypotheses(self, vectors: Any) -> list[list[Hypothesis]]:
        return [
            [Hypothesis('right', -0.1, 0.0, 0.9)]
            if v[0] > 0
            else [Hypothesis('wrong', -0.1, 0.0, 0.2)]
            for v in vectors
        ]


def captions_of(right: int, wrong: int) -> list[AnsweredQuestion]:
    """Return captions 'right' of two recordings, with vectors that decode to right or wrong."""
    question = LabeledQuestion('What?', 'right', 'say:right', 'caption')
    return [
        AnsweredQuestion(question, np.array([1.0 if i < right else -1.0], np.float32), f's{i % 2}')
        for i in range(right + wrong)
    ]


def test_the_direction_of_a_vector_predicts_wrong_texts() -> None:
    class ConstantDecoder(FakeDecoder):
        """Decodes every vector to the same text with the same confidence."""

        def hypotheses(self, vectors: Any) -> list[list[Hypothesis]]:
            return [[Hypothesis('right', -0.1, 0.0, 0.5)] for _ in vectors]

    rng, question = (
        np.random.default_rng(0),
        LabeledQuestion('What?', 'right', 'say:right', 'caption'),
    )
    answered = []
    for i in range(600):
        vector = rng.normal(size=3).astype(np.float32)
        true = (
            question if vector[1] > 0 else LabeledQuestion('What?', 'dark', 'say:dark', 'caption')
        )
        answered.append(AnsweredQuestion(true, vector, f's{i % 6}'))
    language: Any = ConstantDecoder({'right': np.ones(3), 'dark': -np.ones(3)})
    first, second, third = recalibrate(language, answered, 0).decode_direction
    assert second > 5 * max(abs(first), abs(third))
    assert second == round(second, 4)
    few = [dataclasses.replace(a, stream=f's{i % 4}') for i, a in enumerate(answered)]
    assert recalibrate(language, few, 0).decode_direction == ()


def test_too_few_answers_do_not_change_the_calibration() -> None:
    before = FakeDecoder.calibration
    language: Any = FakeDecoder({'right': np.ones(1)})
    assert recalibrate(language, captions_of(15, 14), 0) == before  # 29 in all
    assert recalibrate(language, captions_of(40, 4), 0) == before  # 4 wrong ones


def test_a_direction_that_cannot_be_refitted_is_replaced_by_its_mean_bias() -> None:
    before = dataclasses.replace(
        FakeDecoder.calibration, decode_bias=0.5, decode_direction=(2.0,), answer_direction=(-1.0,)
    )
    language: Any = FakeDecoder({'right': np.ones(1)})
    language.calibration = before
    found = recalibrate(language, captions_of(25, 4), 0)  # too few to fit on
    assert (found.decode_direction, found.answer_direction) == ((), ())
    assert found.decode_bias == pytest.approx(0.5 + 2.0 * 21 / 29)
    assert found.answer_bias == pytest.approx(-21 / 29)


def test_captions_refit_the_text_confidence_only() -> None:
    language: Any = FakeDecoder({'right': np.ones(1)})
    found = recalibrate(language, captions_of(40, 20), 0)
    slope, margin, cosine, words, bias, direction = found.words(asked=False)
    logit = slope * -0.1 + words * 1 + bias
    confidence = [1 / (1 + np.exp(-(logit + cosine * value))) for value in (0.9, 0.2)]
    assert confidence[0] > 0.9 and confidence[1] < 0.1 and margin == 0.0 and direction == ()
    assert language.calibration == found
    before = FakeDecoder.calibration
    kept = ('unknown', 'abstain_above', 'abstain_words_above', 'rank_temperature', 'unknown_bias')
    assert [getattr(found, key) for key in kept] == [getattr(before, key) for key in kept]


def asked_of_two(right: int, unanswerable: int) -> list[AnsweredQuestion]:
    """Return questions with two candidates, the first of which is right where there is one."""
    texts = ('right', 'wrong')
    known = LabeledQuestion('?', 'right', 'say:right', 'told', texts)
    unknown = LabeledQuestion('?', 'cannot tell', UNKNOWN, 'told', texts)
    vector = np.array([1.0, 0.0], np.float32)
    return [
        AnsweredQuestion(known if i < right else unknown, vector, f's{i % 2}')
        for i in range(right + unanswerable)
    ]


def speaker_without_unknown() -> Any:
    language: Any = FakeDecoder({'right': np.array([1.0, 0.0]), 'wrong': np.array([0.9, 0.1])})
    language.calibration = dataclasses.replace(FakeDecoder.calibration, unknown='')
    return language


def test_unanswerable_questions_do_not_count_for_a_model_that_cannot_abstain() -> None:
    found, without, few = (
        recalibrate(speaker_without_unknown(), asked_of_two(*counts), 0).rank_temperature
        for counts in ((40, 10), (40, 0), (29, 10))
    )
    assert found == without != FakeDecoder.calibration.rank_temperature
    assert few == FakeDecoder.calibration.rank_temperature


def test_unanswerable_yes_no_questions_do_not_bias_the_yes() -> None:
    language: Any = FakeDecoder(
        {'yes': np.array([1.0, 0.0]), 'no': np.array([0.0, 1.0]), 'cannot tell': np.ones(2)}
    )
    question = LabeledQuestion('?', 'cannot tell', UNKNOWN, 'yes/no', ('yes', 'no'))
    asked = [AnsweredQuestion(question, np.ones(2, np.float32), f's{i % 2}') for i in range(40)]
    assert recalibrate(language, asked, 0).yes_bias == FakeDecoder.calibration.yes_bias


def test_a_candidate_that_means_unknown_counts_once() -> None:
    texts = ('right', 'cannot tell')
    language: Any = Table({'right': np.array([1.0, 0.0]), 'cannot tell': np.array([0.0, 1.0])})
    rng = np.random.default_rng(0)
    asked: list[AnsweredQuestion] = []
    for vector in rng.uniform(0.0, 1.0, (2000, 2)).astype(np.float32):
        share = 1 / (1 + np.exp((vector[1] - vector[0]) / 0.3))
        unknown = rng.random() > share
        answer, meaning = ('cannot tell', UNKNOWN) if unknown else ('right', 'say:right')
        asked.append(
            AnsweredQuestion(LabeledQuestion('?', answer, meaning, 'told', texts), vector)
        )
    found = module.scale(language, asked, 'cannot tell')
    assert found is not None and found[1] == pytest.approx(0.0, abs=0.25)
