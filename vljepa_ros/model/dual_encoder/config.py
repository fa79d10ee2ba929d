# SPDX-License-Identifier: Apache-2.0
"""Configuration of a dual encoder: SigLIP 2 (arXiv 2502.14786) with a fixed image resolution.

A dual encoder embeds images and texts separately in one space. The default values are those of
`google/siglip2-base-patch16-256`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.checkpoint_config import BankConfig, SourceConfig, TokenizerConfig
from vljepa_ros.model.config import MAX_TOKENS, MAX_WEIGHTS, STACK, check
from vljepa_ros.model.stills import StillsConfig

TOWER = {**STACK, 'mlp_width': (1, 1 << 16)}


@dataclass(frozen=True)
class ImageConfig:
    """Configuration of the image encoder, whose width is also the embedding dimension."""

    image_size: int = 256
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('picture.', self, image_size=(2, 4096), patch_size=(1, 256), **TOWER)
        if self.image_size % self.patch_size:
            raise ModelError(
                f'picture.image_size ({self.image_size}) is not a multiple of '
                f'picture.patch_size ({self.patch_size})'
            )


@dataclass(frozen=True)
class TextConfig:
    """Configuration of the text encoder.

    All texts are padded to `max_tokens` tokens, and padding is not masked in attention.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    vocabulary: int = 256_000
    max_tokens: int = 64
    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig('text_tokenizer.json', '', '<eos>', True)
    )

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('text.', self, vocabulary=(1, 1_000_000), max_tokens=(2, MAX_TOKENS), **TOWER)


@dataclass(frozen=True)
class DualConfig:
    """Contents of the model.yaml of a dual encoder.

    `picture`: image encoder. `text`: text encoder. `bank`: sentence bank. `licences`: licenses
    that a user must accept before `vljepa models get` downloads the weights. `sources`: files to
    download. `drawn`: name prefixes of weights that no source provides; `vljepa models get`
    initializes them randomly.
    """

    name: str
    kind: str = 'dual_encoder'
    description: str = ''
    time: StillsConfig = field(default_factory=StillsConfig)
    picture: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    licences: tuple[str, ...] = ()
    sources: tuple[SourceConfig, ...] = ()
    drawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate that widths are multiples of heads and the model is not too large."""
        for part, tower in (('picture', self.picture), ('text', self.text)):
            if tower.width % tower.heads:
                raise ModelError(
                    f'{part}.width ({tower.width}) is not a multiple of heads ({tower.heads})'
                )
        if self.weights > MAX_WEIGHTS:
            raise ModelError(
                f'the model has about {self.weights:,} weights, which is too many (at most '
                f'{MAX_WEIGHTS:,})'
            )

    @property
    def embedding_dim(self) -> int:
        """Dimension of the image and text embeddings."""
        return self.picture.width

    @property
    def weights(self) -> int:
        """Approximate number of weights of both encoders."""
        towers = (self.picture, self.text)
        layers = sum(t.layers * (4 * t.width**2 + 2 * t.width * t.mlp_width) for t in towers)
        return layers + self.text.vocabulary * self.text.width
