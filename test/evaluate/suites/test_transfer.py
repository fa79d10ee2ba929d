# SPDX-License-Identifier: Apache-2.0
"""Suite transfer: states of sentences, new events, matches, and unanswerable questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from helpers.toy_suites import ToyLanguage, ToyVision, annotation, direction

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.protocols import Model
from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.kitchen.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.meanings import LISTS, sentences
from vljepa_ros.data.simulators.mwstream.questions import prompts
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.graded_answers import reason_of
from vljepa_ros.evaluate.matching import f1, pairs
from vljepa_ros.evaluate.statistics import Mean
from vljepa_ros.evaluate.suites.transfer import (
    LabeledEvent,
    count,
    labeled_events,
    pose,
    state_in,
    state_of,
    transfer,
)

Metrics = dict[tuple[str, str], Mean]
DOORS = [f'{phase}:door-{way}' for phase in ('act', 'done') for way in ('open', 'close')]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('the robot opens the red door', 'open'),
        ('the robot opens the door', 'open'),
        ('the arm pulls the blue drawer open', 'open'),
        ('the robot pulls out the white drawer', 'open'),
        ('the microwave door is open', 'open'),
        ('the arm shuts the green door', 'close'),
        ('the robot is closing the black drawer', 'close'),
        ('the door is closed', 'close'),
        ('it is dark', 'dark'),
        ('The lights are out.', 'dark'),
        ('something covers the camera', 'covered'),
        ('the lens is covered by something', 'covered'),
        ('the robot opens the red window', ''),
        ('the robot turns on the blue faucet', ''),
        ('the arm is at rest', ''),
        ('it is not dark', ''),
        ('the arm moves toward the red door', ''),
        ('', ''),
    ],
)
def test_state_in_a_sentence(text: str, expected: str) -> None:
    assert state_in(CONCEPTS, text) == expected


@pytest.mark.parametrize('which', LISTS)
@pytest.mark.parametrize('meaning', [*DOORS, 'act:window-open', 'act:drawer-close', 'act:push'])
def test_paraphrases_of_every_color_have_the_state_of_their_concept(
    which: str, meaning: str
) -> None:
    expected = '' if 'window' in meaning or 'push' in meaning else meaning.rpartition('-')[2]
    for colour in ('red', 'white', 'any'):
        assert {state_in(CONCEPTS, text) for text in sentences(f'{meaning}:{colour}', which)} == {
            expected
        }


def test_state_of_a_concept() -> None:
    meanings = ['rest', 'dark', 'covered', 'act:door-open:any', 'done:door-close:any']
    assert [state_of(meaning) for meaning in meanings] == ['', 'dark', 'covered', 'open', 'close']


def test_any_visible_state_after_dark_is_labeled_light_back() -> None:
    predicted = ['', 'dark', '', 'open', 'dark', 'open', 'covered', 'dark', 'covered', '']
    found = labeled_events([float(i) for i in range(10)], predicted)
    assert [event.at_s for event in found] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [event.label for event in found] == [
        'dark',
        'light back',
        'open',
        'dark',
        'light back',
        'covered',
        'dark',
        'covered',
        'uncovered',
    ]


def test_a_constant_stream_has_no_events() -> None:
    assert labeled_events([0.0], ['dark']) == [] and labeled_events([], []) == []


def maximum_pair_count(predicted: Sequence[float], true: Sequence[float], within: float) -> int:
    """Return the maximum by exhaustive search."""
    for size in range(min(len(predicted), len(true)), 0, -1):
        for chosen in combinations(true, size):
            for order in permutations(predicted, size):
                if all(abs(a - b) <= within for a, b in zip(order, chosen, strict=True)):
                    return size
    return 0


def test_pair_count_is_the_maximum() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        predicted, true = (rng.integers(0, 12, rng.integers(0, 5)) / 2 for _ in range(2))
        assert pairs(list(predicted), list(true), 1.0) == maximum_pair_count(predicted, true, 1.0)


def test_paired_events_are_at_most_one_second_apart() -> None:
    assert pairs([3.3], [4.3], 1.0) == pairs([4.3], [3.3], 1.0) == 1
    assert pairs([3.2], [4.3], 1.0) == pairs([4.3], [3.2], 1.0) == 0
    assert pairs([1.0, 1.1], [1.0], 1.0) == 1 and pairs([], [1.0], 1.0) == 0


def test_f1_is_computed_over_all_events_of_all_streams() -> None:
    counts = np.array([[2.0, 4.0, 2.0], [0.0, 0.0, 4.0]])
    found = f1(counts, ['a', 'b'])
    assert found.value == pytest.approx(2 * 2 / (4 + 6)) and found.count == 6
    assert found.low == 0.0 and found.high >= 2 * 2 / (4 + 2)  # bounds: a stream drawn twice
    assert np.isnan(f1(np.zeros((2, 3)), ['a', 'b']).value)


def test_only_events_of_the_same_label_match() -> None:
    predicted = [
        [LabeledEvent(1.0, 'open'), LabeledEvent(5.0, 'close'), LabeledEvent(9.0, '')],
        [],
    ]
    true = [[LabeledEvent(1.5, 'open'), LabeledEvent(5.0, 'open')], [LabeledEvent(2.0, 'dark')]]
    assert count(predicted, true, ('open',)).tolist() == [[1, 1, 2], [0, 0, 0]]
    assert count(predicted, true, ('open', 'close')).tolist() == [[1, 2, 2], [0, 0, 0]]
    assert count(predicted, true, ('dark',)).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert count(predicted, true).tolist() == [[2, 3, 2], [0, 0, 1]]


class AnsweringVision(ToyVision):
    """Vision side that also answers questions about light, cover and absent objects."""

    def predict(self, state: list[Any], prompts_: Sequence[str]) -> Any:
        """Return one answer per prompt."""
        return np.stack([self._answer(state, prompt) for prompt in prompts_])

    def _answer(self, state: list[Any], prompt: str) -> Any:
        seen = super().predict(state, [prompt])[0]
        if prompt == 'What is happening?':
            return seen
        for topic in ('dark', 'covered'):
            if prompt in prompts(topic, 'heldout'):
                return direction('yes' if (seen == direction(topic)).all() else 'no')
        return direction('unknown')


class ColorlessLanguage(ToyLanguage):
    """Sentences without a color refer to red objects; unanswerable questions are detected."""

    def encode(self, texts: Sequence[str]) -> Any:
        """Return the vectors of the texts' concepts, (N, D)."""
        bare = {
            text: f'{meaning}:red'
            for meaning in DOORS
            for which in LISTS
            for text in sentences(f'{meaning}:any', which)
        }
        return np.stack(
            [direction(bare.get(text) or toy_suites.known().get(text, text)) for text in texts]
        )

    def is_unanswerable(self, vector: Any, candidates: Sequence[str], text: str) -> bool:
        """Return whether it is the answer."""
        return float(vector @ direction('unknown')) > 0.9


def model(vision: ToyVision) -> Model:
    return Model(toy_suites.FACTS, vision, ColorlessLanguage())


def kitchen_stream(folder: Path, name: str) -> Stream:
    """Return rest, an opening door, dark, rest, cover and a closing door, three seconds each."""
    scenes = [
        annotation('act', 'door-open'),
        annotation('done', 'door-open'),
        annotation('dark', light=False),
        annotation('rest'),
        annotation('covered', light=False, covered=True),
        annotation('rest'),
        annotation('act', 'door-close'),
        annotation('done', 'door-close'),
    ]
    stream = toy_suites.film(folder, name, scenes, simulator='kitchen')
    plain = [replace(a, meaning=a.meaning.replace(':red', ':any')) for a in stream.annotations]
    return replace(stream, annotations=tuple(plain))


@pytest.fixture
def streams(tmp_path: Path) -> list[Stream]:
    return [kitchen_stream(tmp_path, name) for name in 'ab']


@pytest.fixture
def run_transfer(streams: list[Stream]) -> Callable[[ToyVision], Metrics]:
    def run(vision: ToyVision) -> Metrics:
        report = transfer(Context(model(vision), streams))
        assert all(row.target is None for row in report.rows)  # reported without targets
        return {(row.who, row.what): row.mean for row in report.rows}

    return run


def test_perfect_vision_labels_all_events(run_transfer: Callable[[ToyVision], Metrics]) -> None:
    found = run_transfer(AnsweringVision())
    for kind, events in (('light', 2), ('cover', 2), ('open', 2), ('close', 2), ('all', 8)):
        for who in ('ours', 'oracle'):
            mean = found[who, f'labeled F1: {kind}']
            assert (mean.value, mean.count) == (1.0, 2 * events)
        assert found['blind', f'labeled F1: {kind}'].value < 0.5
    assert found['ours', 'F1: boundaries'] == Mean(1.0, 1.0, 1.0, 16)


def test_a_wrong_direction_is_a_false_positive_and_a_false_negative(
    run_transfer: Callable[[ToyVision], Metrics],
) -> None:
    found = run_transfer(
        AnsweringVision(lambda m: 'act:door-close:red' if m == 'act:door-open:red' else m)
    )
    assert found['ours', 'labeled F1: open'].value == pytest.approx(2 * 1 / (1 + 2))
    assert found['ours', 'labeled F1: close'].value == pytest.approx(2 * 2 / (3 + 2))
    assert found['ours', 'labeled F1: all'].value == pytest.approx(2 * 7 / (8 + 8))
    assert found['ours', 'labeled F1: light'].value == 1.0
    assert found['ours', 'F1: boundaries'].value == 1.0
    assert found['oracle', 'labeled F1: open'].value == 1.0


def test_undetected_darkness_also_misses_the_return_of_light(
    run_transfer: Callable[[ToyVision], Metrics],
) -> None:
    found = run_transfer(AnsweringVision(lambda m: 'rest' if m == 'dark' else m))
    assert found['ours', 'labeled F1: light'].value == 0.0
    assert found['ours', 'labeled F1: cover'].value == 1.0
    # One of 8 boundaries is lost: rest after undetected darkness starts no event.
    assert found['ours', 'F1: boundaries'].value == pytest.approx(2 * 7 / (7 + 8))


def test_abstention_rates_of_unanswerable_and_answerable_questions(
    run_transfer: Callable[[ToyVision], Metrics],
) -> None:
    found = run_transfer(AnsweringVision())
    # 9 annotations per stream; the first is too early, and one of the other 8 is covered.
    for who in ('ours', 'oracle'):
        unanswerable = found[who, 'abstained: unanswerable']
        answerable = found[who, 'abstained: answerable']
        assert (unanswerable.value, unanswerable.count) == (1.0, 32)
        assert (answerable.value, answerable.count) == (0.0, 30)
        assert found[who, 'accuracy: answerable, yes and no balanced'].value == 1.0
    assert found['ours', 'abstained: unanswerable, colour'].count == 16
    assert found['ours', 'abstained: unanswerable, state'].count == 16
    found = run_transfer(ToyVision(answer='no'))
    assert found['ours', 'abstained: unanswerable'].value == 0.0
    assert found['ours', 'accuracy: answerable, yes and no balanced'].value == 0.5


def test_unanswerable_questions_name_no_object_of_the_kitchen(streams: list[Stream]) -> None:
    posed = pose(CONCEPTS, streams * 20)
    kitchen_objects = (
        'door',
        'drawer',
        'faucet',
        'handle',
        'dial',
        'button',
        'window',
        'plate',
        'lever',
    )
    for p in posed:
        topic, prompt = p.question.topic, p.question.prompt
        if reason_of(p):
            assert topic in ('colour', 'state') and p.question.meaning == 'unknown'
            assert not any(f' {thing}' in prompt for thing in kitchen_objects), prompt
        else:
            expected = {'covered': p.item.covered, 'dark': not p.item.light}[topic]
            assert p.question.answer == ('yes' if expected else 'no')
            assert prompt in prompts(topic, 'heldout')
            assert topic == 'covered' or not p.item.covered
    assert {p.question.topic for p in posed} == {'colour', 'state', 'covered', 'dark'}
    assert [p.question for p in pose(CONCEPTS, streams)] == [
        p.question for p in pose(CONCEPTS, streams)
    ]


def test_the_command_reads_kitchen_streams_or_names_the_command_to_record_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: model(AnsweringVision()))
    arguments = ['evaluate', 'transfer', '--data', str(tmp_path), '--jobs', '1', '--json']
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert f'`vljepa data kitchen --out {tmp_path}`' in err and err.count('\n') == 1
    kitchen_stream(tmp_path / 'kitchen', 'a')
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['split'], found['streams']) == ('kitchen', 1)
    assert [suite['suite'] for suite in found['suites']] == ['transfer']
