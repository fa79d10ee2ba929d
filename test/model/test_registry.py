# SPDX-License-Identifier: Apache-2.0
"""Model folders: search, loading, saving, and error messages for damaged folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.tiny_streaming import network, tower

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.settings import MAX_PROMPTS
from vljepa_ros.model import registry
from vljepa_ros.model.weights import stored_dtype


def frames(model: Model, count: int = 6) -> list[list[np.ndarray]]:
    rng, size = np.random.default_rng(0), model.facts.image_size
    return [list(rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)) for _ in range(count)]


def vectors(model: Model) -> np.ndarray:
    assert model.vision is not None
    state = model.vision.new_state()
    for tubelet in frames(model):
        model.vision.step(state, tubelet)
    return model.vision.predict(state, ['What is happening?', ''])


def test_saved_models_give_the_same_vectors(tiny: Model, tmp_path: Path) -> None:
    from vljepa_ros.model.streaming.vision import StreamingVision

    assert isinstance(tiny.vision, StreamingVision)
    net = registry.VLJEPA(network(tiny.vision).config)
    net.load_state_dict(network(tiny.vision).state_dict())
    registry.save(net, tmp_path / 'copy', torch.float32)
    copy = registry.load(str(tmp_path / 'copy'), device='cpu')
    np.testing.assert_array_equal(vectors(tiny), vectors(copy))
    assert copy.facts.model_id == tiny.facts.model_id


def test_the_model_id_covers_weights_and_tower(tiny_folder: Path, tmp_path: Path) -> None:
    first = registry.load(str(tiny_folder), device='cpu').facts.model_id
    name, weights, tower = first.split('-')
    assert name == 'tiny' and len(weights) == len(tower) == 8
    other = tmp_path / 'tiny'
    shutil.copytree(tiny_folder, other)
    data = bytearray((other / registry.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (other / registry.WEIGHTS).write_bytes(bytes(data))
    assert registry.load(str(other), device='cpu').facts.model_id.split('-')[1] != weights


def test_vision_and_text_side_load_separately(tiny_folder: Path) -> None:
    vision = registry.load(str(tiny_folder), device='cpu', parts=('vision',))
    language = registry.load(str(tiny_folder), device='cpu', parts=('language',))
    assert vision.language is None and language.vision is None
    assert vision.facts.model_id == language.facts.model_id


@pytest.mark.parametrize('parts', [('bank',), ('vision', 'bank')])
def test_a_streaming_model_has_no_bank(tiny_folder: Path, parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="'tiny' has no sentence bank"):
        registry.load(str(tiny_folder), device='cpu', parts=parts)


def damage(folder: Path, how: str) -> None:
    weights, config = folder / registry.WEIGHTS, folder / registry.CONFIG
    values = yaml.safe_load(config.read_text())
    if how == 'truncated':
        weights.write_bytes(weights.read_bytes()[:5000])
    elif how == 'garbage':
        weights.write_bytes(b'\x80\x04pickle' * 100)
    elif how == 'missing':
        weights.unlink()
    elif how == 'yaml':
        config.write_text('{')
    elif how == 'key':
        values['x_encoder']['depth'] = 3
        config.write_text(yaml.safe_dump(values))
    elif how == 'type':
        values['embedding_dim'] = 'wide'
        config.write_text(yaml.safe_dump(values))
    elif how == 'shape':
        values['embedding_dim'] = 64
        config.write_text(yaml.safe_dump(values))
    elif how == 'tower':
        values['text_tower']['sha256'] = 'f' * 64
        config.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ('how', 'token'),
    [
        ('truncated', 'missing or damaged'),
        ('garbage', 'missing or damaged'),
        ('missing', 'missing or damaged'),
        ('yaml', 'model.yaml'),
        ('key', "'depth'"),
        ('type', 'embedding_dim'),
        ('shape', registry.WEIGHTS),
        ('tower', 'f' * 8),
    ],
)
def test_damage_is_reported_in_one_line(
    tiny_folder: Path, tmp_path: Path, how: str, token: str
) -> None:
    folder = tmp_path / 'broken'
    shutil.copytree(tiny_folder, folder)
    damage(folder, how)
    with pytest.raises(ModelError) as caught:
        registry.load(str(folder), device='cpu')
    assert token in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('key', 'value', 'token'),
    [
        ('time.rate_hz', 0, 'time.rate_hz (0)'),
        ('time.rate_hz', -1.0, 'time.rate_hz (-1)'),
        ('time.rate_hz', float('nan'), 'time.rate_hz (nan)'),
        ('time.rate_hz', float('inf'), 'time.rate_hz'),
        ('time.rate_hz', 10**400, 'time.rate_hz'),
        ('time.tubelet_frames', 0, 'time.tubelet_frames (0)'),
        ('time.window_tubelets', 0, 'time.window_tubelets (0)'),
        ('x_encoder.stem', [], 'x_encoder.stem'),
        ('x_encoder.stem', [8, 0], 'x_encoder.stem (0)'),
        ('x_encoder.width', -4, 'x_encoder.width (-4)'),
        ('x_encoder.image_size', 4096, 'grid (512)'),
        ('predictor.merge', 0, 'predictor.merge (0)'),
        ('predictor.heads', 0, 'predictor.heads (0)'),
        ('predictor.width', 10**9, 'predictor.width (1e+09)'),
        ('predictor.width', 10**400, 'predictor.width'),
        ('y_encoder.max_tokens', 0, 'y_encoder.max_tokens (0)'),
        ('y_decoder.beams', 0, 'y_decoder.beams (0)'),
        ('y_decoder.vocabulary', -1, 'y_decoder.vocabulary (-1)'),
        ('calibration.rank_temperature', 0.0, 'calibration.rank_temperature (0)'),
        ('calibration.match_scale', 0.0, 'calibration.match_scale'),
        ('calibration.decode_bias', float('nan'), 'calibration.decode_bias (nan)'),
        ('embedding_dim', 0, 'embedding_dim (0)'),
    ],
)
def test_configuration_values_out_of_range_are_named(
    tiny_folder: Path, tmp_path: Path, key: str, value: object, token: str
) -> None:
    values = yaml.safe_load((tiny_folder / registry.CONFIG).read_text())
    *part, name = key.split('.')
    (values[part[0]] if part else values)[name] = value
    (tmp_path / registry.CONFIG).write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError) as caught:
        registry.read_config(tmp_path)
    assert str(caught.value).startswith(f'{tmp_path}: ') and token in str(caught.value)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


def test_a_configuration_with_too_many_parameters_is_rejected(
    tiny_folder: Path, tmp_path: Path
) -> None:
    values = yaml.safe_load((tiny_folder / registry.CONFIG).read_text())
    values['predictor'] |= {'width': 8192, 'layers': 128}
    (tmp_path / registry.CONFIG).write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match=r'103,'):
        registry.read_config(tmp_path)


@pytest.mark.parametrize(
    ('text', 'token'),
    [
        ('name: x\ntime: [1,\nkind: b: c', 'model.yaml: line 3: '),
        ('name: x\nwhen: 2001-99-99\n', 'model.yaml: '),
        ('[' * 5000, 'model.yaml: '),
        ('name: x\n1: 2\nother: 3\n', "'1'"),
        ('', 'expected a mapping'),
    ],
)
def test_an_unreadable_model_yaml_gives_a_one_line_error(
    tmp_path: Path, text: str, token: str
) -> None:
    (tmp_path / registry.CONFIG).write_text(text)
    with pytest.raises(ModelError) as caught:
        registry.read_config(tmp_path)
    assert token in str(caught.value) and '\n' not in str(caught.value)


def test_weights_that_are_not_finite_are_rejected(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / 'nan'
    shutil.copytree(tiny_folder, folder)
    state = load_file(folder / registry.WEIGHTS)
    state['predictor.head.bias'][0] = float('nan')
    save_file(state, folder / registry.WEIGHTS)
    with pytest.raises(ModelError, match=r'head\.bias .*finite'):
        registry.load(str(folder), device='cpu')


@pytest.mark.parametrize(
    ('arguments', 'token'),
    [
        ({'name_or_dir': 'nowhere'}, "'nowhere'"),
        ({'name_or_dir': 'x' * 300}, "'xxx"),
        ({'device': 'tpu'}, "'tpu'"),
        ({'device': 'cuda:7'}, "'cuda:7'"),
        ({'dtype': 'int8'}, "'int8'"),
    ],
)
def test_unknown_models_devices_and_dtypes_are_named(
    tiny_folder: Path, arguments: dict[str, str], token: str
) -> None:
    with pytest.raises(ModelError) as caught:
        registry.load(**{'name_or_dir': str(tiny_folder), 'device': 'cpu', **arguments})
    assert token in str(caught.value)


def test_invalid_input_to_both_sides_is_rejected(tiny: Model) -> None:
    vision, language = tiny.vision, tiny.language
    assert vision is not None and language is not None
    state = vision.new_state()
    with pytest.raises(InputError, match='frame'):
        vision.predict(state, ['?'])
    with pytest.raises(InputError, match='has shape'):
        vision.step(state, [np.zeros((8, 8, 3), np.uint8)] * 2)
    with pytest.raises(InputError, match='1 frame'):
        vision.step(state, frames(tiny)[0][:1])
    vision.step(state, frames(tiny)[0])
    before = vision.predict(state, [''])
    with pytest.raises(InputError, match='long'):
        vision.predict(state, ['word ' * 3000])
    with pytest.raises(InputError, match='3002 tokens'):
        vision.check_prompts(['', 'word ' * 3000])
    vision.check_prompts(['', 'What is happening?'])
    np.testing.assert_array_equal(vision.predict(state, ['']), before)
    with pytest.raises(InputError, match='empty'):
        language.encode(['  '])
    with pytest.raises(InputError, match='finite'):
        language.decode(np.full((1, 32), np.nan, np.float32))
    with pytest.raises(InputError, match='match'):
        language.decode(np.ones((1, 5), np.float32))


def test_an_answer_does_not_depend_on_the_other_prompts(tiny: Model) -> None:
    assert tiny.vision is not None
    state = tiny.vision.new_state()
    for tubelet in frames(tiny):
        tiny.vision.step(state, tubelet)
    alone = tiny.vision.predict(state, ['Is it dark?'])
    together = tiny.vision.predict(
        state, ['', 'a much longer prompt than the other', 'Is it dark?']
    )
    np.testing.assert_allclose(alone[0], together[2], atol=1e-6)


def test_standing_prompts_stay_cached_after_the_largest_request(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = tiny.vision
    assert vision is not None
    state = vision.new_state()
    vision.step(state, frames(tiny)[0])
    standing = [f'standing {n}' for n in range(MAX_PROMPTS)]
    vision.predict(state, standing)
    vision.predict(state, [f'asked {n}' for n in range(MAX_PROMPTS)])
    text_tower = tower(vision)
    monkeypatch.setattr(text_tower, 'states', None)
    assert len(vision.predict(state, standing)) == MAX_PROMPTS


def test_rank_and_similarity_are_scores(tiny: Model) -> None:
    language = tiny.language
    assert language is not None
    vector = language.encode(['the light is off'])[0]
    ranked = language.rank(vector, ['it is bright', 'the light is off', 'a cat'])
    assert ranked[0].text == 'the light is off'
    assert sum(c.score for c in ranked) == pytest.approx(1.0)
    scores = language.similarity(np.stack([vector, -vector]), 'the light is off')
    assert 0 <= scores[1] < scores[0] <= 1
    assert language.rank(vector, []) == []


def test_decoding_is_bounded_and_deterministic(tiny: Model) -> None:
    language = tiny.language
    assert language is not None
    vector = language.encode(['a', 'b', 'c'])
    first, again = language.decode(vector), language.decode(vector)
    assert first == again and len(first) == 3
    for decoded in first:
        assert 0 <= decoded.confidence <= 1 and len(decoded.text.split()) <= 6
        assert language.decode(vector[:0]) == []


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_the_stored_dtype_of_a_folder_is_read(
    tiny: Model, tmp_path: Path, dtype: torch.dtype
) -> None:
    registry.save(network(tiny.vision), tmp_path, dtype)  # type: ignore[union-attr]
    assert stored_dtype(tmp_path) == dtype
    (tmp_path / registry.WEIGHTS).write_bytes(b'none')
    with pytest.raises(ModelError, match='damaged'):
        stored_dtype(tmp_path)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Set torch to two threads during the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_uses_one_thread_by_default(tiny_folder: Path, two_threads: None) -> None:
    registry.load(str(tiny_folder), device='cpu', threads=2)
    assert torch.get_num_threads() == 2
    registry.load(str(tiny_folder), device='cpu')
    assert torch.get_num_threads() == 1


def test_a_large_model_uses_all_torch_threads(
    tiny_folder: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, 'SMALL_WEIGHTS', 1)
    registry.load(str(tiny_folder), device='cpu')
    assert torch.get_num_threads() == 2
