# SPDX-License-Identifier: Apache-2.0
"""Pitfalls of V-JEPA 2 and EmbeddingGemma in `transformers`, and our workarounds.

If possible, the behavior is tested on the original class, so that a test detects a change.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny_bidirectional as tiny
from model.bidirectional.test_parity import normalized, plain_vjepa
from torch.nn.modules.module import register_module_forward_hook

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.protocols import Model
from vljepa_ros.model.bidirectional.predictor import Predictor


@pytest.fixture(scope='module')
def net() -> Any:
    return tiny.net()


def test_images_of_another_size_than_configured_are_rejected(
    net: Any,
) -> None:
    plain = plain_vjepa(net)
    attention = plain.encoder.layer[0].attention
    wide = plain.encoder.embeddings(normalized(tiny.video(2, size=64)))  # 64 tokens of 8 x 8
    frame, _, _ = attention.get_position_ids(wide)
    assert frame.tolist() == [i // 16 for i in range(64)]  # taken for 4 tubelets of 4 x 4
    assert net.x_encoder.model.config.crop_size == tiny.config().x_encoder.image_size
    with pytest.raises(ValueError, match=r'64x64.*32x32'):
        net.x_encoder(tiny.video(2, size=64))


def test_the_predictor_of_v_jepa_2_does_not_run(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.vjepa2 import modeling_vjepa2

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError('the predictor of V-JEPA 2 ran')

    monkeypatch.setattr(modeling_vjepa2.VJEPA2Predictor, 'forward', run)
    with pytest.raises(AssertionError, match='ran'):
        plain_vjepa(net)(normalized(tiny.video(2)))
    net.x_encoder(tiny.video(2))
    assert not [key for key in net.state_dict() if 'x_encoder.model.predictor' in key]


def test_a_single_frame_is_repeated(net: Any) -> None:
    frame = tiny.video(1)
    torch.testing.assert_close(net.x_encoder(frame), net.x_encoder(frame.repeat(1, 2, 1, 1, 1)))


def test_an_odd_number_of_frames_is_rejected_because_the_last_would_be_dropped(net: Any) -> None:
    images, plain = tiny.video(5), plain_vjepa(net)
    with torch.no_grad():
        dropped = plain(normalized(images), skip_predictor=True).last_hidden_state
        without = plain(normalized(images[:, :4]), skip_predictor=True).last_hidden_state
    torch.testing.assert_close(dropped, without)
    with pytest.raises(ValueError, match=r'5 frames.* 2 '):
        net.x_encoder(images)
    with pytest.raises(ModelError, match=r'hop_frames \(3\)'):
        tiny.config(time=tiny.WindowConfig(4.0, 3, 9))


def test_positions_are_computed_in_float32_for_every_model_dtype() -> None:
    """Tubelet 31, row 15, column 15: the far end of 64 frames of 256 x 256."""
    from transformers import VJEPA2Config
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

    from vljepa_ros.model.bidirectional.x_encoder import RotaryAttention

    torch.manual_seed(0)
    config = VJEPA2Config(hidden_size=64, num_attention_heads=1)
    positions = tuple(torch.tensor([position]) for position in (31, 15, 15))
    query = torch.randn(1, 1, 500, 64, dtype=torch.float64)

    def rotated(of: type, dtype: torch.dtype) -> torch.Tensor:
        found = of(config, 64, 1).apply_rotary_embeddings(query.to(dtype), positions)
        assert found.dtype is dtype
        return found.double()

    exact = rotated(VJEPA2RopeAttention, torch.float64)
    plain, ours = (
        (rotated(of, torch.bfloat16) - exact).pow(2).mean().sqrt()
        for of in (VJEPA2RopeAttention, RotaryAttention)
    )
    assert ours < 0.004  # rounding error of bfloat16: 2^-8
    assert plain > 1.5 * ours


def test_v_jepa_rotary_scores_depend_on_absolute_positions() -> None:
    """Therefore, cached keys are rotated to their position in the window, not by their age."""
    from transformers.models.vjepa2.modeling_vjepa2 import rotate_queries_or_keys

    torch.manual_seed(0)
    query, key = torch.randn(2, 100, 1, 1, 20)

    def score(of_query: int, of_key: int) -> torch.Tensor:
        rotated = rotate_queries_or_keys(query, torch.tensor([of_query]))
        return (rotated * rotate_queries_or_keys(key, torch.tensor([of_key]))).sum(dim=-1)

    assert (score(3, 1) - score(13, 11)).abs().mean() > 1.0


def predictor_of(model: Model) -> Any:
    """Return the Predictor that runs in a prediction of a model."""
    assert model.vision is not None
    state, modules = model.vision.new_state(), list[Any]()
    model.vision.step(state, list(tiny.video(2)[0].numpy()))
    hook = register_module_forward_hook(lambda module, *_: modules.append(module))
    try:
        model.vision.predict(state, ['a'])
    finally:
        hook.remove()
    (found,) = (module for module in modules if isinstance(module, Predictor))
    return found


def test_rotary_frequencies_stay_in_float32(tmp_path: Any) -> None:
    """In bfloat16, the rotation of Llama's token 1000 would have an error of several radians."""
    from vljepa_ros.model import registry

    model = registry.load(str(tiny.save(tmp_path / 'm')), device='cpu', dtype='bfloat16')
    predictor = predictor_of(model)
    assert {p.dtype for p in predictor.parameters()} == {torch.bfloat16}
    expected, found = (net.rotary_emb.inv_freq for net in (tiny.net().predictor, predictor))
    assert expected.dtype is found.dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_float16_is_rejected_because_embedding_gemma_overflows(tmp_path: Any) -> None:
    from vljepa_ros.model import registry

    folder = tiny.save(tmp_path / 'm')
    with pytest.raises(ModelError, match=r'float16.*bfloat16'):
        registry.load(str(folder), device='cpu', dtype='float16')


def test_activations_beyond_float16_are_finite_in_the_other_dtypes() -> None:
    """EmbeddingGemma's norms amplify the output of each layer until the sum overflows float16."""
    ids = torch.tensor([[1, 6, 7, 8, 2]])
    mask = torch.ones_like(ids, dtype=torch.bool)

    def encoded(dtype: torch.dtype) -> torch.Tensor:
        encoder = tiny.net().y_encoder
        for layer in encoder.model.layers:
            layer.post_feedforward_layernorm.weight.fill_(20_000.0)  # seven layers: 140,000
        return encoder.to(dtype)(ids, mask)

    exact = encoded(torch.float32)
    assert not encoded(torch.float16).isfinite().all()
    assert (encoded(torch.bfloat16) * exact).sum() > 0.99


def test_padding_is_masked_by_length_and_not_by_token_id(tmp_path: Any) -> None:
    """A text that contains Llama's padding token (its end of text) is not truncated there."""
    from vljepa_ros.model.checkpoint_config import TokenizerConfig
    from vljepa_ros.model.language.tokenizer import Tokens

    tiny.save_tokenizer(tmp_path / 't.json')
    tokens = Tokens(tmp_path, TokenizerConfig('t.json', '<begin>', '<end>'), 9)
    ids, mask = tokens.batch(['a b', 'a <end> b c'], torch.device('cpu'))
    assert mask.sum(dim=1).tolist() == [4, ids.shape[1]]
    assert ids[1, 0] == 1 and ids[1, -1] == 2 and bool(mask[1].all())
