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
from vljepa_ros.evaluate.matching import f1, pairs
from vljepa_ros.evaluate.statistics import Mean
from vljepa_ros.evaluate.suites.calibrate import reason_of
from vljepa_ros.evaluate.suites.transfer import (
    Labelled,
    count,
    labelled,
    pose,
    state_in,
    state_of,
    transfer,
)

Figures = dict[tuple[str, str], Mean]
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
def test_what_a_sentence_says(text: str, expected: str) -> None:
    assert state_in(CONCEPTS, text) == expected


@pytest.mark.parametrize('which', LISTS)
@pytest.mark.parametrize('meaning', [*DOORS, 'act:window-open', 'act:drawer-close', 'act:push'])
def test_every_wording_says_what_it_means_in_every_color(which: str, meaning: str) -> None:
    expected = '' if 'window' in meaning or 'push' in meaning else meaning.rpartition('-')[2]
    for colour in ('red', 'white', 'any'):
        assert {state_in(CONCEPTS, text) for text in sentences(f'{meaning}:{colour}', which)} == {
            expected
        }


def test_what_a_meaning_says() -> None:
    given = ['rest', 'dark', 'covered', 'act:door-open:any', 'done:door-close:any']
    assert [state_of(meaning) for meaning in given] == ['', 'dark', 'covered', 'open', 'close']


def test_what_follows_on_the_dark_has_the_light_back_whatever_it_says() -> None:
    said = ['', 'dark', '', 'open', 'dark', 'open', 'covered', 'dark', 'covered', '']
    found = labelled([float(i) for i in range(10)], said)
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


def test_a_stream_of_one_sentence_has_no_event() -> None:
    assert labelled([0.0], ['dark']) == [] and labelled([], []) == []


def most_pairs(said: Sequence[float], true: Sequence[float], within: float) -> int:
    """Return the maximum by exhaustive search."""
    for size in range(min(len(said), len(true)), 0, -1):
        for chosen in combinations(true, size):
            for order in permutations(said, size):
                if all(abs(a - b) <= within for a, b in zip(order, chosen, strict=True)):
                    return size
    return 0


def test_pairs_are_as_many_as_can_be() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        said, true = (rng.integers(0, 12, rng.integers(0, 5)) / 2 for _ in range(2))
        assert pairs(list(said), list(true), 1.0) == most_pairs(said, true, 1.0)


def test_a_pair_may_be_a_second_apart_and_no_more() -> None:
    assert pairs([3.3], [4.3], 1.0) == pairs([4.3], [3.3], 1.0) == 1
    assert pairs([3.2], [4.3], 1.0) == pairs([4.3], [3.2], 1.0) == 0
    assert pairs([1.0, 1.1], [1.0], 1.0) == 1 and pairs([], [1.0], 1.0) == 0


def test_f1_is_of_all_events_of_all_streams() -> None:
    counts = np.array([[2.0, 4.0, 2.0], [0.0, 0.0, 4.0]])
    found = f1(counts, ['a', 'b'])
    assert found.value == pytest.approx(2 * 2 / (4 + 6)) and found.count == 6
    assert found.low == 0.0 and found.high >= 2 * 2 / (4 + 2)  # twice one stream, or its events
    assert np.isnan(f1(np.zeros((2, 3)), ['a', 'b']).value)


def test_only_events_of_the_same_label_match() -> None:
    said = [[Labelled(1.0, 'open'), Labelled(5.0, 'close'), Labelled(9.0, '')], []]
    true = [[Labelled(1.5, 'open'), Labelled(5.0, 'open')], [Labelled(2.0, 'dark')]]
    assert count(said, true, ('open',)).tolist() == [[1, 1, 2], [0, 0, 0]]
    assert count(said, true, ('open', 'close')).tolist() == [[1, 2, 2], [0, 0, 0]]
    assert count(said, true, ('dark',)).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert count(said, true).tolist() == [[2, 3, 2], [0, 0, 1]]


class Knowing(ToyVision):
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


class Plain(ToyLanguage):
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
    return Model(toy_suites.FACTS, vision, Plain())


def kitchen(folder: Path, name: str) -> Stream:
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
    return [kitchen(tmp_path, name) for name in 'ab']


@pytest.fixture
def figures(streams: list[Stream]) -> Callable[[ToyVision], Figures]:
    def run(vision: ToyVision) -> Figures:
        report = transfer(Context(model(vision), streams))
        assert all(row.target is None for row in report.rows)  # reported, no more
        return {(row.who, row.what): row.mean for row in report.rows}

    return run


def test_perfect_vision_tell_everything(figures: Callable[[ToyVision], Figures]) -> None:
    found = figures(Knowing())
    for kind, events in (('light', 2), ('cover', 2), ('open', 2), ('close', 2), ('all', 8)):
        for who in ('ours', 'oracle'):
            mean = found[who, f'labeled F1: {kind}']
            assert (mean.value, mean.count) == (1.0, 2 * events)
        assert found['blind', f'labeled F1: {kind}'].value < 0.5
    assert found['ours', 'F1: boundaries'] == Mean(1.0, 1.0, 1.0, 16)


def test_a_wrong_way_is_a_false_event_and_a_missed_one(
    figures: Callable[[ToyVision], Figures],
) -> None:
    found = figures(Knowing(lambda m: 'act:door-close:red' if m == 'act:door-open:red' else m))
    assert found['ours', 'labeled F1: open'].value == pytest.approx(2 * 1 / (1 + 2))
    assert found['ours', 'labeled F1: close'].value == pytest.approx(2 * 2 / (3 + 2))
    assert found['ours', 'labeled F1: all'].value == pytest.approx(2 * 7 / (8 + 8))
    assert found['ours', 'labeled F1: light'].value == 1.0
    assert found['ours', 'F1: boundaries'].value == 1.0
    assert found['oracle', 'labeled F1: open'].value == 1.0


def test_who_never_sees_the_dark_misses_the_light_as_well(
    figures: Callable[[ToyVision], Figures],
) -> None:
    found = figures(Knowing(lambda m: 'rest' if m == 'dark' else m))
    assert found['ours', 'labeled F1: light'].value == 0.0
    assert found['ours', 'labeled F1: cover'].value == 1.0
    # Of 8 boundaries one goes: rest after dark begins nothing.
    assert found['ours', 'F1: boundaries'].value == pytest.approx(2 * 7 / (7 + 8))


def test_abstentions_are_right_where_nobody_can_tell(
    figures: Callable[[ToyVision], Figures],
) -> None:
    found = figures(Knowing())
    # 9 annotations, the first of which is too early: 8, one of them covered, in two streams.
    for who in ('ours', 'oracle'):
        unanswerable = found[who, 'abstained: unanswerable']
        answerable = found[who, 'abstained: answerable']
        assert (unanswerable.value, unanswerable.count) == (1.0, 32)
        assert (answerable.value, answerable.count) == (0.0, 30)
        assert found[who, 'accuracy: answerable, yes and no balanced'].value == 1.0
    assert found['ours', 'abstained: unanswerable, colour'].count == 16
    assert found['ours', 'abstained: unanswerable, state'].count == 16
    found = figures(ToyVision(answer='no'))
    assert found['ours', 'abstained: unanswerable'].value == 0.0
    assert found['ours', 'accuracy: answerable, yes and no balanced'].value == 0.5


def test_what_is_asked_cannot_be_seen_in_a_kitchen(streams: list[Stream]) -> None:
    posed = pose(CONCEPTS, streams * 20)
    here = ('door', 'drawer', 'faucet', 'handle', 'dial', 'button', 'window', 'plate', 'lever')
    for p in posed:
        topic, prompt = p.question.topic, p.question.prompt
        if reason_of(p):
            assert topic in ('colour', 'state') and p.question.meaning == 'unknown'
            assert not any(f' {thing}' in prompt for thing in here), prompt
        else:
            told = {'covered': p.item.covered, 'dark': not p.item.light}[topic]
            assert p.question.answer == ('yes' if told else 'no')
            assert prompt in prompts(topic, 'heldout')
            assert topic == 'covered' or not p.item.covered
    assert {p.question.topic for p in posed} == {'colour', 'state', 'covered', 'dark'}
    assert [p.question for p in pose(CONCEPTS, streams)] == [
        p.question for p in pose(CONCEPTS, streams)
    ]


def test_the_command_reads_the_kitchen_or_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: model(Knowing()))
    given = ['evaluate', 'transfer', '--data', str(tmp_path), '--jobs', '1', '--json']
    assert main(given) == 2
    err = capsys.readouterr().err
    assert f'`vljepa data kitchen --out {tmp_path}`' in err and err.count('\n') == 1
    kitchen(tmp_path / 'kitchen', 'a')
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['split'], found['streams']) == ('kitchen', 1)
    assert [suite['suite'] for suite in found['suites']] == ['transfer']
