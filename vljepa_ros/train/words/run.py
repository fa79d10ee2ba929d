# SPDX-License-Identifier: Apache-2.0
"""A decoder for a space of texts, from sentences; what is known of predictions shapes it.

Shapes: S sentences, N vectors, D embedding_dim.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vljepa_ros.errors import InputError
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.model.speaker import Said, Speaker
from vljepa_ros.model.text_decoder import TextDecoder, TextDecoderConfig
from vljepa_ros.model.text_space import TextSpace
from vljepa_ros.train.config import DecoderTraining
from vljepa_ros.train.decoder import DecoderStage, Pairs, Vocabulary
from vljepa_ros.train.logs import progress
from vljepa_ros.train.noise import ENOUGH_PAIRS, EvenNoise, MeasuredNoise, Noise
from vljepa_ros.train.words.config import AUTO, EVEN, MEASURED, NONE, WordsConfig
from vljepa_ros.train.words.pairs import Known, Pair

JUDGED = 5  # one pair in so many is kept to judge by
ENOUGH_JUDGES = 2
AGAIN = 500  # sentences that are put into words again at the end
BATCH = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Space:
    """Whose vectors they are, and the tokenizer of the words: text -> ids -> text."""

    language: TextSpace
    pieces: Callable[[str], list[int]]
    text_of: Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Marks:
    """How well a decoder does; nan where there was nothing to judge by.

    `again`: share of the sentences that it says again word by word. `cider`: CIDEr-D of its words
    for the predictions of pairs that it did not learn from, and of the nearest sentence.
    """

    again: float
    cider: float
    cider_nearest: float


@dataclass(frozen=True)
class Learned:
    """A decoder, the noise that it was trained with, and its marks."""

    decoder: TextDecoder
    noise: str
    marks: Marks


class Words:
    """The data of one training."""

    def __init__(
        self, space: Space, sentences: Sequence[str], known: Known, config: WordsConfig
    ) -> None:
        self.space, self.config, self.known = space, config, known
        self.sentences = list(dict.fromkeys(sentences))
        self.device = torch.device(space.language.facts.device)
        self.vectors = self._embedded(self.sentences)
        limit = config.y_decoder.max_tokens
        self.vocabulary = Vocabulary(space.pieces, self.sentences, limit)
        judges = known.pairs[::JUDGED]
        self.judges = judges if len(judges) >= ENOUGH_JUDGES else ()
        self.pairs = tuple(p for i, p in enumerate(known.pairs) if not self.judges or i % JUDGED)

    def learn(self) -> Learned:
        """The decoder that `config` asks for; of several lengths of noise the best one.

        Raises InputError: several lengths, or measured noise, and too few pairs.
        """
        fresh = self._bridged()
        noises = self._noises(fresh)
        if len(noises) > 1 and not self.judges:
            raise InputError(
                f'noise_length: {len(noises)} to choose from, and no annotated predictions to '
                f'choose by: give one'
            )
        found = [self._learned(fresh, name, noise) for name, noise in noises]
        best = max(found, key=lambda one: one.marks.cider) if len(found) > 1 else found[0]
        return replace(best, decoder=self._with_bank_below(best.decoder))

    def _embedded(self, texts: Sequence[str]) -> torch.Tensor:
        """(S, D)."""
        rows = []
        with progress('sentences', len(texts)) as advance:
            for start in range(0, len(texts), BATCH):
                part = texts[start : start + BATCH]
                rows.append(torch.from_numpy(self.space.language.encode(part)))
                advance(len(part))
        return torch.cat(rows).to(self.device)

    def _bridged(self) -> TextDecoder:
        """A decoder that has learned nothing, behind its bridge."""
        config = self.config
        torch.manual_seed(config.seed)
        anchors = min(config.anchors, len(self.sentences))
        words = replace(config.y_decoder, vocabulary=len(self.vocabulary.ids))
        facts = self.space.language.facts
        made = TextDecoder(
            TextDecoderConfig(
                facts.model_id, facts.embedding_dim, words, anchors, config.anchor_temperature
            )
        ).to(self.device)
        made.y_decoder.token_ids.copy_(torch.tensor(self.vocabulary.ids))
        made.bridge.anchors.copy_(self.vectors[torch.randperm(len(self.vectors))[:anchors]])
        if config.recentre:
            for asked in (False, True):
                made.bridge.gap[int(asked)] = self._gap(asked)
        return made

    def _gap(self, asked: bool) -> torch.Tensor:
        """Of predictions to texts (D,): between pairs, else between all that is known.

        Where nothing is known of predictions for questions, it is that of the others: it is the
        model's, not the prompt's, and the mean of answers is not that of sentences.
        """
        pairs = [p for p in self.pairs if p.asked == asked]
        if pairs:
            texts = self.space.language.encode([p.text for p in pairs])
            vectors = np.stack([p.vector for p in pairs])
            return torch.from_numpy((vectors - texts).mean(axis=0)).to(self.device)
        if asked:
            return self._gap(asked=False)
        vectors = self.known.vectors[0]
        if not len(vectors):
            return torch.zeros_like(self.vectors[0])
        return torch.from_numpy(vectors.mean(axis=0)).to(self.device) - self.vectors.mean(dim=0)

    def _noises(self, made: TextDecoder) -> list[tuple[str, Noise]]:
        """What to try, by name."""
        config, wanted = self.config, self.config.noise
        if wanted == AUTO:
            wanted = MEASURED if len(self.pairs) >= ENOUGH_PAIRS else EVEN
        if wanted == NONE:
            return [(NONE, EvenNoise(0.0))]
        if wanted == EVEN:
            return [(f'{EVEN} {length:g}', EvenNoise(length)) for length in config.noise_length]
        if len(self.pairs) < ENOUGH_PAIRS:
            raise InputError(
                f'noise: {len(self.pairs)} pairs of predictions and texts are too few to measure '
                f'it (at least {ENOUGH_PAIRS})'
            )
        placed = torch.cat([self._placed(made, [p]) for p in self.pairs])
        texts = self._embedded([p.text for p in self.pairs])
        return [(MEASURED, MeasuredNoise(placed - texts))]

    def _placed(self, made: TextDecoder, pairs: Sequence[Pair]) -> torch.Tensor:
        vectors = torch.from_numpy(np.stack([p.vector for p in pairs])).to(self.device)
        return made.bridge.place(vectors, pairs[0].asked)

    def _learned(self, fresh: TextDecoder, name: str, noise: Noise) -> Learned:
        """One training; the same random numbers whatever else is tried."""
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
        with progress(f'words, noise {name}', config.steps) as advance:
            while stage.done < config.steps:
                loss = stage.step()
                advance(1)
        made.eval().requires_grad_(False)
        marks = self._marks(made)
        log.info('noise %s: cross-entropy %.3f, %s', name, loss, marks)
        return Learned(made, name, marks)

    def _marks(self, made: TextDecoder) -> Marks:
        chosen = np.random.default_rng(0).permutation(len(self.sentences))[:AGAIN]
        said = self._said(made, made.bridge.project(self.vectors[chosen]))
        texts = [self._normal(self.sentences[i]) for i in chosen]
        again = float(np.mean([_best(row) == t for row, t in zip(said, texts, strict=True)]))
        if not self.judges:
            return Marks(again, math.nan, math.nan)
        cider = Cider([[pair.text] for pair in self.known.pairs])
        words, nearest = [], []
        for pair in self.judges:
            placed = self._placed(made, [pair])
            (row,) = self._said(made, made.bridge.project(placed))
            words.append(cider.score(_best(row), [pair.text]))
            near = self.sentences[int((self.vectors @ placed[0]).argmax())]
            nearest.append(cider.score(near, [pair.text]))
        return Marks(again, float(np.mean(words)), float(np.mean(nearest)))

    def _normal(self, text: str) -> str:
        """As the tokenizer writes it: a decoder cannot say it otherwise."""
        return self.space.text_of(self.space.pieces(text))

    def _said(self, made: TextDecoder, vectors: torch.Tensor) -> list[list[Said]]:
        speaker = Speaker(made.y_decoder, self.space.text_of)
        return speaker.said(vectors.cpu().numpy(), self.space.language)

    def _with_bank_below(self, made: TextDecoder) -> TextDecoder:
        """Where `abstain_share` of the predictions, else of noisy texts, have farther words."""
        known: list[NDArray[np.float32]] = []
        for asked, vectors in enumerate(self.known.vectors):
            rows = torch.from_numpy(_some(vectors)).to(self.device)
            known.append(made.bridge(rows, bool(asked)).cpu().numpy())
        if not any(map(len, known)):
            texts = torch.from_numpy(_some(self.vectors.cpu().numpy())).to(self.device)
            noisy = texts + EvenNoise(self.config.noise_length[0])(texts)
            known = [made.bridge.project(functional.normalize(noisy, dim=-1)).cpu().numpy()]
        said = self._said(made, torch.from_numpy(np.concatenate(known)))
        cosines = [row[0].cosine if row else -1.0 for row in said]
        below = float(np.quantile(cosines, self.config.abstain_share))
        made.config = replace(made.config, bank_below=round(below, 4))
        return made


def _some(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most `AGAIN` of them."""
    return vectors[np.random.default_rng(0).permutation(len(vectors))[:AGAIN]]


def _best(said: Sequence[Said]) -> str:
    return said[0].text if said else ''
