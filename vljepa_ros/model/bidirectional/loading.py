# SPDX-License-Identifier: Apache-2.0
"""Models of kind `bidirectional`: a folder's halves, if the device can hold them."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.image_encoder import CausalSight, WindowSight
from vljepa_ros.model.bidirectional.network import LANGUAGE, VISION, BidirectionalVLJEPA
from vljepa_ros.model.bidirectional.vision import PROMPTS_AT_ONCE, BidirectionalVision
from vljepa_ros.model.devices import check_memory, weight_bytes
from vljepa_ros.model.hub.uninitialized import no_init_weights
from vljepa_ros.model.language.bank_language import make_language, wants_language
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.model.weights import DTYPES, WEIGHTS, place_weights

log = logging.getLogger(__name__)

make = BidirectionalVLJEPA  # with random weights


def load(
    folder: Path,
    config: BidirectionalConfig,
    device: torch.device,
    dtype: str,
    parts: tuple[str, ...],
) -> Model:
    """The halves that `parts` names. Raises ModelError: damaged, float16, not enough memory."""
    if dtype == 'float16':
        raise ModelError(
            f'{config.name} cannot run in float16, which the activations of EmbeddingGemma '
            f'overflow: choose bfloat16 or float32'
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f'{folder / WEIGHTS} is missing: vljepa models get {config.name}')
    names = (VISION if 'vision' in parts else ()) + (LANGUAGE if wants_language(parts) else ())
    check_memory(config.name, needed_bytes(config, names, dtype), device, dtype)
    net = read(folder, config, device, dtype, names)
    return assemble(net, config, folder, device, dtype, parts)


def read(
    folder: Path,
    config: BidirectionalConfig,
    device: torch.device,
    dtype: str,
    names: tuple[str, ...],
) -> BidirectionalVLJEPA:
    """The named parts with the folder's weights."""
    with no_init_weights():  # all are read next
        net = BidirectionalVLJEPA(config, names)
    place_weights(net, folder / WEIGHTS, names, device, DTYPES[dtype])
    return net.eval().requires_grad_(False)


def assemble(
    net: BidirectionalVLJEPA,
    config: BidirectionalConfig,
    folder: Path,
    device: torch.device,
    dtype: str,
    parts: tuple[str, ...] = ('vision', 'language'),
) -> Model:
    """The halves of a net that is in memory, with the folder's tokenizers and bank."""
    asking = Tokens(folder, config.predictor.tokenizer, config.predictor.max_prompt_tokens)
    reading = Tokens(folder, config.y_encoder.tokenizer, config.y_encoder.max_tokens)
    hashes = file_hash(folder / WEIGHTS)[:8], asking.sha256[:4] + reading.sha256[:4]
    facts = _facts(config, '-'.join((config.name, *hashes)), device, dtype)
    vision, language = None, None
    if 'vision' in parts:
        sight = CausalSight if config.x_encoder.block_causal else WindowSight
        vision = BidirectionalVision(net.predictor, sight(net.x_encoder, config), asking, facts)
    if wants_language(parts):
        bank = Bank(folder, config.bank)
        encoder, fitted = net.y_encoder, config.calibration
        language = make_language(folder, parts, encoder, reading, bank, facts, fitted)
        if not config.calibrated:
            log.warning('%s: its scores are not calibrated: ranks count, not values', config.name)
    return Model(facts, vision, language)


def _facts(config: BidirectionalConfig, name: str, device: torch.device, dtype: str) -> ModelFacts:
    hops = config.time.window_frames // config.time.hop_frames
    return ModelFacts(
        # Other vectors than those of window mode are another model's.
        model_id=f'{name}-causal' if config.x_encoder.block_causal else name,
        embedding_dim=config.embedding_dim,
        image_size=config.x_encoder.image_size,
        rate_hz=config.time.rate_hz,
        tubelet_frames=config.time.hop_frames,
        window_tubelets=hops,
        receptive_tubelets=_receptive_hops(config) if config.x_encoder.block_causal else hops,
        device=str(device),
        dtype=dtype,
    )


def _receptive_hops(config: BidirectionalConfig) -> int:
    """Of block-causal eyes: each layer looks W-1 tubelets further back, the Predictor, too."""
    tubelets = (config.x_encoder.layers + 1) * (config.window_tubelets - 1) + 1
    return -(-tubelets * config.x_encoder.tubelet_frames // config.time.hop_frames)


def needed_bytes(config: BidirectionalConfig, names: tuple[str, ...], dtype: str) -> int:
    """What the named parts will take: their weights, and the largest layer at work."""
    with torch.device('meta'):
        net = BidirectionalVLJEPA(config, names)
    x, p, y = config.x_encoder, config.predictor, config.y_encoder
    visual = config.window_tubelets * x.tokens
    asked = PROMPTS_AT_ONCE * (visual + p.max_prompt_tokens)
    # A layer holds its input, normed input, queries, keys, values and result beside the MLP.
    work = {
        'x_encoder': visual * int(x.width * (6 + 2 * x.mlp_ratio)),
        'predictor': asked * (6 * p.width + 3 * p.mlp_width),
        'y_encoder': 64 * y.max_tokens * (6 * y.width + 3 * y.mlp_width),
    }
    itemsize = DTYPES[dtype].itemsize
    return weight_bytes(net, DTYPES[dtype]) + itemsize * max((work[n] for n in names), default=0)
