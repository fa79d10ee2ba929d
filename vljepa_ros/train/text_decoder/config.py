# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a text decoder (kind `text_decoder` of `vljepa train`).

An example is models/open_vljepa/words.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.config import YDecoderConfig, check
from vljepa_ros.model.language.text_decoder import MAX_ANCHORS

NONE, EVEN, MEASURED, AUTO = 'none', 'even', 'measured', 'auto'
NOISES = (NONE, EVEN, MEASURED, AUTO)


@dataclass(frozen=True)
class Predictions:
    """A file of predicted embeddings, and the annotations of the same recording.

    `embeddings`: file written by `vljepa embed`. `annotations`: JSONL file with the target texts
    (see docs/reference/data_formats.md); if it is '', the embeddings have no target texts.
    `camera`: camera whose annotations are used, if there are several. `asked`: whether the
    embeddings answer a question, as in `query`; if not, they answer a standing prompt.
    """

    embeddings: str
    annotations: str = ''
    camera: str = ''
    asked: bool = False


@dataclass(frozen=True)
class TextDecoderTrainingConfig:
    """Configuration of the training of a text decoder, which is saved in the folder of `model`.

    `sentences`: paths of text files with one sentence per line. `predictions`: files of predicted
    embeddings; those with target texts are pairs. `recentre`: whether to re-center predictions,
    that is to subtract the difference between the means of predictions and of texts.
    `noise`: noise on the text embeddings: `none`; `even` (isotropic, with a norm up to
    `noise_length`); `measured` (with the covariance of the differences between predictions and
    their texts); or `auto` (`measured` if there are enough pairs, otherwise `even`).
    `noise_length`: maximum norm of isotropic noise. If several values are configured, a decoder is
    trained with each, and the best one for the annotated predictions is used. If it is empty,
    default values are tried.
    `anchors`: number of sentences that vectors are projected on; 0: no projection.
    `abstain_share`: fraction of the predictions whose decoded text is replaced by the nearest
    sentence of the bank, because its embedding is too far from the prediction; 0: none.

    Raises:
        ModelError: A value is invalid.
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
        """Raise ModelError if a value is invalid; the model and the files are not read."""
        check('', self, anchors=(0, MAX_ANCHORS), anchor_temperature=(1e-4, 100))
        check('', self, abstain_share=(0, 1), steps=(1, 1e9), batch=(1, 1 << 20))
        check('', self, learning_rate=(0, 1), noise_length=(0, 10), seed=(0, 2**63 - 1))
        if not self.sentences:
            raise ModelError('sentences is empty: add at least one text file')
        if self.noise not in NOISES:
            raise ModelError(f"noise '{self.noise:.40}' is unknown (known: {', '.join(NOISES)})")
