# SPDX-License-Identifier: Apache-2.0
"""Classifier models: embeddings, texts, abstentions, and damaged folders."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import tiny_classifier as tiny
from safetensors.numpy import load_file, save_file

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import AbstainReason, Frame, State, Vector
from vljepa_ros.model import registry
from vljepa_ros.pipeline import Pipeline

CHOICES = ('something red', 'something green', 'something blue')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp('models') / 'tiny_classifier')


@pytest.fixture(scope='module')
def model(folder: Path) -> Model:
    return registry.load(folder)


def colored(red: int, green: int, blue: int, size: int = tiny.SIZE) -> np.ndarray:
    return np.full((size, size, 3), (red, green, blue), np.uint8)


RED, GREEN = colored(255, 0, 0), colored(0, 255, 0)


def vector_of(model: Model, image: np.ndarray) -> Vector:
    assert model.vision is not None
    state = model.vision.new_state()
    model.vision.step(state, [image])
    return model.vision.predict(state, ['?'])[0]


def test_an_embedding_joins_the_mean_of_its_classes_and_its_features(
    model: Model, folder: Path
) -> None:
    tensors = load_file(folder / 'weights.safetensors')
    image = colored(204, 153, 0)  # features 0.8, 0.6, 0
    likelihood = np.exp(20 * np.array([0.8, 0.6, 0.0]))
    meaning = (likelihood / likelihood.sum()) @ tensors['classes'].astype(np.float64)
    look = np.array([0.8, 0.6, 0.0]) - 0.25
    expected = np.concatenate(
        [
            np.sqrt(0.2) * meaning / np.linalg.norm(meaning),
            np.sqrt(0.8) * look / np.linalg.norm(look),
        ]
    )
    np.testing.assert_allclose(vector_of(model, image), expected, atol=2e-4)
    assert model.facts.embedding_dim == len(expected) == 384 + tiny.DIM


def test_texts_are_compared_with_the_text_part_only(model: Model) -> None:
    assert model.language is not None
    text = model.language.encode(['something red'])[0]
    assert np.linalg.norm(text) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(text[384:], 0)
    assert vector_of(model, RED) @ text == pytest.approx(np.sqrt(0.2), abs=2e-3)


def test_images_of_one_class_differ_in_their_features(model: Model) -> None:
    """Both images have the class red with a probability above 0.999."""
    bright, dark = vector_of(model, RED), vector_of(model, colored(255, 90, 0))
    assert bright[:384] @ dark[:384] == pytest.approx(0.2, abs=1e-3)
    assert bright @ dark < 0.99


def test_candidates_are_ranked_and_described(model: Model) -> None:
    pipeline = Pipeline(model)
    pipeline.push(Frame(10**9, RED))
    answer = pipeline.ask('What is there?', CHOICES)
    assert (answer.answer, answer.abstained) == ('something red', False)
    assert pipeline.ask('').answer == 'something red'


def test_yes_no_questions_are_unanswerable(model: Model) -> None:
    pipeline = Pipeline(model)
    pipeline.push(Frame(10**9, RED))
    answer = pipeline.ask('Is it red?', ['yes', 'no'])
    assert answer.abstained and answer.abstain_reason is AbstainReason.UNANSWERABLE


def test_candidates_that_do_not_describe_the_image_are_refused(model: Model) -> None:
    pipeline = Pipeline(model)
    pipeline.push(Frame(10**9, RED))
    answer = pipeline.ask('What is there?', ['a quarterly tax report', 'the stock exchange'])
    assert answer.abstained and answer.abstain_reason is AbstainReason.UNANSWERABLE


def test_a_new_color_starts_a_segment_with_its_sentence(model: Model) -> None:
    pipeline = Pipeline(model)
    events = []
    for index in range(20):
        image = RED if index < 10 else GREEN
        events += pipeline.push(Frame(round((1 + index / 5) * 1e9), image))
    started = [e for e in events if e.state is State.STARTED]
    assert [e.text for e in started] == ['something red', 'something green']
    assert started[1].start_ns == 3 * 10**9 and all(e.nearest for e in started)


def test_a_language_process_needs_no_graph(folder: Path, tmp_path: Path) -> None:
    """Its model id is that of a process with the vision side."""
    loaded = registry.load(folder, parts=['language'])
    assert loaded.vision is None and loaded.facts.model_id == registry.load(folder).facts.model_id


def test_other_weights_have_another_model_id(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / 'copy')
    tensors = load_file(copy / 'weights.safetensors')
    save_file({**tensors, 'mean': tensors['mean'] + 0.1}, copy / 'weights.safetensors')
    ids = [registry.load(path, parts=['language']).facts.model_id for path in (folder, copy)]
    assert ids[0] != ids[1]


def test_an_image_of_another_size_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match=r'\(9, 9, 3\)'):
        vector_of(model, colored(0, 0, 0, 9))
    assert model.vision is not None
    with pytest.raises(InputError, match='no frame'):
        model.vision.predict(model.vision.new_state(), ['?'])


@pytest.mark.parametrize(
    ('file', 'content'),
    [('net.onnx', b'not a graph'), ('net.onnx', None), ('weights.safetensors', b'{}'),
     ('weights.safetensors', None), ('sentences.txt', b'')],
)  # fmt: skip
def test_a_damaged_folder_is_one_line_that_names_the_file(
    folder: Path, tmp_path: Path, file: str, content: bytes | None
) -> None:
    copy = shutil.copytree(folder, tmp_path / 'copy')
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    with pytest.raises(ModelError, match=file) as caught:
        registry.load(copy)
    assert '\n' not in str(caught.value)


def test_a_graph_with_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / 'copy')
    onnx.save(tiny.graph(classes=4), str(copy / 'net.onnx'))
    with pytest.raises(ModelError, match='do not match'):
        registry.load(copy)


def test_a_dtype_other_than_float32_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match='float16'):
        registry.load(folder, dtype='float16')


@pytest.mark.parametrize(
    'changed',
    [{'nets': ()}, {'semantic_share': 0.0}, {'match_below': 2.0}, {'feature_dim': 0}],
)
def test_configurations_out_of_range_are_refused(folder: Path, changed: dict[str, object]) -> None:
    config = registry.read_config(folder)
    with pytest.raises(ModelError, match=next(iter(changed))):
        dataclasses.replace(config, **changed)
