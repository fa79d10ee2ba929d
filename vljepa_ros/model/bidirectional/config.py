# SPDX-License-Identifier: Apache-2.0
"""Configuration of a full-size VL-JEPA with bidirectional attention (arXiv 2512.10942).

The default values are those of the public checkpoint `cun-bjy/open-vljepa`: V-JEPA 2 ViT-L as
X-Encoder, the last 8 layers of Llama-3.2-1B without a causal mask as Predictor, and
EmbeddingGemma-300M as Y-Encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.checkpoint_config import BankConfig, SourceConfig, TokenizerConfig
from vljepa_ros.model.config import (
    MAX_HEADS,
    MAX_TOKENS,
    MAX_WEIGHTS,
    MAX_WIDTH,
    STACK,
    CalibrationConfig,
    check,
)

MAX_VOCABULARY = 1_000_000
GROUPED = {'key_value_heads': (1, MAX_HEADS), 'head_width': (2, 512), 'mlp_width': (1, 1 << 16)}


@dataclass(frozen=True)
class WindowConfig:
    """Timing of a bidirectional model: frame rate in Hz, frames per hop, frames per window.

    A hop is the step between two embeddings. Each embedding covers one window.
    """

    rate_hz: float = 2.0
    hop_frames: int = 2
    window_frames: int = 8

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('time.', self, rate_hz=(0.01, 1000), hop_frames=(1, 256))
        check('time.', self, window_frames=(1, 256))
        if self.window_frames % self.hop_frames:
            raise ModelError(
                f'time.window_frames ({self.window_frames}) is not a multiple of '
                f'time.hop_frames ({self.hop_frames})'
            )

    @property
    def window_s(self) -> float:
        """Length of the window in seconds."""
        return self.window_frames / self.rate_hz


@dataclass(frozen=True)
class XEncoderConfig:
    """Configuration of the X-Encoder, the encoder of V-JEPA 2.

    `block_causal`: encode each tubelet once, with attention to itself and earlier tubelets,
    instead of encoding the whole window at every hop. The weights were not trained this way;
    `vljepa models compare` measures how much the embeddings change.
    """

    image_size: int = 256
    patch_size: int = 16
    tubelet_frames: int = 2
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_ratio: float = 4.0
    block_causal: bool = False

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('x_encoder.', self, image_size=(2, 4096), patch_size=(1, 256), **STACK)
        check('x_encoder.', self, tubelet_frames=(1, 64), mlp_ratio=(0.1, 64))
        if self.image_size % self.patch_size:
            raise ModelError(
                f'x_encoder.image_size ({self.image_size}) is not a multiple of '
                f'x_encoder.patch_size ({self.patch_size})'
            )

    @property
    def tokens(self) -> int:
        """Number of visual tokens per tubelet: one per image patch."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class PredictorConfig:
    """Configuration of the Predictor, which consists of the last layers of a Llama model.

    `layers`: number of these layers. `rope_factor`: Llama 3's scaling factor of rotary positions;
    0 disables the scaling.
    """

    width: int = 2048
    layers: int = 8
    heads: int = 32
    key_value_heads: int = 8
    head_width: int = 64
    mlp_width: int = 8192
    vocabulary: int = 128_256
    norm_eps: float = 1e-5
    rope_theta: float = 500_000.0
    rope_factor: float = 32.0
    rope_original_tokens: int = 8192
    max_prompt_tokens: int = 64
    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig('predictor_tokenizer.json', '<|begin_of_text|>')
    )

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('predictor.', self, vocabulary=(1, MAX_VOCABULARY), **STACK, **GROUPED)
        check('predictor.', self, norm_eps=(0, 1), rope_theta=(1, 1e12))
        check('predictor.', self, rope_factor=(0, 1e4), rope_original_tokens=(1, 1 << 24))
        check('predictor.', self, max_prompt_tokens=(1, MAX_TOKENS))
        _check_groups('predictor', self.heads, self.key_value_heads)


@dataclass(frozen=True)
class YEncoderConfig:
    """Configuration of the Y-Encoder: a bidirectional Gemma 3 text model and a projection."""

    width: int = 768
    layers: int = 24
    heads: int = 3
    key_value_heads: int = 1
    head_width: int = 256
    mlp_width: int = 1152
    vocabulary: int = 262_144
    norm_eps: float = 1e-6
    sliding_window: int = 512
    max_tokens: int = 64
    tokenizer: TokenizerConfig = field(
        default_factory=lambda: TokenizerConfig('y_encoder_tokenizer.json', '<bos>', '<eos>')
    )

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('y_encoder.', self, vocabulary=(1, MAX_VOCABULARY), **STACK, **GROUPED)
        check('y_encoder.', self, norm_eps=(0, 1), sliding_window=(2, 1 << 20))
        check('y_encoder.', self, max_tokens=(1, MAX_TOKENS))
        _check_groups('y_encoder', self.heads, self.key_value_heads)


def _check_groups(part: str, heads: int, key_value_heads: int) -> None:
    if heads % key_value_heads:
        raise ModelError(
            f'{part}.heads ({heads}) is not a multiple of key_value_heads ({key_value_heads})'
        )


@dataclass(frozen=True)
class BidirectionalConfig:
    """Contents of the model.yaml of a bidirectional model.

    `calibrated`: whether the values of `calibration` and `bank` were fitted; if not, loading logs
    a warning. `licences`: terms that a user accepts before `vljepa models get` downloads. `drawn`:
    name prefixes of weights that no source provides; `vljepa models get` initializes them
    randomly, as a start for training.
    """

    name: str
    kind: str = 'bidirectional'
    description: str = ''
    embedding_dim: int = 1536
    time: WindowConfig = field(default_factory=WindowConfig)
    x_encoder: XEncoderConfig = field(default_factory=XEncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    y_encoder: YEncoderConfig = field(default_factory=YEncoderConfig)
    calibrated: bool = False
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    licences: tuple[str, ...] = ()
    sources: tuple[SourceConfig, ...] = ()
    drawn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate that hops contain whole tubelets and the model is not too large."""
        check('', self, embedding_dim=(1, MAX_WIDTH))
        if self.time.hop_frames % self.x_encoder.tubelet_frames:
            raise ModelError(
                f'time.hop_frames ({self.time.hop_frames}) is not a multiple of '
                f'x_encoder.tubelet_frames ({self.x_encoder.tubelet_frames}): V-JEPA 2 would drop '
                f'the last frames'
            )
        if self.weights > MAX_WEIGHTS:
            raise ModelError(
                f'the model has about {self.weights:,} weights, which is too many (at most '
                f'{MAX_WEIGHTS:,})'
            )

    @property
    def weights(self) -> int:
        """Approximate number of weights of X-Encoder, Predictor and Y-Encoder."""
        x, p, y = self.x_encoder, self.predictor, self.y_encoder
        count = int(x.layers * x.width**2 * (4 + 2 * x.mlp_ratio))
        for part in (p, y):
            attention = 2 * part.width * part.head_width * (part.heads + part.key_value_heads)
            count += part.layers * (attention + 3 * part.width * part.mlp_width)
            count += part.vocabulary * part.width
        return count

    @property
    def window_tubelets(self) -> int:
        """Number of tubelets in the window that one embedding covers."""
        return self.time.window_frames // self.x_encoder.tubelet_frames
