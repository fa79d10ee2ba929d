# SPDX-License-Identifier: Apache-2.0
"""The suites: which frames are looked at, what is asked, who is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from squares import SIZE, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.data.format import Annotation, Stream, open_split, write_stream
from vljepa_ros.data.mwstream.questions import Question
from vljepa_ros.evaluate.suites import SUITES
from vljepa_ros.evaluate.suites.caption import is_new
from vljepa_ros.evaluate.suites.retrieve import first
from vljepa_ros.evaluate.suites.texts import change
from vljepa_ros.evaluate.suites.vqa import Asked, balanced
from vljepa_ros.evaluate.views import answers, blind_answers
from vljepa_ros.stream.interfaces import ModelFacts


class Noting:
    """Eyes that note what they are shown."""

    facts = ModelFacts('noting', 4, SIZE, 10.0, 2, 4, 7)

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def new_state(self) -> None:
        self.shown.clear()

    def step(self, state: None, images: list[Any]) -> None:
        self.shown += images

    def predict(self, state: None, prompts: list[str]) -> Any:
        return np.eye(4, dtype=np.float32)[: len(prompts)]

    def check_prompts(self, prompts: list[str]) -> None:
        """All are fine."""


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('squares')
    for seed in (1, 2):
        write_stream(folder / 'test', film(f'test-{seed:05d}', seed))
    return folder


@pytest.fixture(scope='module')
def stream(data: Path) -> Stream:
    return open_split(data / 'test').streams[0]


def test_a_moment_is_seen_from_two_seconds_before_it_to_its_newest_frame(stream: Stream) -> None:
    eyes = Noting()
    answers(eyes, stream, 4.55, ['a'])  # the newest frame is number 45, of 4.5 s
    np.testing.assert_array_equal(np.stack(eyes.shown), stream.frames()[26:46])


def test_early_moments_are_seen_from_the_start(stream: Stream) -> None:
    eyes = Noting()
    answers(eyes, stream, 0.45, ['a'])
    np.testing.assert_array_equal(np.stack(eyes.shown), stream.frames()[1:5])


def test_the_blind_see_grey_only() -> None:
    eyes = Noting()
    assert blind_answers(eyes, ['a', 'b']).shape == (2, 4)
    assert len(eyes.shown) == 20 and (np.stack(eyes.shown) == 128).all()


def test_yes_and_no_are_balanced_within_topic_and_task() -> None:
    def asked(task: str, answer: str, topic: str = 'doing', kind: str = 'yes/no') -> Asked:
        item = Annotation(0, 1, 'rest', 'rest', task, 'door', 'red')
        question = Question('?', answer, answer, kind, ('yes', 'no'), topic)
        return Asked(item, question, np.zeros(4, np.float32))

    pool = [asked('door-open', 'yes')] * 5 + [asked('door-open', 'no')] * 2
    pool += [asked('door-close', 'yes')] * 3  # nothing to balance them with
    pool += [asked('door-open', 'red', '', 'colour')] * 4
    kept = balanced(pool, np.random.default_rng(0))
    said = [a.question.answer for a in kept]
    assert sorted(said) == ['no', 'no', 'red', 'red', 'red', 'red', 'yes', 'yes']
    assert {a.annotation.task for a in kept} == {'door-open'}


def test_retrieval_counts_any_clip_of_the_meaning() -> None:
    items = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    queries = np.array([[0.9, 0.43], [0, 1], [1, 0]], np.float32)
    found = first(queries, ['a', 'b', 'b'], items, ['b', 'b', 'a'])
    assert found.value == pytest.approx(1.0)
    assert first(queries[::-1], ['a', 'b', 'b'], items, ['b', 'b', 'a']).value == pytest.approx(
        1 / 3
    )


@pytest.mark.parametrize(
    ('slot', 'same'),
    [('phase', slice(1, 3)), ('colour', slice(0, 2))],
)
def test_a_distractor_differs_in_one_slot(slot: str, same: slice) -> None:
    known = ['act:door-open:red', 'done:door-open:red', 'act:door-open:blue', 'act:push:green']
    other = change('act:door-open:red', slot, known, np.random.default_rng(0))
    assert other is not None and other != 'act:door-open:red'
    assert other.split(':')[same] == ['act', 'door-open', 'red'][same]
    assert change('rest', slot, known, np.random.default_rng(0)) is None


def test_combinations_kept_from_training_are_new() -> None:
    from vljepa_ros.data.mwstream.tasks import held_out_colour, training_colours

    def act(colour: str) -> Annotation:
        return Annotation(0, 1, f'act:dial-turn:{colour}', 'act', 'dial-turn', 'dial', colour)

    assert is_new(act(held_out_colour('dial-turn')))
    assert not is_new(act(training_colours('dial-turn')[0]))


def test_the_command_knows_all_suites() -> None:
    assert tuple(SUITES) == evaluate.NAMES


def test_all_suites_run_and_the_oracle_is_above_chance(
    data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(['evaluate', 'all', '--data', str(data), '--model', str(tiny_folder), '--json'])
    found = json.loads(capsys.readouterr().out)
    assert status == 0 and found['split'] == 'test' and found['streams'] == 2
    suites = {suite['suite']: suite['rows'] for suite in found['suites']}
    assert tuple(suites) == evaluate.NAMES
    top1 = {r['who']: r for r in suites['classify'] if r['what'] == 'top-1, seen wording'}
    assert top1['ours']['count'] == 12  # six acts in each of two streams
    assert top1['oracle']['value'] > 0.9 > 0.5 > top1['blind']['value']


def test_bad_input_is_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'classify', '--data', str(data), '--split', 'validation']) == 2
    assert 'no such folder of streams' in capsys.readouterr().err
    assert main(['evaluate', 'classify', '--data', str(data), '--streams', '-1']) == 2
    assert '--streams (-1) is negative' in capsys.readouterr().err
