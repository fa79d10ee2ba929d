# SPDX-License-Identifier: Apache-2.0
"""The architecture of a streaming VL-JEPA as frozen, self-validating dataclasses.

`models/<name>/model.yaml` is parsed into `ModelConfig`. An unknown, missing or invalid key or a
number out of range raises a ModelError that names it. The ranges are generous: they only prevent
a damaged file from requesting more memory than a machine has.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from vljepa_ros.core.errors import ModelError

T = TypeVar('T')

CONFIG = 'model.yaml'

MAX_WIDTH, MAX_LAYERS, MAX_HEADS, MAX_TOKENS, MAX_GRID = 8192, 128, 128, 4096, 64
MAX_WEIGHTS = 2_000_000_000  # approximate total of all stacks; 8 GB in float32
STACK = {'width': (4, MAX_WIDTH), 'layers': (1, MAX_LAYERS), 'heads': (1, MAX_HEADS)}
ANY = (-1e30, 1e30)  # fitted values: any finite number


def check(part: str, config: Any, **ranges: tuple[float, float]) -> None:
    """Raise ModelError if a number, or any number of a list, is out of its range.

    Args:
        part: Prefix of the keys in the message, with a trailing dot.
        config: Dataclass that holds the numbers.
        ranges: Inclusive lower and upper limit of each field.
    """
    for key, (low, high) in ranges.items():
        value = getattr(config, key)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:  # also true for nan
                shown = 'beyond 1e12' if abs(number) > 1e12 else f'{number:g}'
                raise ModelError(f'{part}{key} ({shown}) is not in {low:g}..{high:g}')


@dataclass(frozen=True)
class TimeConfig:
    """Sampling in time: frames per second, frames per tubelet, tubelets attended to."""

    rate_hz: float = 10.0
    tubelet_frames: int = 2
    window_tubelets: int = 8

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('time.', self, rate_hz=(0.01, 1000), tubelet_frames=(1, 64))
        check('time.', self, window_tubelets=(1, 1024))

    @property
    def window_s(self) -> float:
        """Length of the attention window in seconds."""
        return self.window_tubelets * self.tubelet_frames / self.rate_hz


@dataclass(frozen=True)
class XEncoderConfig:
    """Convolutional stem (one stride-2 stage per entry) and block-causal transformer."""

    image_size: int = 96
    stem: tuple[int, ...] = (32, 64, 128)
    width: int = 192
    layers: int = 4
    heads: int = 3

    def __post_init__(self) -> None:
        """Validate all fields."""
        if not 1 <= len(self.stem) <= 8:
            raise ModelError(f'x_encoder.stem has {len(self.stem)} widths, not 1..8')
        check('x_encoder.', self, image_size=(8, 4096), stem=(1, MAX_WIDTH), **STACK)

    @property
    def grid(self) -> int:
        """Tokens per side. Every stage of the stem halves the side, and so does its last layer."""
        return int(self.image_size // 2 ** (len(self.stem) + 1))


@dataclass(frozen=True)
class RegionFinderConfig:
    """Convolutional network that finds the workspace, to which every tubelet is cropped.

    `image_size`: side of the frames that the model receives; 0: the model has no finder, and its
    frames have the size of the X-Encoder's images. `smallest`: least side of a region, as a
    fraction of the frame.
    """

    image_size: int = 0
    stem: tuple[int, ...] = (16, 32, 64, 96)
    smallest: float = 0.3

    def __post_init__(self) -> None:
        """Validate all fields."""
        if not 1 <= len(self.stem) <= 8:
            raise ModelError(f'region_finder.stem has {len(self.stem)} widths, not 1..8')
        check('region_finder.', self, image_size=(0, 4096), stem=(1, MAX_WIDTH))
        check('region_finder.', self, smallest=(0.01, 1.0))


@dataclass(frozen=True)
class PredictorConfig:
    """Block-causal visual prefix, and suffix of prompt tokens and learned answer tokens."""

    merge: int = 2
    width: int = 256
    layers: int = 3
    heads: int = 4
    answer_tokens: int = 4
    max_prompt_tokens: int = 128

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('predictor.', self, merge=(1, MAX_GRID), answer_tokens=(1, 256), **STACK)
        check('predictor.', self, max_prompt_tokens=(1, MAX_TOKENS))


@dataclass(frozen=True)
class TextTowerConfig:
    """The frozen text tower: its name, its width, and its required hash ('': any)."""

    name: str = 'all-MiniLM-L6-v2'
    width: int = 384
    sha256: str = ''

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('text_tower.', self, width=STACK['width'])


@dataclass(frozen=True)
class YEncoderConfig:
    """Trained head on the token states of the text tower."""

    layers: int = 1
    heads: int = 6
    max_tokens: int = 64

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('y_encoder.', self, layers=STACK['layers'], heads=STACK['heads'])
        check('y_encoder.', self, max_tokens=(1, MAX_TOKENS))


@dataclass(frozen=True)
class YDecoderConfig:
    """Small autoregressive transformer after `prefix_tokens` that come from one embedding."""

    width: int = 256
    layers: int = 3
    heads: int = 4
    prefix_tokens: int = 4
    max_tokens: int = 24
    beams: int = 3
    vocabulary: int = 0

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('y_decoder.', self, prefix_tokens=(1, 256), max_tokens=(1, MAX_TOKENS), **STACK)
        check('y_decoder.', self, beams=(1, 64), vocabulary=(0, 1_000_000))
        if self.width % self.heads:
            raise ModelError(
                f'y_decoder.width ({self.width}) is not a multiple of y_decoder.heads '
                f'({self.heads})'
            )


class WordsLogit(NamedTuple):
    """Coefficients of the logit that a decoded text is right; see `CalibrationConfig`."""

    slope: float
    margin: float
    cosine: float
    words: float
    bias: float
    direction: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationConfig:
    """Maps cosines and log-probabilities to scores; fitted on the validation split.

    Candidates: softmax(cosine / rank_temperature). `unknown`, the text for "cannot tell" ('': the
    model has none), competes in the softmax, with unknown_bias added to its logit. Yes/no
    candidates have a temperature and a bias of their own (temperature 0: the same as others), and
    yes_bias is added to the logit of yes.

    Abstention: an answer is withheld if the share of `unknown` is above abstain_above. The
    threshold of a decoded answer is abstain_words_above, with only that answer as competitor.

    One text: sigmoid((cosine - match_centre) / match_scale).

    Decoded text: sigmoid of the sum of
        decode_slope * mean token log-probability,
        decode_margin * difference of that to the best of the other beams,
        decode_cosine * cosine of the vector to the text's embedding,
        decode_words * number of words,
        decode_bias, and
        the dot product of the vector with decode_direction (empty: none), because errors are more
        frequent in some directions of the embedding space.
    A text that answers a question uses answer_* instead, unless all of them are 0.
    """

    rank_temperature: float = 0.07
    unknown_bias: float = 0.0
    yes_no_temperature: float = 0.0
    yes_no_unknown_bias: float = 0.0
    yes_bias: float = 0.0
    unknown: str = ''
    abstain_above: float = 1.0
    abstain_words_above: float = 1.0
    match_centre: float = 0.5
    match_scale: float = 0.1
    decode_slope: float = 2.0
    decode_margin: float = 0.0
    decode_cosine: float = 0.0
    decode_words: float = 0.0
    decode_bias: float = 2.0
    decode_direction: tuple[float, ...] = ()
    answer_slope: float = 0.0
    answer_margin: float = 0.0
    answer_cosine: float = 0.0
    answer_words: float = 0.0
    answer_bias: float = 0.0
    answer_direction: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('calibration.', self, rank_temperature=(1e-6, 1e6))
        check('calibration.', self, unknown_bias=(-100, 100), yes_no_unknown_bias=(-100, 100))
        check('calibration.', self, yes_bias=(-100, 100))
        check('calibration.', self, abstain_above=(0, 1), abstain_words_above=(0, 1))
        check('calibration.', self, match_centre=ANY, match_scale=ANY)
        for part in ('slope', 'margin', 'cosine', 'words', 'bias'):
            check('calibration.', self, **{f'decode_{part}': ANY, f'answer_{part}': ANY})
        for name in ('decode_direction', 'answer_direction'):
            if not all(map(math.isfinite, getattr(self, name))):
                raise ModelError(f'calibration.{name} contains a number that is not finite')
        if self.yes_no_temperature:
            check('calibration.', self, yes_no_temperature=(1e-6, 1e6))
        if not self.match_scale:
            raise ModelError('calibration.match_scale must not be 0')

    def words(self, asked: bool) -> WordsLogit:
        """Return the coefficients for a decoded text; `asked`: the text answers a question."""
        answers = WordsLogit(
            self.answer_slope,
            self.answer_margin,
            self.answer_cosine,
            self.answer_words,
            self.answer_bias,
            self.answer_direction,
        )
        if asked and any(answers):
            return answers
        return WordsLogit(
            self.decode_slope,
            self.decode_margin,
            self.decode_cosine,
            self.decode_words,
            self.decode_bias,
            self.decode_direction,
        )


@dataclass(frozen=True)
class FamiliarityConfig:
    """File in the model folder with the detectors of unfamiliar scenes and unreadable texts.

    `vljepa calibrate` writes it. It is valid only for the weights that it was fitted for. If it is
    '', there are no detectors: every scene counts as familiar and every text as readable.
    """

    file: str = ''

    def __post_init__(self) -> None:
        """Check that the file lies in the model folder."""
        if self.file and (set('/\\') & set(self.file) or self.file.startswith('.')):
            raise ModelError(f'familiarity.file ({_shown(self.file)}) is not a plain file name')


@dataclass(frozen=True)
class ModelConfig:
    """Contents of model.yaml of one model folder."""

    name: str
    kind: str = 'streaming'
    description: str = ''
    embedding_dim: int = 256
    time: TimeConfig = field(default_factory=TimeConfig)
    region_finder: RegionFinderConfig = field(default_factory=RegionFinderConfig)
    x_encoder: XEncoderConfig = field(default_factory=XEncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    text_tower: TextTowerConfig = field(default_factory=TextTowerConfig)
    y_encoder: YEncoderConfig = field(default_factory=YEncoderConfig)
    y_decoder: YDecoderConfig = field(default_factory=YDecoderConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    familiarity: FamiliarityConfig = field(default_factory=FamiliarityConfig)

    def __post_init__(self) -> None:
        """Check that the parts are consistent with each other."""
        x, p = self.x_encoder, self.predictor
        check('', self, embedding_dim=(1, MAX_WIDTH))
        if self.kind != 'streaming':
            raise ModelError(
                f"kind is '{self.kind}', but this architecture requires kind 'streaming'"
            )
        if x.image_size % 2 ** (len(x.stem) + 1):
            raise ModelError(
                f'x_encoder.image_size ({x.image_size}) is not a multiple of '
                f'{2 ** (len(x.stem) + 1)}, as x_encoder.stem with {len(x.stem)} widths requires'
            )
        if not 1 <= x.grid <= MAX_GRID:
            raise ModelError(
                f'x_encoder: grid ({x.grid}), which follows from image_size and stem, is not in '
                f'1..{MAX_GRID}'
            )
        if 0 < self.region_finder.image_size < x.image_size:
            raise ModelError(
                f'region_finder.image_size ({self.region_finder.image_size}) is smaller than '
                f'x_encoder.image_size ({x.image_size})'
            )
        if x.image_size < 2 ** len(self.region_finder.stem) and self.region_finder.image_size:
            raise ModelError(
                f'x_encoder.image_size ({x.image_size}) is too small for region_finder.stem with '
                f'{len(self.region_finder.stem)} widths'
            )
        if x.grid % p.merge:
            raise ModelError(
                f'x_encoder: grid ({x.grid}) is not a multiple of predictor.merge ({p.merge})'
            )
        for part, width, heads in (
            ('x_encoder', x.width, x.heads),
            ('predictor', p.width, p.heads),
            ('y_encoder', self.text_tower.width, self.y_encoder.heads),
            ('y_decoder', self.y_decoder.width, self.y_decoder.heads),
        ):
            if width % (4 * heads):
                raise ModelError(
                    f'{part}: width ({width}) is not a multiple of 4 times heads ({heads})'
                )
        unknown, longest = self.calibration.unknown, self.y_encoder.max_tokens - 2
        if unknown and (len(unknown) > longest or unknown != unknown.strip()):
            raise ModelError(
                f'calibration.unknown ({_shown(unknown)}) must be a text of at most {longest} '
                f'characters, without leading or trailing blanks'
            )
        if self.weight_count > MAX_WEIGHTS:
            raise ModelError(
                f'the model has about {self.weight_count:,} weights, which is too many (at most '
                f'{MAX_WEIGHTS:,})'
            )

    @property
    def image_size(self) -> int:
        """Side of the frames that the model receives, in pixels."""
        return self.region_finder.image_size or self.x_encoder.image_size

    @property
    def weight_count(self) -> int:
        """Approximate number of weights in blocks, stem and vocabulary."""
        y, stem = self.y_decoder, (3, *self.x_encoder.stem, self.x_encoder.width)
        stacks = [(part.layers, part.width) for part in (self.x_encoder, self.predictor, y)]
        stacks.append((self.y_encoder.layers, self.text_tower.width))
        blocks = sum(12 * layers * width**2 for layers, width in stacks)
        return blocks + sum(9 * a * b for a, b in zip(stem, stem[1:])) + y.vocabulary * y.width

    @property
    def receptive_tubelets(self) -> int:
        """Receptive field: L (W - 1) + 1 tubelets, where L counts the layers of both stacks."""
        layers = self.x_encoder.layers + self.predictor.layers
        return layers * (self.time.window_tubelets - 1) + 1


def parse(cls: type[T], values: Any, where: str) -> T:
    """Build the dataclass `cls` from a mapping.

    Args:
        cls: Dataclass whose type hints define the known keys.
        values: Parsed YAML.
        where: Location of `values`, for messages.

    Raises:
        ModelError: `values` is not a mapping, or a key is unknown, missing or invalid.
    """
    if not isinstance(values, dict):
        raise ModelError(f'{where}: expected a mapping, found {type(values).__name__}')
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints), key=str)
    if unknown:
        raise ModelError(f"{where}: unknown key '{unknown[0]}' (known: {', '.join(hints)})")
    found = {key: _convert(hints[key], value, f'{where}.{key}') for key, value in values.items()}
    own: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(cls)  # type: ignore[arg-type]
    absent = [f.name for f in own if f.name not in found and _is_required(f)]
    if absent:
        raise ModelError(f"{where}: the key '{absent[0]}' is missing")
    return cls(**found)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    if hint is float and type(value) is int and abs(value) < 1 << 64:
        return float(value)
    if get_origin(hint) is tuple:
        return _list(get_args(hint)[0], value, where)
    if type(value) is not hint:
        raise ModelError(f'{where}: expected {hint.__name__}, found {_shown(value)}')
    return value


def _list(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    """Convert a list of numbers, texts or mappings to a tuple."""
    if hint is int and not (isinstance(value, list) and all(type(item) is int for item in value)):
        raise ModelError(f'{where}: expected a list of integers, found {_shown(value)}')
    if not isinstance(value, list):
        raise ModelError(f'{where}: expected a list, found {_shown(value)}')
    return tuple(_convert(hint, item, f'{where}[{i}]') for i, item in enumerate(value))


def _shown(value: Any) -> str:
    """Return the value as text of at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}...'
