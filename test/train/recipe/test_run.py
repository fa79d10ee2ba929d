# SPDX-License-Identifier: Apache-2.0
"""The paper's recipe on a tiny model: one step, results of a run, and refused input."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_bidirectional as tiny
from safetensors.torch import load_file

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import (
    AnnotatedQuestion,
    Annotation,
    StreamData,
    read_stream,
    write_stream,
)
from vljepa_ros.model import registry
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.train.config_file import read_config
from vljepa_ros.train.recipe.config import RecipeConfig, StageConfig
from vljepa_ros.train.recipe.pairs import ClipTextPair, PairSampler
from vljepa_ros.train.recipe.run import train
from vljepa_ros.train.recipe.step import RecipeStage

STAGES = (
    StageConfig('pictures', 2, 4, 1, learning_rate=1e-3, warmup_steps=0),
    StageConfig('questions', 2, 4, 8, 0.5, 1e-3, 1, 'cosine'),
)
RECIPE = RecipeConfig('m', 'd', 'o', STAGES, device='cpu', amp=False, weight_decay=0.0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp('models') / 'tiny')


def stage(folder: Path, which: StageConfig = STAGES[0]) -> RecipeStage:
    config = tiny.config()
    prompt_tokens = Tokens(folder, config.predictor.tokenizer, 16)
    text_tokens = Tokens(folder, config.y_encoder.tokenizer, 24)
    return RecipeStage(tiny.net(), prompt_tokens, text_tokens, RECIPE, which)


def pairs(texts: list[str], frames: int = 1, seed: int = 0) -> list[ClipTextPair]:
    rng = np.random.default_rng(seed)
    clips = rng.integers(0, 256, (len(texts), frames, 32, 32, 3), dtype=np.uint8)
    return [ClipTextPair(clip, '', text) for clip, text in zip(clips, texts, strict=True)]


def vectors(net: Any, batch: list[ClipTextPair]) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and texts of pairs in order."""
    vocabulary = [*tiny.MARKS, *tiny.WORDS]
    predicted, encoded = [], []
    for pair in batch:
        visual = net.x_encoder(torch.from_numpy(pair.frames)[None])
        predicted.append(net.predictor(visual, torch.tensor([[1]]), torch.ones(1, 1).bool())[0])
        ids = torch.tensor([[1, *(vocabulary.index(word) for word in pair.text.split()), 2]])
        encoded.append(net.y_encoder(ids, torch.ones_like(ids).bool())[0])
    return torch.stack(predicted).double().numpy(), torch.stack(encoded).double().numpy()


def test_the_loss_is_infonce_in_both_directions(folder: Path) -> None:
    batch = pairs(['a', 'the cup', 'red', 'who knows'])
    predicted, encoded = vectors(tiny.net(), batch)
    logits = predicted @ encoded.T / 0.07
    to_texts = [-math.log(np.exp(row - row[i]).sum() ** -1) for i, row in enumerate(logits)]
    to_clips = [-math.log(np.exp(row - row[i]).sum() ** -1) for i, row in enumerate(logits.T)]
    expected = (np.mean(to_texts) + np.mean(to_clips)) / 2
    assert float(stage(folder).loss(batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_equal_texts_are_not_negatives(folder: Path) -> None:
    """Two clips have the same text, so each is compared with two different texts."""
    batch = pairs(['a', 'a', 'red'])
    predicted, encoded = vectors(tiny.net(), batch)
    logits = predicted @ encoded[[0, 2]].T / 0.07
    to_texts = [math.log(np.exp(row - row[i]).sum()) for row, i in zip(logits, (0, 0, 1))]
    to_clips = [
        np.mean([math.log(np.exp(column - column[i]).sum()) for i in rows])
        for column, rows in zip(logits.T, ([0, 1], [2]))
    ]
    expected = (np.mean(to_texts) + np.mean(to_clips)) / 2
    assert float(stage(folder).loss(batch).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_y_encoder_has_a_twentieth_of_the_learning_rate(folder: Path) -> None:
    """Adam's first step changes every weight by the learning rate, whatever the gradient."""
    state = stage(folder)
    before = {key: value.clone() for key, value in state.net.state_dict().items()}
    state.step(pairs(['a', 'the cup', 'red', 'who knows']))
    moved = {
        key: float((v - before[key]).abs().max()) for key, v in state.net.state_dict().items()
    }
    assert moved['predictor.out_proj.weight'] == pytest.approx(1e-3, rel=0.01)
    assert moved['y_encoder.projector.weight'] == pytest.approx(5e-5, rel=0.01)
    assert not any(value for key, value in moved.items() if key.startswith('x_encoder'))


def test_steps_on_the_same_pairs_reduce_the_loss(folder: Path) -> None:
    batch = pairs(['a', 'the cup', 'red', 'who knows'], frames=4)
    state = stage(folder, dataclasses.replace(STAGES[0], learning_rate=3e-3))
    losses = [state.step(batch) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ('schedule', 'expected'),
    [('constant', [0.5, 1.0, 1.0, 1.0]), ('cosine', [0.5, 1.0, 1.0, 0.51])],
)
def test_the_learning_rate_warms_up_and_follows_its_schedule(
    folder: Path, schedule: str, expected: list[float]
) -> None:
    state = stage(folder, StageConfig('x', 4, 2, 1, 0.0, 1e-9, 2, schedule))
    found = []
    for _ in range(4):
        found.append([group['lr'] for group in state.optimizer.optimizer.param_groups])
        state.step(pairs(['a', 'red']))
    rates = np.array(found) / 1e-9
    assert rates.max(axis=1) == pytest.approx(expected)
    assert rates.min(axis=1) == pytest.approx(0.05 * np.array(expected))  # of the Y-Encoder


def stream(folder: Path, seed: int = 0) -> Path:
    """Return ten frames at 4 frames/s: one second of red, then blue, with one question."""
    frames = np.zeros((10, 32, 32, 3), np.uint8)
    frames[:4, ..., 0], frames[4:, ..., 2] = 255, 255
    spans = [(0.0, 1.0, 'the cup is red'), (1.0, 2.5, 'the cup is blue')]
    data = StreamData(
        f's{seed}',
        frames,
        np.arange(10, dtype=np.int64) * 250_000_000 + 7,
        tuple(
            Annotation(start, end, f'say:{text}', 'told', '', '', '', text=text)
            for start, end, text in spans
        ),
        {'rate_hz': 4.0},
        questions=(AnnotatedQuestion(2.3, 2.301, 'who knows', 'the robot'),),
    )
    return write_stream(folder, data)


def test_a_clip_ends_within_the_span_of_its_text(tmp_path: Path) -> None:
    sampler = PairSampler([read_stream(stream(tmp_path))], seed=0)
    for pair in sampler.draw(40, 3, 0.0):
        red = bool(pair.frames[-1, 0, 0, 0])
        assert pair.text == f'the cup is {"red" if red else "blue"}' and pair.prompt == ''
        assert pair.frames.shape == (3, 32, 32, 3)
    drawn = sampler.draw(40, 3, 0.5)
    share = [pair.prompt for pair in drawn].count('who knows') / 40
    assert 0.2 < share < 0.8 and {p.text for p in drawn if p.prompt} == {'the robot'}


def read_recipe(path: Path) -> RecipeConfig:
    config = read_config(path)
    assert isinstance(config, RecipeConfig)
    return config


def recipe(tmp_path: Path, folder: Path, **changed: Any) -> Path:
    values = {
        'kind': 'bidirectional',
        'model': str(folder),
        'data': str(tmp_path / 'data'),
        'out': str(tmp_path / 'out'),
        'device': 'cpu',
        'stages': [dataclasses.asdict(item) for item in STAGES],
    }
    (tmp_path / 'train.yaml').write_text(yaml.safe_dump(values | changed))
    return tmp_path / 'train.yaml'


def test_a_run_writes_a_model_and_resumes_after_finished_stages(
    tmp_path: Path, folder: Path
) -> None:
    stream(tmp_path / 'data' / 'train')
    config = read_recipe(recipe(tmp_path, folder))
    out = train(config)
    model = registry.load(str(out), device='cpu')
    assert model.facts.model_id.startswith('out-')
    assert model.facts.model_id != registry.load(str(folder), device='cpu').facts.model_id
    first = (out / 'checkpoints' / 'pictures.safetensors').stat().st_mtime_ns
    weights = (out / 'weights.safetensors').read_bytes()
    (out / 'checkpoints' / 'questions.safetensors').unlink()
    train(config)
    assert (out / 'checkpoints' / 'pictures.safetensors').stat().st_mtime_ns == first
    assert (out / 'weights.safetensors').read_bytes() != weights  # other pairs were drawn


HEADS = {
    f'{layer}.{name}'
    for layer in ('predictor.norm', 'predictor.out_proj', 'y_encoder.projector')
    for name in ('weight', 'bias')
}
ADAPTED = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']


@pytest.mark.parametrize('tune', ['heads', 'lora'])
def test_only_the_selected_parameters_change(tmp_path: Path, folder: Path, tune: str) -> None:
    if tune == 'lora':
        pytest.importorskip('peft')
    stream(tmp_path / 'data' / 'train')
    config = read_recipe(recipe(tmp_path, folder, tune=tune, lora={'rank': 2, 'alpha': 4.0}))
    before, after = (load_file(f / 'weights.safetensors') for f in (folder, train(config)))
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    adapted = {
        k for k in before if k.startswith('predictor.layers') and k.split('.')[-2] in ADAPTED
    }
    expected = HEADS & before.keys() | (adapted if tune == 'lora' else set())
    assert changed == expected and len(adapted) == 2 * len(ADAPTED)
    assert registry.load(str(tmp_path / 'out'), device='cpu').vision is not None


def test_captions_have_the_configured_prompt(tmp_path: Path) -> None:
    sampler = PairSampler([read_stream(stream(tmp_path))], seed=0, prompt='the cup')
    assert {pair.prompt for pair in sampler.draw(20, 3, 0.0)} == {'the cup'}


def test_the_shipped_fine_tuning_configuration_fits_its_model() -> None:
    folder = registry.find('open_vljepa')
    config, found = registry.read_config(folder), read_recipe(folder / 'tune.yaml')
    assert found.model == config.name and found.tune == 'lora'
    assert [s.frames for s in found.stages] == [config.time.window_frames]


@pytest.mark.parametrize('name', ['2024', 'on', r'a\1'])
def test_the_result_is_named_after_its_folder(tmp_path: Path, folder: Path, name: str) -> None:
    stream(tmp_path / 'data' / 'train')
    out = train(read_recipe(recipe(tmp_path, folder, out=str(tmp_path / name))))
    assert registry.read_config(out).name == name


def test_the_text_decoder_of_the_start_model_is_not_copied(tmp_path: Path, folder: Path) -> None:
    """A text decoder is valid only for the vectors of its model."""
    with_decoder = Path(shutil.copytree(folder, tmp_path / 'with_decoder'))
    for name in ('y_decoder.yaml', 'y_decoder.safetensors'):
        (with_decoder / name).write_text('of another model')
    stream(tmp_path / 'data' / 'train')
    out = train(read_recipe(recipe(tmp_path, with_decoder)))
    assert not list(out.glob('y_decoder.*'))
    assert registry.load(str(out), device='cpu').language is not None


@pytest.mark.parametrize(
    ('changed', 'part'),
    [
        ({'stages': []}, 'stages'),
        ({'stages': [{'name': 'a', 'steps': 0, 'batch': 2, 'frames': 1}]}, r'steps \(0\)'),
        ({'stages': [{'name': '../a', 'steps': 1, 'batch': 2, 'frames': 1}]}, r'\.\./a'),
        ({'temperature': 0.0}, r'temperature \(0\)'),
        ({'adapters': True}, "'adapters'"),
        ({'tune': 'some'}, "tune.* 'some'"),
        ({'lora': {'rank': 0}}, r'lora.rank \(0\)'),
    ],
)
def test_an_invalid_recipe_is_named(
    tmp_path: Path, folder: Path, changed: dict[str, Any], part: str
) -> None:
    with pytest.raises(InputError, match=part) as caught:
        read_recipe(recipe(tmp_path, folder, **changed))
    assert 'train.yaml' in str(caught.value)


def test_the_command_trains_a_recipe(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vljepa_ros.cli.main import main

    stream(tmp_path / 'data' / 'train')
    path = recipe(tmp_path, folder)
    assert main(['train', str(path)]) == 0
    assert str(tmp_path / 'out') in capsys.readouterr().out
    assert main(['train', str(path), '--processes', '2']) == 2
    for wrong, part in (('small', 'streaming'), (str(folder), '')):
        assert main(['train', str(recipe(tmp_path, folder, model=wrong))]) == (2 if part else 0)
        assert part in capsys.readouterr().err


@pytest.mark.parametrize('name', ['vljepa_paper', 'vljepa_open'])
def test_the_shipped_recipes_have_both_stages_and_32_frames(name: str) -> None:
    folder = registry.find(name)
    config, found = registry.read_config(folder), read_recipe(folder / 'train.yaml')
    assert config.time.window_frames == 32 and found.y_encoder_rate == 0.05
    assert [s.frames for s in found.stages] == [1, 8, 32, 32]
    assert [s.questions > 0 for s in found.stages] == [False, False, False, True]
    assert Path(found.model).name == name
