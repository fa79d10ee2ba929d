# SPDX-License-Identifier: Apache-2.0
"""What the training of a decoder from texts is told: whose, which sentences, what is known of it.

For example models/open_vljepa/words.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.model.config import YDecoderConfig, check, parse
from vljepa_ros.model.language.text_decoder import MAX_ANCHORS

NONE, EVEN, MEASURED, AUTO = 'none', 'even', 'measured', 'auto'
NOISES = (NONE, EVEN, MEASURED, AUTO)


@dataclass(frozen=True)
class Predictions:
    """A file of embeddings, as `vljepa embed` writes it, and what the recording shows.

    `annotations`: a JSONL of what was to be said (docs/reference/data_formats.md); '' where nobody
    knows, and only the mean is taken; `camera`: whose of its lines count, where they name several.
    `asked`: as `query` asks, whose answers the file holds; else it is of a standing prompt.
    """

    embeddings: str
    annotations: str = ''
    camera: str = ''
    asked: bool = False


@dataclass(frozen=True)
class WordsConfig:
    """One training. The decoder is written into the folder of `model`.

    `sentences`: text files, one sentence a line. `recentre`: predictions are moved by the distance
    of the means. `noise` on the texts' vectors: none; even in all directions, of a random length
    up to `noise_length`; as measured between pairs of predictions and texts; or auto: measured
    where there are enough pairs, else even. Of several `noise_length` the one whose words for the
    predictions are best is kept; none: several are tried where there are pairs to choose by.
    `anchors`: so many of the sentences are what vectors are projected on; 0: they are not.
    `abstain_share`: so many of the predictions, or of texts, have words that are far from them:
    for as far ones the bank speaks; 0: it never does.

    Raises:
        ModelError: a value is none that can be used.
    """

    model: str
    sentences: tuple[str, ...]
    predictions: tuple[Predictions, ...] = ()
    recentre: bool = True
    noise: str = AUTO
    noise_length: tuple[float, ...] = ()
    anchors: int = 0
    anchor_temperature: float = 0.02
    abstain_share: float = 0.05
    y_decoder: YDecoderConfig = field(
        default_factory=lambda: YDecoderConfig(512, 4, 8, prefix_tokens=8, max_tokens=32)
    )
    steps: int = 6000
    batch: int = 128
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = 'auto'

    def __post_init__(self) -> None:
        """Check every value that can be checked without the model and the files."""
        check('', self, anchors=(0, MAX_ANCHORS), anchor_temperature=(1e-4, 100))
        check('', self, abstain_share=(0, 1), steps=(1, 1e9), batch=(1, 1 << 20))
        check('', self, learning_rate=(0, 1), noise_length=(0, 10), seed=(0, 2**63 - 1))
        if not self.sentences:
            raise ModelError('sentences is empty')
        if self.noise not in NOISES:
            raise ModelError(f"noise '{self.noise:.40}' (known: {', '.join(NOISES)})")


def is_words(values: Any) -> bool:
    """Whether a configuration is of a decoder from texts: it names sentences."""
    return isinstance(values, Mapping) and 'sentences' in values


def parse_words(values: Any, path: Path) -> WordsConfig:
    """The configuration that a file holds. Raises InputError with the file and the wrong key."""
    try:
        return parse(WordsConfig, values, path.name)
    except ModelError as error:
        raise InputError(f'{path}: {error}') from error
