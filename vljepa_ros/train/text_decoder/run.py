# SPDX-License-Identifier: Apache-2.0
"""Training of a text decoder on sentences, adapted to predicted embeddings of the model.

The predictions determine the modality gap and the noise on the embeddings of the sentences; those
with target texts (pairs) are also used to evaluate the decoder.

Shapes: S sentences, N vectors, D embedding_dim.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vljepa_ros.core.errors import InputError
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.model.language.generation import Hypothesis, TextGenerator
from vljepa_ros.model.language.scoring import TextSpace
from vljepa_ros.model.language.text_decoder import TextDecoder, TextDecoderConfig
from vljepa_ros.train.config import DecoderTraining
from vljepa_ros.train.decoder_stage import DecoderStage, Pairs, Vocabulary
from vljepa_ros.train.noise import ENOUGH_PAIRS, IsotropicNoise, MeasuredNoise, Noise
from vljepa_ros.train.text_decoder.config import (
    AUTO,
    EVEN,
    MEASURED,
    NONE,
    TextDecoderTrainingConfig,
)
from vljepa_ros.train.text_decoder.pairs import KnownPredictions, PredictionPair
from vljepa_ros.train.training_log import progress

HELD_OUT = 5  # if pairs are used for training, one in five is held out for evaluation
ENOUGH_HELD_OUT = 20  # minimum number of evaluation pairs for the selection of a noise length
ENOUGH_OF_A_GAP = 30  # number of pairs that show the gap better than predictions without texts
LENGTHS, LENGTH = (0.3, 0.7, 1.5), 0.7  # norms of isotropic noise: candidates, and default
SAMPLE = 500  # number of sentences or predictions to decode for the evaluation
BATCH = 256

Vectors = NDArray[np.float32]
Rows = TypeVar('Rows', NDArray[np.float32], Tensor)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Space:
    """Text side of a model, with the functions of its tokenizer.

    `pieces` encodes a text to token ids; `text_of` decodes token ids to a text.
    """

    language: TextSpace
    pieces: Callable[[str], list[int]]
    text_of: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class DecoderMetrics:
    """Metrics of a text decoder; the names are keys in the output of `--json`.

    `again`: fraction of sampled training sentences that the decoder reproduces exactly. `cider`:
    CIDEr-D of the texts decoded from the predictions of the evaluation pairs. `cider_nearest`:
    CIDEr-D of the training sentences nearest to the same predictions. Both are NaN if there are
    too few pairs. The evaluation pairs are held out only if the noise is measured; otherwise, they
    may also determine the modality gap, which slightly favors both.
    """

    again: float
    cider: float
    cider_nearest: float


@dataclass(frozen=True)
class TrainedTextDecoder:
    """A trained text decoder, the name of the noise it was trained with, and its metrics."""

    decoder: TextDecoder
    noise: str
    metrics: DecoderMetrics


class TextDecoderTraining:
    """A training run of a text decoder: its data, configuration and stages.

    Args:
        space: Text side and tokenizer of the model.
        sentences: Training sentences.
        known: Predicted embeddings of the model.
        config: Configuration of the run.

    Raises:
        InputError: There are too few pairs for measured noise, or for several noise lengths.
    """

    def __init__(
        self,
        space: Space,
        sentences: Sequence[str],
        known: KnownPredictions,
        config: TextDecoderTrainingConfig,
    ) -> None:
        self.space, self.known = space, known
        self._choose(config)
        self.sentences = list(dict.fromkeys(sentences))
        self.device = torch.device(space.language.facts.device)
        self.vocabulary = Vocabulary(space.pieces, self.sentences, config.y_decoder.max_tokens)
        self.vectors = self._embedded(self.sentences)

    def changed(self, **values: Any) -> TextDecoderTraining:
        """Return a copy of the run with the same data and some other configuration values."""
        other = copy.copy(self)
        other._choose(replace(self.config, **values))
        return other

    def _choose(self, config: TextDecoderTrainingConfig) -> None:
        """Select the kind of noise, and split the pairs for training and evaluation.

        Without measured noise, all pairs serve both purposes: they only determine the mean gap,
        which is the same for all noise lengths that are compared.
        """
        self.config, pairs = config, self.known.pairs
        measured = _is_measured(config, len(pairs))
        held_out = pairs[::HELD_OUT] if measured else pairs
        self.held_out = held_out if len(held_out) >= ENOUGH_HELD_OUT else ()
        self.pairs = [p for i, p in enumerate(pairs) if not measured or i % HELD_OUT]
        self.lengths = () if measured else _lengths(config, bool(self.held_out))

    def train(self) -> TrainedTextDecoder:
        """Train a decoder for each kind or length of noise, and return the best by CIDEr-D."""
        fresh = self._untrained()
        found = [self._trained(fresh, *noise) for noise in self._noises(fresh)]
        best = max(found, key=lambda one: one.metrics.cider) if len(found) > 1 else found[0]
        return replace(best, decoder=self._with_bank_below(best.decoder))

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as unit vectors (S, D), and show a progress bar."""
        dim = self.space.language.facts.embedding_dim
        embedded = torch.empty(len(texts), dim, device=self.device)
        with progress('sentences', len(texts)) as advance:
            for start in range(0, len(texts), BATCH):
                part = texts[start : start + BATCH]
                vectors = self.space.language.encode(part)
                embedded[start : start + BATCH] = torch.from_numpy(vectors)
                advance(len(part))
        return embedded

    def _untrained(self) -> TextDecoder:
        """Create a decoder with random weights, and fit its correction of the modality gap."""
        config, facts = self.config, self.space.language.facts
        torch.manual_seed(config.seed)
        anchors = min(config.anchors, len(self.sentences))
        words = replace(config.y_decoder, vocabulary=len(self.vocabulary.ids))
        made = TextDecoder(
            TextDecoderConfig(
                facts.model_id, facts.embedding_dim, words, anchors, config.anchor_temperature
            )
        ).to(self.device)
        made.y_decoder.token_ids.copy_(torch.tensor(self.vocabulary.ids))
        made.bridge.anchors.copy_(self.vectors[torch.randperm(len(self.vectors))[:anchors]])
        if config.recentre:
            for asked in (False, True):
                made.bridge.gap[int(asked)] = torch.from_numpy(self._gap(asked))
        return made

    def _gap(self, asked: bool) -> Vectors:
        """Estimate the modality gap (D,) of answers to questions or to standing prompts.

        With enough pairs, preferably of the same kind of prompt, it is the mean difference between
        their predictions and texts. Otherwise, it is the difference between the means of
        predictions and of all sentences. These predictions answer standing prompts, if there are
        any, even if `asked`: the sentences resemble captions more than answers to questions, so
        the mean of answers would also differ from theirs without a gap.
        """
        pairs = {kind: [p for p in self.pairs if p.asked == kind] for kind in (False, True)}
        for kind in (asked, not asked):
            if len(pairs[kind]) >= ENOUGH_OF_A_GAP:
                texts = self.space.language.encode([p.text for p in pairs[kind]])
                return np.mean([p.vector for p in pairs[kind]] - texts, axis=0)
        for vectors in self.known.vectors:
            if len(vectors):
                return vectors.mean(axis=0) - self.vectors.mean(dim=0).cpu().numpy()
        return np.zeros(self.vectors.shape[1], np.float32)

    def _noises(self, made: TextDecoder) -> list[tuple[str, Noise]]:
        """Return the kinds or lengths of noise to compare, as pairs (name, noise).

        `made` is the untrained decoder, which re-centers the predictions for measured noise.
        """
        if self.config.noise == NONE:
            return [(NONE, IsotropicNoise(0.0))]
        if self.lengths:
            return [(f'{EVEN} {length:g}', IsotropicNoise(length)) for length in self.lengths]
        placed = torch.from_numpy(_placed(made, self.pairs)).to(self.device)
        texts = self._embedded([p.text for p in self.pairs])
        return [(MEASURED, MeasuredNoise(placed, texts))]

    def _trained(self, fresh: TextDecoder, name: str, noise: Noise) -> TrainedTextDecoder:
        """Train and evaluate one decoder; its random seed does not depend on other attempts.

        Args:
            fresh: Untrained decoder, whose gap correction is copied.
            name: Name of the noise.
            noise: Noise on the text embeddings.
        """
        config = self.config
        torch.manual_seed(config.seed)
        made = TextDecoder(fresh.config).to(self.device)
        made.bridge.load_state_dict(fresh.bridge.state_dict())
        made.y_decoder.token_ids.copy_(fresh.y_decoder.token_ids)
        stage = DecoderStage(
            made,
            DecoderTraining(config.steps, config.batch, 0, config.learning_rate),
            self.vocabulary,
            [Pairs(self.vectors, [(text,) for text in self.sentences])],
            config.seed,
            noise,
        )
        loss = math.nan
        with progress(f'text decoder, noise {name}', config.steps) as advance:
            while stage.done < config.steps:
                loss = stage.step()
                advance(1)
        made.eval().requires_grad_(False)
        metrics = self._metrics(made)
        log.info(
            'noise %s: cross-entropy %.3f, %.0f%% of sentences reconstructed, CIDEr-D %.3f',
            name,
            loss,
            100 * metrics.again,
            metrics.cider,
        )
        return TrainedTextDecoder(made, name, metrics)

    def _metrics(self, made: TextDecoder) -> DecoderMetrics:
        chosen = np.random.default_rng(0).permutation(len(self.sentences))[:SAMPLE]
        decoded = self._decode(made, self.vectors[chosen].cpu().numpy())
        texts = [self.space.text_of(self.space.pieces(self.sentences[i])) for i in chosen]
        again = float(np.mean([a == b for a, b in zip(decoded, texts, strict=True)]))
        if not self.held_out:
            return DecoderMetrics(again, math.nan, math.nan)
        cider = Cider([[pair.text] for pair in self.known.pairs])
        placed = _placed(made, self.held_out)
        near = (torch.from_numpy(placed).to(self.device) @ self.vectors.T).argmax(dim=-1)
        nearest = [self.sentences[i] for i in near.tolist()]
        scores = [
            np.mean([cider.score(t, [p.text]) for t, p in zip(texts, self.held_out, strict=True)])
            for texts in (self._decode(made, placed), nearest)
        ]
        return DecoderMetrics(again, *map(float, scores))

    def _decode(self, made: TextDecoder, placed: Vectors) -> list[str]:
        """Decode re-centered vectors (N, D) into texts; '' if no text is decoded."""
        return [row[0].text if row else '' for row in self._hypotheses(made, placed)]

    def _hypotheses(self, made: TextDecoder, placed: Vectors) -> list[list[Hypothesis]]:
        generator = TextGenerator(made.y_decoder, self.space.text_of)
        return generator.hypotheses(made.projected(placed), self.space.language)

    def _with_bank_below(self, made: TextDecoder) -> TextDecoder:
        """Fit `bank_below`, the cosine below which the sentence bank replaces a decoded text.

        It is the quantile `abstain_share` of the cosines between vectors and the texts decoded
        from them. The vectors are the predictions or, if there are none, noisy text embeddings.
        """
        if not self.config.abstain_share:
            return made
        placed = [
            made.placed(_some(vectors), bool(asked))
            for asked, vectors in enumerate(self.known.vectors)
        ]
        if not any(map(len, placed)):
            texts = _some(self.vectors)
            noisy = texts + IsotropicNoise(LENGTH)(texts)
            placed = [functional.normalize(noisy, dim=-1).cpu().numpy()]
        decoded = self._hypotheses(made, np.concatenate(placed))
        cosines = [row[0].cosine if row else -1.0 for row in decoded]
        below = float(np.quantile(cosines, self.config.abstain_share))
        made.config = replace(made.config, bank_below=round(below, 4))
        return made


def _is_measured(config: TextDecoderTrainingConfig, pairs: int) -> bool:
    if config.noise == MEASURED and pairs < ENOUGH_PAIRS:
        raise InputError(
            f'noise: {config.noise} requires at least {ENOUGH_PAIRS} pairs of a prediction and a '
            f'text, but there are {pairs}'
        )
    return config.noise in (MEASURED, AUTO) and pairs >= ENOUGH_PAIRS


def _lengths(config: TextDecoderTrainingConfig, held_out: bool) -> tuple[float, ...]:
    if len(config.noise_length) > 1 and not held_out:
        raise InputError(
            f'noise_length has {len(config.noise_length)} values, but selecting the best requires '
            f'at least {ENOUGH_HELD_OUT} annotated predictions: set one value'
        )
    return config.noise_length or (LENGTHS if held_out else (LENGTH,))


def _placed(made: TextDecoder, pairs: Sequence[PredictionPair]) -> Vectors:
    """Return the predictions of all pairs (N, D), re-centered by the decoder `made`."""
    found = np.zeros((len(pairs), made.config.embedding_dim), np.float32)
    for asked in (False, True):
        rows = [i for i, pair in enumerate(pairs) if pair.asked == asked]
        if rows:
            found[rows] = made.placed(np.stack([pairs[i].vector for i in rows]), asked)
    return found


def _some(vectors: Rows) -> Rows:
    """Return a random sample of at most `SAMPLE` vectors, always the same for the same input."""
    return vectors[np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]]
