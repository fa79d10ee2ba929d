# SPDX-License-Identifier: Apache-2.0
"""Loading of models of kind `bidirectional` onto a device with enough free memory."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.image_encoder import CausalEncoder, WindowEncoder
from vljepa_ros.model.bidirectional.network import LANGUAGE, VISION, BidirectionalVLJEPA
from vljepa_ros.model.bidirectional.vision import PROMPTS_AT_ONCE, BidirectionalVision
from vljepa_ros.model.devices import check_memory, weight_bytes
from vljepa_ros.model.hub.transformers_compat import no_init_weights
from vljepa_ros.model.language.bank_language import make_language, wants_language
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.model.weights import DTYPES, WEIGHTS, place_weights

log = logging.getLogger(__name__)

make = BidirectionalVLJEPA  # builds the torch module with random weights


def load(
    folder: Path,
    config: BidirectionalConfig,
    device: torch.device,
    dtype: str,
    parts: tuple[str, ...],
) -> Model:
    """Load the vision side, the text side, or both, of a bidirectional model.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml.
        device: Device of the weights.
        dtype: Name of the compute dtype, a key of `DTYPES`.
        parts: Sides to load, as in `registry.load`; an omitted side is None in the result.

    Raises:
        ModelError: The folder is incomplete or damaged, the dtype is float16, or the device has
            too little memory.
    """
    if dtype == 'float16':
        raise ModelError(
            f"model '{config.name}' cannot run in float16, because the activations of "
            f'EmbeddingGemma overflow: use bfloat16 or float32'
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f'{folder / WEIGHTS} is missing: download it with `vljepa models get {config.name}`'
        )
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
    """Load submodules of the network with their weights from a model folder, for inference.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml.
        device: Device of the weights.
        dtype: Name of the compute dtype, a key of `DTYPES`.
        names: Names of the submodules to load, such as `VISION`; no other submodule is created.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    with no_init_weights():  # place_weights fills all of them
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
    """Build a Model from a loaded network and the folder's tokenizers and sentence bank.

    Args:
        net: The network with its weights, on `device`.
        config: Contents of the folder's model.yaml.
        folder: Model folder.
        device: Device of the network.
        dtype: Name of the network's compute dtype.
        parts: Sides of the Model, as in `load`; `net` must have the submodules of these sides.

    Raises:
        ModelError: A tokenizer or the sentence bank is missing or invalid.
    """
    prompt_tokens = Tokens(folder, config.predictor.tokenizer, config.predictor.max_prompt_tokens)
    text_tokens = Tokens(folder, config.y_encoder.tokenizer, config.y_encoder.max_tokens)
    hashes = file_hash(folder / WEIGHTS)[:8], prompt_tokens.sha256[:4] + text_tokens.sha256[:4]
    facts = _facts(config, '-'.join((config.name, *hashes)), device, dtype)
    vision, language = None, None
    if 'vision' in parts:
        kind = CausalEncoder if config.x_encoder.block_causal else WindowEncoder
        encoder = kind(net.x_encoder, config)
        vision = BidirectionalVision(net.predictor, encoder, prompt_tokens, facts)
    if wants_language(parts):
        bank = Bank(folder, config.bank)
        language = make_language(
            folder, parts, net.y_encoder, text_tokens, bank, facts, config.calibration
        )
        if not config.calibrated:
            log.warning(
                "model '%s': scores are not calibrated; rely on their order, not on their values",
                config.name,
            )
    return Model(facts, vision, language)


def _facts(config: BidirectionalConfig, name: str, device: torch.device, dtype: str) -> ModelFacts:
    hops = config.time.window_frames // config.time.hop_frames
    return ModelFacts(
        # Vectors of the two modes are not comparable, so each mode has a model id of its own.
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
    """Return the receptive field of an embedding in block-causal mode, in hops, rounded up.

    Each layer of the X-Encoder, and the Predictor, extends it by W - 1 tubelets, where W is the
    number of tubelets per window.
    """
    tubelets = (config.x_encoder.layers + 1) * (config.window_tubelets - 1) + 1
    return -(-tubelets * config.x_encoder.tubelet_frames // config.time.hop_frames)


def needed_bytes(config: BidirectionalConfig, names: tuple[str, ...], dtype: str) -> int:
    """Estimate the memory in bytes that submodules of the network need for inference.

    The estimate is the size of their weights plus the activations of the largest layer.

    Args:
        config: Contents of model.yaml.
        names: Names of the submodules, such as `VISION`.
        dtype: Name of the compute dtype, a key of `DTYPES`.
    """
    with torch.device('meta'):
        net = BidirectionalVLJEPA(config, names)
    x, p, y = config.x_encoder, config.predictor, config.y_encoder
    visual = config.window_tubelets * x.tokens
    predicted = PROMPTS_AT_ONCE * (visual + p.max_prompt_tokens)
    # Besides those of the MLP, the activations are input, normalized input, queries, keys, values
    # and output.
    work = {
        'x_encoder': visual * int(x.width * (6 + 2 * x.mlp_ratio)),
        'predictor': predicted * (6 * p.width + 3 * p.mlp_width),
        'y_encoder': 64 * y.max_tokens * (6 * y.width + 3 * y.mlp_width),
    }
    itemsize = DTYPES[dtype].itemsize
    return weight_bytes(net, DTYPES[dtype]) + itemsize * max((work[n] for n in names), default=0)
