# SPDX-License-Identifier: Apache-2.0
"""Text decoder for models that are published without one: a Y-Decoder trained on texts only.

`vljepa train` writes it to the model folder as y_decoder.yaml and y_decoder.safetensors. It is
valid only for vectors of one model id.

Shapes: N vectors, D embedding_dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.model.config import ANY, MAX_WIDTH, YDecoderConfig, check, parse
from vljepa_ros.model.language.modality_gap import GapCorrection
from vljepa_ros.model.language.y_decoder import YDecoder
from vljepa_ros.model.weights import load_weights

CONFIG, WEIGHTS = 'y_decoder.yaml', 'y_decoder.safetensors'
PARTS = ('bridge', 'y_decoder')  # prefixes in y_decoder.safetensors
MAX_ANCHORS = 100_000


@dataclass(frozen=True)
class TextDecoderConfig:
    """Contents of the y_decoder.yaml of a model folder.

    `model_id`: id of the model whose vectors are decoded. `anchors`, `anchor_temperature`: number
    of sentence embeddings that vectors are projected on, and the softmax temperature of this
    projection (see `GapCorrection`). `bank_below`: minimum cosine of a vector and its decoded
    text; below it, the text comes from the sentence bank instead.
    """

    model_id: str
    embedding_dim: int
    y_decoder: YDecoderConfig = field(default_factory=YDecoderConfig)
    anchors: int = 0
    anchor_temperature: float = 0.02
    bank_below: float = -1.0

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('', self, embedding_dim=(1, MAX_WIDTH), anchors=(0, MAX_ANCHORS))
        check('', self, anchor_temperature=(1e-4, 100), bank_below=ANY)


class TextDecoder(nn.Module):
    """Y-Decoder trained on texts only (`y_decoder`), with its gap correction (`bridge`)."""

    def __init__(self, config: TextDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bridge = GapCorrection(
            config.embedding_dim, config.anchors, config.anchor_temperature
        )
        self.y_decoder = YDecoder(config.y_decoder, config.embedding_dim)

    def placed(self, vectors: NDArray[np.float32], asked: bool) -> NDArray[np.float32]:
        """Re-center predicted vectors with `GapCorrection.place`; return unit vectors (N, D).

        Args:
            vectors: Predicted vectors (N, D).
            asked: Whether they answer questions.
        """
        return self._transform(lambda v: self.bridge.place(v, asked), vectors)

    def projected(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project vectors (N, D) on sentence embeddings, as input of the Y-Decoder.

        The vectors are text embeddings or re-centered predicted vectors.
        """
        return self._transform(self.bridge.project, vectors)

    def _transform(
        self, step: Callable[[Tensor], Tensor], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        moved = step(torch.from_numpy(vectors).to(self.bridge.gap.device))
        found: NDArray[np.float32] = moved.cpu().numpy()
        return found

    def forward(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Project text embeddings and compute the Y-Decoder's logits for them, for training.

        Args:
            vectors: Text embeddings (N, D).
            tokens: Local token ids (N, L) of the texts; see `YDecoder.forward`.

        Returns:
            Logits of the next token (N, L + 1, vocabulary).
        """
        logits: Tensor = self.y_decoder(self.bridge.project(vectors), tokens)
        return logits


def exists(folder: Path) -> bool:
    """Return whether a model folder contains a text decoder."""
    return (folder / CONFIG).is_file()


def load(folder: Path, facts: ModelFacts) -> TextDecoder:
    """Load the text decoder of a model folder in float32, on the model's device.

    Args:
        folder: Model folder.
        facts: Constants of the model.

    Raises:
        ModelError: The text decoder is damaged or belongs to another model.
    """
    path = folder / CONFIG
    try:
        config = parse(TextDecoderConfig, yaml.safe_load(path.read_text()), CONFIG)
    except (OSError, yaml.YAMLError, ValueError, ModelError) as error:
        raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error
    if config.model_id != facts.model_id:
        raise ModelError(
            f"{path} is for vectors of model '{config.model_id}', but the model is "
            f"'{facts.model_id}': train another decoder (vljepa train), or remove the file"
        )
    decoder = TextDecoder(config)
    load_weights(decoder, folder / WEIGHTS, PARTS)
    return decoder.to(facts.device).eval().requires_grad_(False)


def save(made: TextDecoder, folder: Path) -> None:
    """Write the text decoder `made` to a model folder: y_decoder.yaml and y_decoder.safetensors.

    Both files are written under temporary names first, so a full disk does not damage an existing
    text decoder.

    Raises:
        OutputError: A file cannot be written.
    """
    tensors = {key: value.contiguous().cpu() for key, value in made.state_dict().items()}
    text = yaml.safe_dump(dataclasses.asdict(made.config), sort_keys=False)
    parts = {name: folder / f'.{name}.part' for name in (WEIGHTS, CONFIG)}
    try:
        parts[WEIGHTS].write_bytes(safetensors.torch.save(tensors, metadata={'format': 'pt'}))
        parts[CONFIG].write_text('# SPDX-License-Identifier: Apache-2.0\n' + text)
        for name, part in parts.items():
            part.replace(folder / name)
    except OSError as error:
        raise OutputError(f'cannot write the decoder to {folder}: {error.strerror}') from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
