# SPDX-License-Identifier: Apache-2.0
"""A Y-Decoder that learned from texts alone, for models that came without one.

It lies in the model's folder as y_decoder.yaml and y_decoder.safetensors, made by `vljepa train`,
and reads the vectors of one model_id only.

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
from vljepa_ros.model.language.modality_gap import Bridge
from vljepa_ros.model.language.y_decoder import YDecoder
from vljepa_ros.model.weights import load_weights

CONFIG, WEIGHTS = 'y_decoder.yaml', 'y_decoder.safetensors'
PARTS = ('bridge', 'y_decoder')
MAX_ANCHORS = 100_000


@dataclass(frozen=True)
class TextDecoderConfig:
    """The y_decoder.yaml of a model's folder.

    `anchors`: sentences that vectors are projected on, with `anchor_temperature`. `bank_below`:
    where the cosine of a vector to its own words is lower, the bank speaks in their place.
    """

    model_id: str
    embedding_dim: int
    y_decoder: YDecoderConfig = field(default_factory=YDecoderConfig)
    anchors: int = 0
    anchor_temperature: float = 0.02
    bank_below: float = -1.0

    def __post_init__(self) -> None:
        """Check every number."""
        check('', self, embedding_dim=(1, MAX_WIDTH), anchors=(0, MAX_ANCHORS))
        check('', self, anchor_temperature=(1e-4, 100), bank_below=ANY)


class TextDecoder(nn.Module):
    """Predictions -> the bridge -> words. The part `y_decoder` has only seen texts."""

    def __init__(self, config: TextDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bridge = Bridge(config.embedding_dim, config.anchors, config.anchor_temperature)
        self.y_decoder = YDecoder(config.y_decoder, config.embedding_dim)

    def placed(self, vectors: NDArray[np.float32], asked: bool) -> NDArray[np.float32]:
        """Predictions (N, D) moved to where texts lie; `asked`: as answers to questions are."""
        return self._through(lambda v: self.bridge.place(v, asked), vectors)

    def projected(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Placed predictions, or texts' vectors (N, D), as the decoder reads them."""
        return self._through(self.bridge.project, vectors)

    def _through(
        self, step: Callable[[Tensor], Tensor], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        moved = step(torch.from_numpy(vectors).to(self.bridge.gap.device))
        found: NDArray[np.float32] = moved.cpu().numpy()
        return found

    def forward(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Logits of `YDecoder` for texts' vectors (N, D), which pass the bridge's second half."""
        logits: Tensor = self.y_decoder(self.bridge.project(vectors), tokens)
        return logits


def exists(folder: Path) -> bool:
    """Whether a model's folder has one."""
    return (folder / CONFIG).is_file()


def load(folder: Path, facts: ModelFacts) -> TextDecoder:
    """The folder's, in float32 on the model's device.

    Raises ModelError: damaged, or made for the vectors of another model.
    """
    path = folder / CONFIG
    try:
        config = parse(TextDecoderConfig, yaml.safe_load(path.read_text()), CONFIG)
    except (OSError, yaml.YAMLError, ValueError, ModelError) as error:
        raise ModelError(f'{path}: {str(error).splitlines()[0]}') from error
    if config.model_id != facts.model_id:
        raise ModelError(
            f"{path} is for vectors of '{config.model_id}', the model is '{facts.model_id}': "
            f'train a decoder for it (vljepa train), or remove the file'
        )
    made = TextDecoder(config)
    load_weights(made, folder / WEIGHTS, PARTS)
    return made.to(facts.device).eval().requires_grad_(False)


def save(made: TextDecoder, folder: Path) -> None:
    """Write both files beside those that are there, then put them in their place.

    Raises OutputError where they cannot be written; an older decoder stays as it was then.
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
        raise OutputError(f'{folder}: {error.strerror}') from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
