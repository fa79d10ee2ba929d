# SPDX-License-Identifier: Apache-2.0
"""Detector of unfamiliar scenes: computation, file, and unchanged outputs of the model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.tiny_streaming import network
from safetensors.numpy import save_file

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model
from vljepa_ros.model import registry
from vljepa_ros.model.config import FamiliarityConfig
from vljepa_ros.model.streaming import familiarity
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.vision import StreamingVision

FILE = 'familiarity.safetensors'


def noise(model: Model, seed: int, tubelets: int = 6) -> np.ndarray:
    shape = (2 * tubelets, model.facts.image_size, model.facts.image_size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def unfamiliarity(vision: StreamingVision, frames: np.ndarray) -> list[float]:
    state, found = vision.new_state(), []
    for start in range(0, len(frames), 2):
        vision.step(state, list(frames[start : start + 2]))
        found.append(vision.unfamiliar(state))
    return found


def random_detector(width: int, bias: float) -> familiarity.SceneFamiliarity:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(width, 4)))[0].astype(np.float32)
    scene = familiarity.Density(
        rng.normal(size=width).astype(np.float32),
        np.full(width, 0.5, np.float32),
        basis,
        np.full(4, 2.0, np.float32),
        np.array([1.0, 0.5, 3.0, 0.25], np.float32),
    )
    head = rng.normal(0, 0.01, width + 1).astype(np.float32)
    weights, threshold = np.array([0.5, 0.25, 1.0], np.float32), np.array([bias], np.float32)
    return familiarity.SceneFamiliarity((scene,), head, weights, threshold)


def write(folder: Path, detector: familiarity.SceneFamiliarity) -> None:
    tensors = {f'scene/{k}': np.ascontiguousarray(v) for k, v in detector.tensors().items()}
    own = file_hash(folder / registry.WEIGHTS)
    save_file(tensors, folder / FILE, metadata={'weights_sha256': own})
    values = yaml.safe_load((folder / 'model.yaml').read_text())
    values['familiarity'] = {'file': FILE}
    (folder / 'model.yaml').write_text(yaml.safe_dump(values))


@pytest.fixture
def folder_with_detector(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / 'tiny'
    shutil.copytree(tiny_folder, folder)
    write(folder, random_detector(2 * 2 * 32, 0.1))  # tiny has 2 layers of width 32
    return folder


def test_distances_follow_the_formula() -> None:
    density = random_detector(8, 0.0).densities[0]
    features = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    for row, found in zip(features, density.distances(features), strict=True):
        z = (row - density.mean) / 0.5
        inside = np.array([z @ density.basis[:, k] for k in range(4)])
        within = np.log(sum(v * v / 2.0 for v in inside))
        outside = np.log(np.linalg.norm(z - density.basis @ inside) ** 2)
        np.testing.assert_allclose(
            found, [(within - 1.0) / 0.5, (outside - 3.0) / 0.25], rtol=1e-3
        )


def test_features_are_mean_and_standard_deviation_of_the_newest_tokens() -> None:
    values = torch.randn(1, 2, 5, 9, 3)  # 2 heads, 5 tubelets, 9 tokens
    caches = [KeyValue(values, values)] * 3
    found = familiarity.pooled(caches, 2)
    assert found.shape == (2, 3 * 2 * 6)
    tokens = values[0, :, -1].permute(1, 0, 2).reshape(9, 6).numpy()
    np.testing.assert_allclose(found[-1, :6], tokens.mean(0), atol=1e-5)
    np.testing.assert_allclose(found[-1, 6:12], tokens.std(0), atol=1e-4)


def test_without_a_detector_everything_is_familiar(tiny: Model) -> None:
    assert isinstance(tiny.vision, StreamingVision) and tiny.language is not None
    assert unfamiliarity(tiny.vision, noise(tiny, 0)) == [0.0] * 6
    assert tiny.language.unreadable('灯亮着吗') == 0.0


def test_unfamiliarity_is_zero_before_the_first_step(folder_with_detector: Path) -> None:
    model = registry.load(str(folder_with_detector), device='cpu')
    assert model.vision is not None
    assert model.vision.unfamiliar(model.vision.new_state()) == 0.0


def test_detector_changes_neither_vectors_nor_the_model_id(
    tiny: Model, folder_with_detector: Path
) -> None:
    model = registry.load(str(folder_with_detector), device='cpu')
    assert model.facts == tiny.facts
    frames, answers = noise(tiny, 3), []
    for vision in (tiny.vision, model.vision):
        assert isinstance(vision, StreamingVision)
        state = vision.new_state()
        for start in range(0, len(frames), 2):
            vision.step(state, list(frames[start : start + 2]))
            vision.unfamiliar(state)
        answers.append(vision.predict(state, ['What is happening?']))
    np.testing.assert_array_equal(*answers)


def test_streaming_gives_the_features_of_fitting(folder_with_detector: Path) -> None:
    model = registry.load(str(folder_with_detector), device='cpu')
    vision = model.vision
    assert isinstance(vision, StreamingVision) and vision.familiarity is not None
    frames = noise(model, 5, tubelets=9)
    logits = vision.familiarity.logits(vision.describe(frames))
    for hop, found in enumerate(unfamiliarity(vision, frames)):
        newest = logits[max(0, hop + 1 - familiarity.TUBELETS) : hop + 1].mean()
        assert found == pytest.approx(1 / (1 + np.exp(-np.clip(newest, -10, 10))), abs=1e-4)


def test_a_detector_of_other_weights_is_rejected(folder_with_detector: Path) -> None:
    data = bytearray((folder_with_detector / registry.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder_with_detector / registry.WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(ModelError, match='other weights'):
        registry.load(str(folder_with_detector), device='cpu')


@pytest.mark.parametrize('damage', ['gone', 'cut', 'shape'])
def test_a_damaged_detector_file_is_named(folder_with_detector: Path, damage: str) -> None:
    path = folder_with_detector / FILE
    if damage == 'gone':
        path.unlink()
    elif damage == 'cut':
        path.write_bytes(path.read_bytes()[:40])
    else:
        write(folder_with_detector, random_detector(7, 0.0))
    with pytest.raises(ModelError, match=FILE):
        registry.load(str(folder_with_detector), device='cpu')


def test_saving_a_network_drops_the_detector(folder_with_detector: Path, tmp_path: Path) -> None:
    model = registry.load(str(folder_with_detector), device='cpu')
    assert isinstance(model.vision, StreamingVision)
    registry.save(registry.VLJEPA(network(model.vision).config), tmp_path / 'new', torch.float32)
    assert registry.read_config(tmp_path / 'new').familiarity == FamiliarityConfig()  # type: ignore[union-attr]


def test_an_unknown_key_and_a_path_are_errors(tiny_folder: Path) -> None:
    config = registry.read_config(tiny_folder)
    with pytest.raises(ModelError, match=r'\.\./elsewhere'):
        dataclasses.replace(config, familiarity=FamiliarityConfig('../elsewhere'))
