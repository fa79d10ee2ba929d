# SPDX-License-Identifier: Apache-2.0
"""Frames that the suites evaluate, and the command that runs them."""

from __future__ import annotations

import json
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from helpers.synthetic_streams import SIZE, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import InputError, ModelError, VljepaError
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.data.format import Stream, open_split, write_stream
from vljepa_ros.evaluate.context import Context, helpers
from vljepa_ros.evaluate.decoded_texts import decode_all
from vljepa_ros.evaluate.suites import SLOW, SUITES
from vljepa_ros.evaluate.views import answers, blind_answers
from vljepa_ros.model import devices, registry


class Noting:
    """Vision side that records its input images."""

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
        """Accept all."""

    def unfamiliar(self, state: None) -> float:
        return 0.0

    def unreadable(self, prompt: str) -> float:
        return 0.0


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
    vision = Noting()
    answers(vision, stream, 4.55, ['a'])  # the newest frame is number 45, of 4.5 s
    np.testing.assert_array_equal(np.stack(vision.shown), stream.frames()[26:46])


def test_early_moments_are_seen_from_the_start(stream: Stream) -> None:
    vision = Noting()
    answers(vision, stream, 0.45, ['a'])
    np.testing.assert_array_equal(np.stack(vision.shown), stream.frames()[1:5])


def test_the_blind_see_grey_only() -> None:
    vision = Noting()
    assert blind_answers(vision, ['a', 'b']).shape == (2, 4)
    assert len(vision.shown) == 20 and (np.stack(vision.shown) == 128).all()


def test_the_command_knows_all_suites() -> None:
    assert tuple(SUITES) == evaluate.NAMES and tuple(SLOW) == evaluate.SLOW


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command use a toy model that reads the ground truth."""
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: toy_suites.model())
    monkeypatch.setattr(evaluate, '_as_many_as_fit', lambda model: 1)


@pytest.fixture(scope='module')
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a test split and a split of unseen tasks."""
    folder = tmp_path_factory.mktemp('toys')
    for name in ('a', 'b'):
        tasks = ('drawer-open', 'drawer-close', 'soccer')
        acts = [
            toy_suites.annotation('act', t, c) for t in tasks for c in ('red', 'blue', 'white')
        ]
        rests = [
            toy_suites.annotation('done', t, thing='red tin') for t in ('push', 'drawer-open')
        ]
        toy_suites.film(
            folder / 'test', name, [*acts, *rests, toy_suites.annotation('dark', light=False)]
        )
        toy_suites.film(folder / 'unseen', name, [toy_suites.annotation('act', 'door-lock')])
    return folder


@pytest.mark.usefixtures('toy')
def test_all_suites_run_and_perfect_vision_reach_their_marks(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'new' / 'all.json'
    status = main(['evaluate', 'all', '--data', str(toy_data), '--out', str(out)])
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert status == 0 and found['split'] == 'test' and found['model_id'] == 'toy-0'
    assert found['streams'] == 2 and found['unseen_streams'] == 2
    suites = {suite['suite']: suite['rows'] for suite in found['suites']}
    assert tuple(suites) == evaluate.NAMES and all(suites.values())
    top1 = {r['who']: r for r in suites['classify'] if r['what'] == 'top-1, training paraphrases'}
    assert top1['ours']['value'] == top1['oracle']['value'] == 1.0 and top1['ours']['reached']
    unseen = {(r['who'], r['what']): r for r in suites['classify-unseen']}
    assert unseen['ours', 'unseen tasks among the 5']['value'] == 1.0
    summary = text[text.index('### summary') :]
    assert '| classify | ours: top-1, training paraphrases | 1.000 |' in summary
    assert '| classify-unseen | ours: harmonic mean of both | 1.000 |' in summary
    tables = [line for line in text.splitlines() if line.startswith('### ')]
    assert tables == [*(f'### {name}' for name in evaluate.NAMES), '### summary']


@pytest.mark.usefixtures('toy')
def test_one_suite_is_a_table_or_json(toy_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ['--data', str(toy_data), '--streams', '1']
    assert main(['evaluate', 'classify', *given]) == 0
    assert '### classify' in (out := capsys.readouterr().out) and 'summary' not in out
    assert main(['evaluate', 'classify-unseen', *given, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['streams'], found['unseen_streams']) == (1, 1)
    assert [suite['suite'] for suite in found['suites']] == ['classify-unseen']


@pytest.mark.usefixtures('toy')
def test_validation_has_no_unseen_tasks(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'unseen').symlink_to(toy_data / 'unseen')
    (tmp_path / 'validation').symlink_to(toy_data / 'test')
    given = ['evaluate', 'classify-unseen', '--data', str(tmp_path), '--split', 'validation']
    assert main([*given, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['unseen_streams'] == 0 and found['suites'][0]['rows'] == []
    assert 'split `unseen`' in found['suites'][0]['notes'][0]


@pytest.mark.usefixtures('toy')
def test_the_unseen_tasks_may_be_absent(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'test').symlink_to(toy_data / 'test')
    assert main(['evaluate', 'classify-unseen', '--data', str(tmp_path)]) == 0
    assert 'split `unseen`' in capsys.readouterr().out


def test_a_real_model_goes_the_same_way(
    data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ['--data', str(data), '--model', str(tiny_folder), '--json']
    assert main(['evaluate', 'gap', *given]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(r['who'], r['what']): r for r in found['suites'][0]['rows']}
    assert found['model_id'].startswith('tiny-') and found['dtype'] == 'float32'
    # Six acts in each of two streams, each in a colour that its task has in training.
    assert rows['ours', 'cosine to the target']['count'] == 12
    assert -1 <= rows['ours', 'cosine to the target']['value'] <= 1


def test_several_processes_find_what_one_does(
    data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ['--data', str(data), '--model', str(tiny_folder), '--json']
    for suite in ('caption', 'events'):
        found = []
        for jobs in ('1', '2'):
            assert main(['evaluate', suite, *given, '--jobs', jobs]) == 0
            found.append(json.loads(capsys.readouterr().out)['suites'])
        assert found[0][0]['rows'] and found[0] == found[1]


def test_as_many_processes_as_memory_is_there_for(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, 'cores', lambda: 4)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for free, jobs in ((None, 1), (taken // 2, 1), (int(2.5 * taken), 2), (100 * taken, 4)):
        monkeypatch.setattr(devices, 'free_bytes', lambda device, free=free: free)
        assert evaluate._as_many_as_fit(tiny) == jobs


def test_equal_vectors_are_put_into_words_once(data: Path) -> None:
    model, asked = toy_suites.model(), list[int]()
    decode = model.language.decode

    def counting(vectors: Any, asked_for: bool = False) -> Any:
        asked.append(len(vectors))
        return decode(vectors, asked_for)

    model.language.decode = counting
    context = Context(model, open_split(data / 'test').streams)
    vectors = np.eye(toy_suites.DIM, dtype=np.float32)[[0, 1, 0, 2, 1, 0]]
    found = decode_all(context, vectors, 'words')
    assert asked == [3]
    assert [d.text for d in found] == [d.text for d in decode(vectors)]
    assert decode_all(context, vectors[:0], 'words') == []


def test_a_process_that_dies_is_told(data: Path, tiny_folder: Path) -> None:
    load = partial(registry.load, str(tiny_folder), 'cpu')
    streams = open_split(data / 'test').streams
    with helpers(2, load, streams) as processes:
        context = Context(load(), streams, processes=processes)
        with pytest.raises(VljepaError, match='--jobs'):
            context.map(toy_suites.die, [1, 2, 3], 'deaths')


def test_what_a_process_raises_comes_here(data: Path, tiny_folder: Path) -> None:
    streams = open_split(data / 'test').streams
    with helpers(2, partial(registry.load, str(tiny_folder / 'not'), 'cpu'), streams) as processes:
        context = Context(registry.load(str(tiny_folder)), streams, processes=processes)
        with pytest.raises(ModelError, match='model'):
            context.map(toy_suites.die, [1], 'deaths')


def test_bad_input_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['evaluate', 'classify', '--data', str(data), '--split', 'validation']) == 2
    assert 'no such folder of streams' in capsys.readouterr().err
    assert main(['evaluate', 'classify', '--data', str(data), '--jobs', '0']) == 2
    assert '--jobs (0) is not positive' in capsys.readouterr().err
    assert main(['evaluate', 'classify', '--data', str(data), '--streams', '-1']) == 2
    assert '--streams (-1) is negative' in capsys.readouterr().err
    (tmp_path / 'file').touch()
    for out in (tmp_path, tmp_path / 'file' / 'x.json'):
        assert main(['evaluate', 'classify', '--data', str(data), '--out', str(out)]) == 2
        err = capsys.readouterr().err
        assert f'cannot write {out}' in err and err.count('\n') == 1


def test_an_error_does_not_wait_for_what_runs_beside_it(tiny_folder: Path, data: Path) -> None:
    streams = open_split(data / 'test').streams
    begun_s = time.monotonic()
    with (
        pytest.raises(InputError, match='bad item'),
        helpers(2, partial(registry.load, str(tiny_folder), 'cpu'), streams) as processes,
    ):
        context = Context(registry.load(str(tiny_folder)), streams, processes=processes)
        context.map(toy_suites.wait_or_fail, [0.0, 600.0, 600.0], 'items')
    assert time.monotonic() - begun_s < 300
