# SPDX-License-Identifier: Apache-2.0
"""Model folders of kind bidirectional: loading, refused folders, and memory check."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_bidirectional as tiny

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model import devices, registry
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.loading import needed_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tmp_path / 'tiny_bidirectional')


def changed(folder: Path, part: str, **values: object) -> None:
    found = yaml.safe_load((folder / 'model.yaml').read_text())
    found[part] |= values
    (folder / 'model.yaml').write_text(yaml.safe_dump(found))


def test_vision_and_text_side_load_separately_with_one_id(folder: Path) -> None:
    vision = registry.load(str(folder), device='cpu', parts=('vision',))
    language = registry.load(str(folder), device='cpu', parts=('language',))
    assert vision.language is None and language.vision is None
    assert vision.facts == language.facts


def test_bfloat16_gives_nearly_the_vectors_of_float32(folder: Path) -> None:
    found = []
    for dtype in ('float32', 'bfloat16'):
        model = registry.load(str(folder), device='cpu', dtype=dtype)
        assert model.vision is not None and model.language is not None
        state = model.vision.new_state()
        model.vision.step(state, list(tiny.video(2)[0].numpy()))
        predicted, encoded = model.vision.predict(state, ['a']), model.language.encode(['a'])
        assert predicted.dtype == encoded.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(predicted, axis=1), 1, atol=1e-5)
        found.append(np.concatenate([predicted, encoded]))
    assert (found[0] * found[1]).sum(axis=1).min() > 0.99


def test_the_default_configuration_needs_memory_for_its_weights() -> None:
    """The model has 1.36e9 weights of 2 bytes; activations need a fraction of that."""
    config = BidirectionalConfig('full')
    both = needed_bytes(config, ('x_encoder', 'predictor', 'y_encoder'), 'bfloat16')
    assert 2.71e9 < both < 3.3e9
    assert needed_bytes(config, ('y_encoder',), 'float32') == pytest.approx(1.3e9, rel=0.1)


def test_a_model_that_is_too_large_is_rejected_before_loading(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / 'weights.safetensors').write_bytes(b'not read')
    monkeypatch.setattr(devices, 'MEMINFO', tmp_path / 'meminfo')
    (tmp_path / 'meminfo').write_text('MemTotal: 9 kB\nMemAvailable:      100 kB\n')
    with pytest.raises(
        ModelError,
        match=r'tiny_bidirectional .*0\.0 GB .*cpu .*float32.*0\.0 GB',
    ):
        registry.load(str(folder), device='cpu')


def test_required_memory_is_logged_at_startup(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices, 'MEMINFO', tmp_path / 'missing')
    with caplog.at_level(logging.INFO):
        registry.load(str(folder), device='cpu')
    assert all(p in caplog.text for p in ('tiny_bidirectional', '0.0 GB', 'float32', 'unknown'))


@pytest.mark.parametrize(
    ('part', 'values', 'pattern'),
    [
        ('time', {'window_frames': 7}, r'time\.window_frames \(7\)'),
        ('x_encoder', {'image_size': 33}, r'image_size \(33\) .*8'),
        ('predictor', {'key_value_heads': 3}, r'predictor\.heads \(4\)'),
        ('predictor', {'width': 10**6}, r'predictor\.width \(1e\+06\)'),
        ('y_encoder', {'layers': 0}, r'y_encoder\.layers \(0\)'),
        ('bank', {'file': '../other'}, r'\.\./other'),
        ('predictor', {'depth': 3}, "predictor.*'depth'"),
    ],
)
def test_an_invalid_configuration_is_named(
    folder: Path, part: str, values: dict[str, object], pattern: str
) -> None:
    changed(folder, part, **values)
    with pytest.raises(ModelError, match=pattern) as caught:
        registry.read_config(folder)
    assert str(caught.value).startswith(f'{folder}: ')


def test_an_unknown_kind_is_named(folder: Path) -> None:
    (folder / 'model.yaml').write_text('name: x\nkind: [strange]\n')
    with pytest.raises(ModelError, match=r'kind .*streaming, bidirectional'):
        registry.read_config(folder)


@pytest.mark.parametrize(
    ('name', 'content', 'pattern'),
    [
        ('weights.safetensors', None, 'vljepa models get tiny_bidirectional'),
        ('weights.safetensors', b'rubbish' * 9, 'damaged'),
        ('predictor_tokenizer.json', None, 'vljepa models get tiny_bidirectional'),
        ('y_encoder_tokenizer.json', b'{', 'damaged'),
        ('sentences.txt', None, 'sentences.txt'),
    ],
)
def test_missing_and_damaged_files_give_a_one_line_error(
    folder: Path, name: str, content: bytes | None, pattern: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=pattern) as caught:
        registry.load(str(folder), device='cpu')
    assert '\n' not in str(caught.value)


def test_an_unknown_special_token_is_named(folder: Path) -> None:
    changed(folder, 'predictor', tokenizer={'file': 'predictor_tokenizer.json', 'begin': '<s>'})
    with pytest.raises(ModelError, match="'<s>'"):
        registry.load(str(folder), device='cpu')


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    """Weights are read without random initialization."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    registry.load(str(folder), device='cpu')
    assert torch.equal(torch.get_rng_state(), before)


def test_an_integrated_gpu_reports_the_system_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Jetson, the driver does not count memory that the system can reclaim."""
    (tmp_path / 'meminfo').write_text('MemAvailable:    4000000 kB\n')
    monkeypatch.setattr(devices, 'MEMINFO', tmp_path / 'meminfo')
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (10**9, 8 * 10**9))
    gpus = {torch.device('cuda:0'): True, torch.device('cuda:1'): False}
    monkeypatch.setattr(
        torch.cuda, 'get_device_properties', lambda d: SimpleNamespace(is_integrated=gpus[d])
    )
    assert [devices.free_bytes(gpu) for gpu in gpus] == [4_096_000_000, 10**9]
