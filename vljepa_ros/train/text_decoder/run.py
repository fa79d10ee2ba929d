# SPDX-License-Identifier: Apache-2.0
"""Training of a text decoder on sentences, adapted to known predictions of the model.

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
ENOUGH_HELD_OUT = 20  # minimum number of held-out pairs for a selection
ENOUGH_OF_A_GAP = 30  # pairs that give a better gap than thousands of predictions without texts
LENGTHS, LENGTH = (0.3, 0.7, 1.5), 0.7  # lengths of isotropic noise: candidates, and default
SAMPLE = 500  # number of sentences or predictions to decode for the evaluation
BATCH = 256

Vectors = NDArray[np.float32]
Rows = TypeVar('Rows', NDArray[np.float32], Tensor)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Space:
    """Text side of a model, and its tokenizer: `pieces` encodes, `text_of` decodes."""

    language: TextSpace
    pieces: Callable[[str], list[int]]
    text_of: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class DecoderMetrics:
    """Metrics of a decoder, with the keys of `--json`; nan if there is no data.

    `again`: fraction of training sentences that are reproduced exactly. `cider`: CIDEr-D of the
    decoded texts for predictions of held-out pairs. `cider_nearest`: CIDEr-D of the nearest
    sentences for the same predictions.
    """

    again: float
    cider: float
    cider_nearest: float


@dataclass(frozen=True)
class TrainedTextDecoder:
    """A trained decoder, the noise of its training, and its metrics."""

    decoder: TextDecoder
    noise: str
    metrics: DecoderMetrics


class TextDecoderTraining:
    """One training run; the configuration is checked before anything is computed.

    Raises:
        InputError: There are too few pairs for measured noise or for several lengths of noise.
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
        """Return a copy with the same data and other values of the configuration."""
        other = copy.copy(self)
        other._choose(replace(self.config, **values))
        return other

    def _choose(self, config: TextDecoderTrainingConfig) -> None:
        """Select the noise, and the pairs for training and evaluation."""
        self.config, pairs = config, self.known.pairs
        measured = _is_measured(config, len(pairs))
        held_out = pairs[::HELD_OUT] if measured else pairs
        self.held_out = held_out if len(held_out) >= ENOUGH_HELD_OUT else ()
        self.pairs = [p for i, p in enumerate(pairs) if not measured or i % HELD_OUT]
        self.lengths = () if measured else _lengths(config, bool(self.held_out))

    def train(self) -> TrainedTextDecoder:
        """Train the configured decoder; of several lengths of noise, return the best."""
        fresh = self._untrained()
        found = [self._trained(fresh, *noise) for noise in self._noises(fresh)]
        best = max(found, key=lambda one: one.metrics.cider) if len(found) > 1 else found[0]
        return replace(best, decoder=self._with_bank_below(best.decoder))

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (S, D), with a progress bar."""
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
        """Create a decoder with random weights and the fitted bridge."""
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
        """Estimate the modality gap (D,) for a kind of prompt, or else for the other kind.

        With enough pairs, it is the mean difference of their predictions and texts. Otherwise it
        is the difference between the means of all predictions and of all sentences. That is less
        accurate for answers, which differ from sentences.
        """
        pairs = {kind: [p for p in self.pairs if p.asked == kind] for kind in (False, True)}
        for least in (ENOUGH_OF_A_GAP, 1):
            for kind in (asked, not asked):
                if len(pairs[kind]) >= least:
                    texts = self.space.language.encode([p.text for p in pairs[kind]])
                    return np.mean([p.vector for p in pairs[kind]] - texts, axis=0)
            for kind in (False, True):
                if len(vectors := self.known.vectors[kind]):
                    return vectors.mean(axis=0) - self.vectors.mean(dim=0).cpu().numpy()
        return np.zeros(self.vectors.shape[1], np.float32)

    def _noises(self, made: TextDecoder) -> list[tuple[str, Noise]]:
        """Return the kinds of noise to try, with their names."""
        if self.config.noise == NONE:
            return [(NONE, IsotropicNoise(0.0))]
        if self.lengths:
            return [(f'{EVEN} {length:g}', IsotropicNoise(length)) for length in self.lengths]
        placed = torch.from_numpy(_placed(made, self.pairs)).to(self.device)
        texts = self._embedded([p.text for p in self.pairs])
        return [(MEASURED, MeasuredNoise(placed, texts))]

    def _trained(self, fresh: TextDecoder, name: str, noise: Noise) -> TrainedTextDecoder:
        """Train one decoder; the seed does not depend on other attempts."""
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
        """Decode re-centered vectors into their best texts; '' if there is none."""
        return [row[0].text if row else '' for row in self._hypotheses(made, placed)]

    def _hypotheses(self, made: TextDecoder, placed: Vectors) -> list[list[Hypothesis]]:
        generator = TextGenerator(made.y_decoder, self.space.text_of)
        return generator.hypotheses(made.projected(placed), self.space.language)

    def _with_bank_below(self, made: TextDecoder) -> TextDecoder:
        """Set `bank_below` to the quantile `abstain_share` of the cosines of decoded texts.

        The cosines are those of the predictions or, if there are none, of noisy text embeddings.
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
    """Return the re-centered prediction of each pair, (N, D)."""
    found = np.zeros((len(pairs), made.config.embedding_dim), np.float32)
    for asked in (False, True):
        rows = [i for i, pair in enumerate(pairs) if pair.asked == asked]
        if rows:
            found[rows] = made.placed(np.stack([pairs[i].vector for i in rows]), asked)
    return found


def _some(vectors: Rows) -> Rows:
    """Return a random sample of at most `SAMPLE` vectors."""
    return vectors[np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]]
