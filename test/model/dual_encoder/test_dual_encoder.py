# SPDX-License-Identifier: Apache-2.0
"""SigLIP as a model of the stack: the same numbers as transformers, and the same interfaces.

Tolerance: 2e-5 of unit vectors, in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_bidirectional
from helpers import tiny_dual_encoder as tiny

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Model
from vljepa_ros.core.types import Frame, State
from vljepa_ros.model import registry
from vljepa_ros.pipeline import Pipeline

TOLERANCE = 2e-5
WORDS = [*tiny_bidirectional.MARKS, *tiny_bidirectional.WORDS]


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tiny.save(tmp_path_factory.mktemp('models') / 'tiny_dual')
    return registry.load(str(folder), device='cpu')


def noise_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def plain_siglip() -> Any:
    """Return SigLIP of transformers with the tiny model's weights."""
    from transformers import SiglipConfig, SiglipModel

    siglip = SiglipModel(
        SiglipConfig(
            vision_config={
                'image_size': 32,
                'patch_size': 8,
                'hidden_size': 32,
                'intermediate_size': 48,
                'num_hidden_layers': 2,
                'num_attention_heads': 2,
            },
            text_config={
                'vocab_size': 64,
                'hidden_size': 24,
                'intermediate_size': 48,
                'num_hidden_layers': 2,
                'num_attention_heads': 2,
                'max_position_embeddings': 12,
                'projection_size': 32,
            },
        )
    )
    siglip.load_state_dict(tiny.net().model.state_dict())
    return siglip.eval()


def test_logits_equal_transformers(model: Model) -> None:
    """Images are normalized with mean and deviation 0.5, texts padded with 0 to full length."""
    images, texts = noise_images(3), ['The Drawer is OPEN', 'a cup']
    ids = torch.zeros(2, 12, dtype=torch.long)
    for row, text in enumerate(texts):
        found = [WORDS.index(word) for word in [*text.lower().split(), '<end>']]
        ids[row, : len(found)] = torch.tensor(found)
    pixels = ((torch.from_numpy(images).double() / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = plain_siglip()(input_ids=ids, pixel_values=pixels).logits_per_image
    assert model.vision is not None and model.language is not None
    rows = []
    for image in images:
        state = model.vision.new_state()
        model.vision.step(state, [image])
        rows.append(model.vision.predict(state, ['?'])[0])
    cosines = np.stack(rows) @ model.language.encode(texts).T
    logits = np.exp(3.0) * cosines - 2.0
    np.testing.assert_allclose(logits, expected.numpy(), atol=np.exp(3.0) * TOLERANCE)
    scores = model.language.similarity(np.stack(rows), texts[0])
    np.testing.assert_allclose(scores, expected[:, 0].sigmoid().numpy(), atol=1e-4)
    ranked = {c.text: c.score for c in model.language.rank(rows[0], texts)}
    shares = expected[0].softmax(dim=-1)
    assert ranked[texts[0]] == pytest.approx(float(shares[0]), abs=1e-4)


def test_published_checkpoints_have_exactly_the_models_tensors() -> None:
    """Every tensor of a published checkpoint is loaded below `model.`, and none is missing."""
    published = {f'model.{name}' for name in plain_siglip().state_dict()}
    assert published == set(tiny.net().state_dict())
    assert 'model.vision_model.embeddings.patch_embedding.weight' in published
    assert 'model.text_model.embeddings.token_embedding.weight' in published
    assert {'model.logit_scale', 'model.logit_bias'} <= published


def test_the_prompt_does_not_change_the_vector(model: Model) -> None:
    assert model.vision is not None
    state = model.vision.new_state()
    with pytest.raises(InputError, match='frame'):
        model.vision.predict(state, ['a'])
    model.vision.step(state, list(noise_images(1)))
    found = model.vision.predict(state, ['a', 'word ' * 900, ''])
    assert found.shape == (3, tiny.DIM) and (found == found[0]).all()
    model.vision.check_prompts(['word ' * 900])
    assert model.vision.predict(state, []).shape == (0, tiny.DIM)
    with pytest.raises(InputError, match=r'2 frames.* 1'):
        model.vision.step(state, list(noise_images(2)))


def test_a_constant_image_gives_one_segment(model: Model) -> None:
    pipeline, events = Pipeline(model), []
    image = np.full((48, 64, 3), 120, np.uint8)
    for i in range(40):
        events += pipeline.push(Frame(i * 250_000_000, image))
    events += pipeline.finish()
    assert [event.state for event in events] == [State.STARTED, State.ENDED]
    assert pipeline.writer.decodes == 1


def test_the_pipeline_ranks_candidates_and_rejects_open_questions(model: Model) -> None:
    """Events, search and questions with candidates work; an open question is refused."""
    pipeline = Pipeline(model)
    rng, events = np.random.default_rng(1), []
    for i in range(30):
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        events += pipeline.push(Frame(i * 250_000_000, image))
    events += pipeline.finish()
    assert events and all(event.nearest for event in events)
    assert {event.text for event in events} <= set(tiny_bidirectional.SENTENCES)
    answer = pipeline.ask('is it open?', ['the drawer is open', 'the drawer is shut'])
    assert answer.answer in ('the drawer is open', 'the drawer is shut') and answer.ranked
    assert pipeline.search('the robot moves')
    with pytest.raises(InputError, match="'tiny_dual-"):
        pipeline.ask('what is open?')


def test_texts_and_images_of_the_wrong_size_are_named(model: Model, tmp_path: Path) -> None:
    assert model.language is not None
    with pytest.raises(InputError, match=r'14 tokens.* 12'):
        model.language.check('a ' * 13)
    with pytest.raises(ValueError, match=r'8x8.*32x32'):
        tiny.net().encode_images(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    folder = tiny.save(tmp_path / 'm')
    (folder / 'weights.safetensors').unlink()
    with pytest.raises(ModelError, match='vljepa models get tiny_dual'):
        registry.load(str(folder), device='cpu')


def test_vision_and_text_side_load_separately_in_bfloat16_with_one_id(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path / 'm'))
    vision = registry.load(folder, device='cpu', dtype='bfloat16', parts=('vision',))
    language = registry.load(folder, device='cpu', dtype='bfloat16', parts=('language',))
    assert vision.facts == language.facts and vision.language is None and language.vision is None
    assert language.language is not None
    norms = np.linalg.norm(language.language.encode(['a', 'b']), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_the_shipped_description_has_the_published_sizes() -> None:
    """google/siglip2-base-patch16-256: 0.375e9 weights, 0.197e9 of them the table of tokens."""
    config = registry.read_config(registry.find('siglip2'))
    with torch.device('meta'):
        net = registry.make(config)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(375e6, rel=0.01)
    assert config.embedding_dim == 768 and config.sources
