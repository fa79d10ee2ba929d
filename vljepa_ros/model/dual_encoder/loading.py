# SPDX-License-Identifier: Apache-2.0
"""Loading of models of kind `dual_encoder` (SigLIP 2) onto a device with enough free memory."""

from __future__ import annotations

from pathlib import Path

import torch

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.files import file_hash
from vljepa_ros.core.protocols import Model, ModelFacts
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.devices import check_memory, weight_bytes
from vljepa_ros.model.dual_encoder.config import DualConfig
from vljepa_ros.model.dual_encoder.network import DualEncoder
from vljepa_ros.model.dual_encoder.vision import DualVision
from vljepa_ros.model.hub.transformers_compat import no_init_weights
from vljepa_ros.model.language.bank_language import make_language, wants_language
from vljepa_ros.model.language.sentence_bank import Bank
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.model.weights import DTYPES, WEIGHTS, place_weights

make = DualEncoder  # builds the torch module with random weights

WORK = 1.2  # total memory including activations, as a multiple of the size of the weights


def load(
    folder: Path, config: DualConfig, device: torch.device, dtype: str, parts: tuple[str, ...]
) -> Model:
    """Load the vision side, the text side, or both, of a dual encoder.

    The weights of both encoders are loaded in any case.

    Args:
        folder: Model folder.
        config: Contents of its model.yaml.
        device: Device of the weights.
        dtype: Name of the compute dtype, a key of `DTYPES`.
        parts: Sides to load, as in `registry.load`; an omitted side is None in the result.

    Raises:
        ModelError: The folder is incomplete or damaged, or the device has too little memory.
    """
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f'{folder / WEIGHTS} is missing: download it with `vljepa models get {config.name}`'
        )
    with torch.device('meta'):
        needed = int(WORK * weight_bytes(DualEncoder(config), DTYPES[dtype]))
    check_memory(config.name, needed, device, dtype)
    with no_init_weights():  # place_weights fills all of them
        net = DualEncoder(config)
    place_weights(net, folder / WEIGHTS, ('model',), device, DTYPES[dtype])
    net.eval().requires_grad_(False)
    tokens = Tokens(folder, config.text.tokenizer, config.text.max_tokens)
    facts = _facts(config, f'{file_hash(folder / WEIGHTS)[:8]}-{tokens.sha256[:8]}', device, dtype)
    language = None
    if wants_language(parts):
        bank = Bank(folder, config.bank)
        language = make_language(
            folder, parts, net.texts, tokens, bank, facts, own_calibration(net), answers=False
        )
    return Model(facts, DualVision(net, facts) if 'vision' in parts else None, language)


def own_calibration(net: DualEncoder) -> CalibrationConfig:
    """Return SigLIP's learned calibration of image-text scores: sigmoid(scale * cosine + bias)."""
    scale = float(net.model.logit_scale.float().exp())
    bias = float(net.model.logit_bias.float())
    return CalibrationConfig(
        rank_temperature=1 / scale, match_centre=-bias / scale, match_scale=1 / scale
    )


def _facts(config: DualConfig, hashes: str, device: torch.device, dtype: str) -> ModelFacts:
    return ModelFacts(
        model_id=f'{config.name}-{hashes}',
        embedding_dim=config.embedding_dim,
        image_size=config.picture.image_size,
        rate_hz=config.time.rate_hz,
        tubelet_frames=1,
        window_tubelets=1,
        receptive_tubelets=1,
        device=str(device),
        dtype=dtype,
    )
