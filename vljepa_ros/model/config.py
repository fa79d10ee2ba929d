# SPDX-License-Identifier: Apache-2.0
"""Configuration of a streaming VL-JEPA (model.yaml) as frozen, self-validating dataclasses.

`parse` converts `models/<name>/model.yaml` to a `ModelConfig`. It raises a ModelError that names
the key if a key is unknown, missing or invalid, or if a number is out of range. The ranges are
generous: they only prevent a damaged file from requesting more memory than a machine has.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from vljepa_ros.core.errors import ModelError
from vljepa_ros.core.text import shown

T = TypeVar('T')

CONFIG = 'model.yaml'

MAX_WIDTH, MAX_LAYERS, MAX_HEADS, MAX_TOKENS, MAX_GRID = 8192, 128, 128, 4096, 64
MAX_WEIGHTS = 2_000_000_000  # approximate total of all stacks; 8 GB in float32
STACK = {'width': (4, MAX_WIDTH), 'layers': (1, MAX_LAYERS), 'heads': (1, MAX_HEADS)}
ANY = (-1e30, 1e30)  # fitted values: any finite number


def check(part: str, config: Any, **ranges: tuple[float, float]) -> None:
    """Validate that fields of a configuration dataclass lie within inclusive ranges.

    Args:
        part: Section of model.yaml with a trailing dot, such as `time.`; error messages prepend
            it to the field's name. Empty for fields outside of any section.
        config: Instance of the dataclass.
        ranges: Field names as keywords, with the lower and upper limit of each. In a field that
            is a tuple, every number must lie within the limits.

    Raises:
        ModelError: A number is nan or outside of its limits.
    """
    for key, (low, high) in ranges.items():
        value = getattr(config, key)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:  # also true for nan
                shown = 'beyond 1e12' if abs(number) > 1e12 else f'{number:g}'
                raise ModelError(f'{part}{key} ({shown}) is not in {low:g}..{high:g}')


@dataclass(frozen=True)
class TimeConfig:
    """Timing of a streaming model: frame rate in Hz, frames per tubelet, attention window.

    `window_tubelets`: number of newest tubelets that a token can attend to in one layer.
    """

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
    """Configuration of the X-Encoder: a convolutional stem and a block-causal transformer.

    `image_size`: side of the input images in pixels. `stem`: output channels of the stem's
    stride-2 stages; a last stride-2 convolution outputs `width` channels.
    """

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
        """Number of visual tokens along each side of the image.

        Each stage of the stem, and its last convolution, halves the side.
        """
        return int(self.image_size // 2 ** (len(self.stem) + 1))


@dataclass(frozen=True)
class RegionFinderConfig:
    """Configuration of the region finder, a CNN that locates the workspace, for cropping frames.

    `image_size`: side of the model's input frames in pixels. If it is 0, the model has no region
    finder, and its frames have the X-Encoder's image size. `stem`: output channels of the
    stride-2 convolutions. `smallest`: minimum side of a region, as a fraction of the frame's side.
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
    """Configuration of the Predictor, a transformer over visual, prompt and answer tokens.

    `merge`: side m of the groups of m x m neighboring visual tokens that are merged into one
    token. `answer_tokens`: number of learned tokens that follow the prompt; their mean output is
    projected to the answer embedding.
    """

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
    """Configuration of the text tower, a frozen text encoder from sentence-transformers.

    `width`: dimension of its token states. `sha256`: required hash of its model.safetensors; if
    empty, any file is accepted.
    """

    name: str = 'all-MiniLM-L6-v2'
    width: int = 384
    sha256: str = ''

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('text_tower.', self, width=STACK['width'])


@dataclass(frozen=True)
class YEncoderConfig:
    """Configuration of the Y-Encoder: a trained transformer head on the frozen text tower."""

    layers: int = 1
    heads: int = 6
    max_tokens: int = 64

    def __post_init__(self) -> None:
        """Validate all fields."""
        check('y_encoder.', self, layers=STACK['layers'], heads=STACK['heads'])
        check('y_encoder.', self, max_tokens=(1, MAX_TOKENS))


@dataclass(frozen=True)
class YDecoderConfig:
    """Configuration of the Y-Decoder, a causal transformer that decodes one embedding to text.

    `prefix_tokens`: number of prefix vectors that a linear layer computes from the embedding.
    `max_tokens`: maximum length of a text in tokens. `beams`: width of the beam search.
    `vocabulary`: number of word pieces, including an end-of-sentence token.
    """

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
    """Coefficients of the confidence of a decoded text; `CalibrationConfig` has the formula."""

    slope: float
    margin: float
    cosine: float
    words: float
    bias: float
    direction: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationConfig:
    """Parameters that convert cosines and log-probabilities to scores from 0 to 1.

    `train.calibration_stage` fits them on the validation split. Each cosine compares a predicted
    vector with the embedding of a text.

    Scores of candidate answers: softmax(cosine / rank_temperature). If `unknown`, a text that
    means "cannot tell", is not empty, it is one more candidate, and unknown_bias is added to its
    logit. For the candidates "yes" and "no", yes_bias is added to the logit of "yes", and
    yes_no_temperature and yes_no_unknown_bias replace the temperature and the bias, unless
    yes_no_temperature is 0.

    Abstention: the model abstains if the softmax score of `unknown` is above abstain_above. A
    decoded answer is the only candidate besides `unknown`, and its limit is abstain_words_above.

    Score of a single text: sigmoid((cosine - match_centre) / match_scale).

    Confidence of a decoded text: sigmoid of the sum of
        decode_slope * mean log-probability of its tokens,
        decode_margin * (this mean - the highest mean of the other hypotheses),
        decode_cosine * cosine,
        decode_words * number of words,
        decode_bias, and
        the dot product of decode_direction and the predicted vector, because errors are more
        frequent in some directions of the embedding space (an empty direction adds 0).
    For a text that answers a question, the answer_* parameters replace the decode_* parameters,
    unless all answer_* parameters are 0.
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
        """Return the coefficients of the confidence of a decoded text.

        Args:
            asked: Whether the text answers a question. If so, the result is the answer_*
                parameters, unless all of them are 0; otherwise the decode_* parameters.
        """
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
    """Name of the file with the detectors of unfamiliar scenes and unreadable texts.

    `vljepa calibrate` writes the file to the model folder. It is valid only for the weights that
    the detectors were fitted for. If `file` is empty, the model has no detectors: every scene
    counts as familiar and every text as readable.
    """

    file: str = ''

    def __post_init__(self) -> None:
        """Validate that `file` is a plain file name, so that it lies in the model folder."""
        if self.file and (set('/\\') & set(self.file) or self.file.startswith('.')):
            raise ModelError(f'familiarity.file ({shown(self.file)}) is not a plain file name')


@dataclass(frozen=True)
class ModelConfig:
    """Contents of the model.yaml of a streaming model."""

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
        """Validate that the sections are consistent and the model is not too large."""
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
                f'calibration.unknown ({shown(unknown)}) must be a text of at most {longest} '
                f'characters, without leading or trailing blanks'
            )
        if self.weight_count > MAX_WEIGHTS:
            raise ModelError(
                f'the model has about {self.weight_count:,} weights, which is too many (at most '
                f'{MAX_WEIGHTS:,})'
            )

    @property
    def image_size(self) -> int:
        """Side of the square input frames of the model in pixels."""
        return self.region_finder.image_size or self.x_encoder.image_size

    @property
    def weight_count(self) -> int:
        """Approximate number of weights in transformer blocks, stem and decoder vocabulary."""
        y, stem = self.y_decoder, (3, *self.x_encoder.stem, self.x_encoder.width)
        stacks = [(part.layers, part.width) for part in (self.x_encoder, self.predictor, y)]
        stacks.append((self.y_encoder.layers, self.text_tower.width))
        blocks = sum(12 * layers * width**2 for layers, width in stacks)
        return blocks + sum(9 * a * b for a, b in zip(stem, stem[1:])) + y.vocabulary * y.width

    @property
    def receptive_tubelets(self) -> int:
        """Receptive field of an embedding in tubelets: L (W - 1) + 1.

        L is the number of layers of X-Encoder and Predictor, and W is `time.window_tubelets`.
        """
        layers = self.x_encoder.layers + self.predictor.layers
        return layers * (self.time.window_tubelets - 1) + 1


def parse(cls: type[T], values: Any, where: str) -> T:
    """Build a configuration dataclass from parsed YAML, including nested dataclasses.

    Args:
        cls: Dataclass to build; its fields define the allowed keys and their types.
        values: Parsed YAML.
        where: Location of `values` for error messages, such as `model.yaml`.

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
        raise ModelError(f'{where}: expected {hint.__name__}, found {shown(value)}')
    return value


def _list(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    """Convert a YAML list to a tuple of items of type `hint`."""
    if hint is int and not (isinstance(value, list) and all(type(item) is int for item in value)):
        raise ModelError(f'{where}: expected a list of integers, found {shown(value)}')
    if not isinstance(value, list):
        raise ModelError(f'{where}: expected a list, found {shown(value)}')
    return tuple(_convert(hint, item, f'{where}[{i}]') for i, item in enumerate(value))
