# SPDX-License-Identifier: Apache-2.0
"""Frames that the suites evaluate, and the command that runs them."""

from __future__ import annotations

import json
import resource
import time
from contextlib import AbstractContextManager, nullcontext
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
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.data.format import Stream, open_split, write_stream
from vljepa_ros.evaluate import context as evaluate_context
from vljepa_ros.evaluate.context import Context, helpers
from vljepa_ros.evaluate.decoded_texts import decode_all
from vljepa_ros.evaluate.suites import SLOW, SUITES
from vljepa_ros.evaluate.views import answers, blind_answers
from vljepa_ros.model import devices, registry


class RecordingVision:
    """Vision side that records its input images."""

    facts = ModelFacts('recording', 4, SIZE, 10.0, 2, 4, 7)

    def __init__(self) -> None:
        self.images: list[Any] = []

    def new_state(self) -> None:
        self.images.clear()

    def step(self, state: None, images: list[Any]) -> None:
        self.images += images

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


def test_a_moment_has_two_seconds_of_context_up_to_its_newest_frame(stream: Stream) -> None:
    vision = RecordingVision()
    answers(vision, stream, 4.55, ['a'])  # the newest frame is number 45, of 4.5 s
    np.testing.assert_array_equal(np.stack(vision.images), stream.frames()[26:46])


def test_early_moments_have_context_from_the_stream_start(stream: Stream) -> None:
    vision = RecordingVision()
    answers(vision, stream, 0.45, ['a'])
    np.testing.assert_array_equal(np.stack(vision.images), stream.frames()[1:5])


def test_the_vision_blind_baseline_encodes_gray_images_only() -> None:
    vision = RecordingVision()
    assert blind_answers(vision, ['a', 'b']).shape == (2, 4)
    assert len(vision.images) == 20 and (np.stack(vision.images) == 128).all()


def test_the_command_lists_all_suites() -> None:
    assert tuple(SUITES) == evaluate.NAMES and tuple(SLOW) == evaluate.SLOW


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command use a toy model that reads the ground truth."""
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: toy_suites.model())


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
def test_all_suites_run_and_perfect_vision_reaches_the_targets(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'new' / 'all.json'
    status = main(['evaluate', 'all', '--data', str(toy_data), '--jobs', '1', '--out', str(out)])
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
def test_one_suite_prints_a_table_or_json(
    toy_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--data', str(toy_data), '--streams', '1', '--jobs', '1']
    assert main(['evaluate', 'classify', *arguments]) == 0
    assert '### classify' in (out := capsys.readouterr().out) and 'summary' not in out
    assert main(['evaluate', 'classify-unseen', *arguments, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['streams'], found['unseen_streams']) == (1, 1)
    assert [suite['suite'] for suite in found['suites']] == ['classify-unseen']


@pytest.mark.usefixtures('toy')
def test_validation_has_no_unseen_tasks(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'unseen').symlink_to(toy_data / 'unseen')
    (tmp_path / 'validation').symlink_to(toy_data / 'test')
    arguments = ['evaluate', 'classify-unseen', '--data', str(tmp_path), '--split', 'validation']
    assert main([*arguments, '--jobs', '1', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['unseen_streams'] == 0 and found['suites'][0]['rows'] == []
    assert 'split `unseen`' in found['suites'][0]['notes'][0]


@pytest.mark.usefixtures('toy')
def test_the_split_of_unseen_tasks_is_optional(
    toy_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'test').symlink_to(toy_data / 'test')
    assert main(['evaluate', 'classify-unseen', '--data', str(tmp_path), '--jobs', '1']) == 0
    assert 'split `unseen`' in capsys.readouterr().out


def test_a_suite_runs_with_a_real_model(
    data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--data', str(data), '--model', str(tiny_folder), '--json']
    assert main(['evaluate', 'gap', *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(r['who'], r['what']): r for r in found['suites'][0]['rows']}
    assert found['model_id'].startswith('tiny-') and found['dtype'] == 'float32'
    # Six acts in each of two streams, each in a colour that its task has in training.
    assert rows['ours', 'cosine to the target']['count'] == 12
    assert -1 <= rows['ours', 'cosine to the target']['value'] <= 1


def test_several_processes_give_the_same_result_as_one(
    data: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ['--data', str(data), '--model', str(tiny_folder), '--json']
    for suite in ('caption', 'events'):
        found = []
        for jobs in ('1', '2'):
            assert main(['evaluate', suite, *arguments, '--jobs', jobs]) == 0
            found.append(json.loads(capsys.readouterr().out)['suites'])
        assert found[0][0]['rows'] and found[0] == found[1]


@pytest.mark.usefixtures('toy')
def test_default_number_of_processes_fits_in_memory(
    toy_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = list[int]()

    def record(jobs: int, load: object, streams: object) -> AbstractContextManager[None]:
        requested.append(jobs)
        return nullcontext()

    monkeypatch.setattr(evaluate_context, 'helpers', record)
    monkeypatch.setattr(evaluate, 'cores', lambda: 4)
    arguments = ['evaluate', 'gap', '--data', str(toy_data), '--streams', '1']
    for processes, jobs in ((None, None), (0.5, None), (2.5, 2), (100.0, 4)):
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        free = None if processes is None else int(processes * taken)
        monkeypatch.setattr(devices, 'free_bytes', lambda device, free=free: free)
        requested.clear()
        assert main(arguments) == 0
        assert requested == ([jobs] if jobs else [])  # one process starts no others


def test_equal_vectors_are_decoded_once(data: Path) -> None:
    model, decoded_counts = toy_suites.model(), list[int]()
    decode = model.language.decode

    def counting_decode(vectors: Any, asked_for: bool = False) -> Any:
        decoded_counts.append(len(vectors))
        return decode(vectors, asked_for)

    model.language.decode = counting_decode
    context = Context(model, open_split(data / 'test').streams)
    vectors = np.eye(toy_suites.DIM, dtype=np.float32)[[0, 1, 0, 2, 1, 0]]
    found = decode_all(context, vectors, 'words')
    assert decoded_counts == [3]
    assert [d.text for d in found] == [d.text for d in decode(vectors)]
    assert decode_all(context, vectors[:0], 'words') == []


def test_a_killed_process_is_reported(data: Path, tiny_folder: Path) -> None:
    load = partial(registry.load, str(tiny_folder), 'cpu')
    streams = open_split(data / 'test').streams
    with helpers(2, load, streams) as processes:
        context = Context(load(), streams, processes=processes)
        with pytest.raises(VljepaError, match='--jobs'):
            context.map(toy_suites.die, [1, 2, 3], 'deaths')


def test_an_error_in_a_process_is_raised_in_the_parent(data: Path, tiny_folder: Path) -> None:
    streams = open_split(data / 'test').streams
    with helpers(2, partial(registry.load, str(tiny_folder / 'not'), 'cpu'), streams) as processes:
        context = Context(registry.load(str(tiny_folder)), streams, processes=processes)
        with pytest.raises(ModelError, match='model'):
            context.map(toy_suites.die, [1], 'deaths')


def test_invalid_input_gives_a_one_line_error(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['evaluate', 'classify', '--data', str(data), '--split', 'validation']) == 2
    assert str(data / 'validation') in capsys.readouterr().err
    assert main(['evaluate', 'classify', '--data', str(data), '--jobs', '0']) == 2
    assert '--jobs (0)' in capsys.readouterr().err
    assert main(['evaluate', 'classify', '--data', str(data), '--streams', '-1']) == 2
    assert '--streams (-1)' in capsys.readouterr().err
    (tmp_path / 'file').touch()
    for out in (tmp_path, tmp_path / 'file' / 'x.json'):
        assert main(['evaluate', 'classify', '--data', str(data), '--out', str(out)]) == 2
        err = capsys.readouterr().err
        assert str(out) in err and err.count('\n') == 1


def test_an_error_does_not_wait_for_running_items(tiny_folder: Path, data: Path) -> None:
    streams = open_split(data / 'test').streams
    start_s = time.monotonic()
    with (
        pytest.raises(InputError, match='bad item'),
        helpers(2, partial(registry.load, str(tiny_folder), 'cpu'), streams) as processes,
    ):
        context = Context(registry.load(str(tiny_folder)), streams, processes=processes)
        context.map(toy_suites.wait_or_fail, [0.0, 600.0, 600.0], 'items')
    assert time.monotonic() - start_s < 300
