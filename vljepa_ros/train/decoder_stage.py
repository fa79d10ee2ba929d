# SPDX-License-Identifier: Apache-2.0
"""Stage 3: trains the Y-Decoder to decode embeddings into texts; all other parts are frozen.

Half of each batch are embeddings of training sentences, with the same sentence as target. Half are
predictions of the vision side on streams that it was not trained on, with a paraphrase of the
concept as target. Noise on both covers the remaining modality gap (docs/design.md section 1).

Shapes: B batch, L tokens, D embedding_dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.language.text_decoder import TextDecoder
from vljepa_ros.model.language.y_decoder import END, YDecoder
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.clips import ClipSampler
from vljepa_ros.train.config import Clips, DecoderTraining, TrainConfig
from vljepa_ros.train.losses import IGNORE_INDEX
from vljepa_ros.train.noise import IsotropicNoise, Noise
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.text_bank import ConceptTexts, TextBank
from vljepa_ros.train.training_log import Log
from vljepa_ros.train.vision_stage import VisionRunner


class Vocabulary:
    """Vocabulary of the training sentences; local id 0 is END.

    `pieces` encodes a text with a tokenizer. `known` are the ids of an existing decoder, which
    keep their local ids; new ones are appended.

    Raises:
        InputError: A sentence has more than `limit` tokens.
    """

    def __init__(
        self,
        pieces: Callable[[str], list[int]],
        sentences: Sequence[str],
        limit: int,
        known: Sequence[int] = (0,),
    ) -> None:
        self._pieces = pieces
        used = set[int]()
        for text in sentences:
            found = pieces(text)
            if len(found) > limit:
                raise InputError(
                    f"sentence '{text}' has {len(found)} tokens, more than "
                    f'y_decoder.max_tokens ({limit})'
                )
            used.update(found)
        self.ids = [*known, *sorted(used.difference(known[1:]))]
        self._local = {piece: number for number, piece in enumerate(self.ids) if number}

    def tokens(self, text: str) -> list[int]:
        """Return the local ids of a sentence, without END."""
        return [self._local[i] for i in self._pieces(text)]


@dataclass
class Pairs:
    """Vectors (M, D) with the target sentences of each."""

    vectors: Tensor
    sentences: list[tuple[str, ...]]


@torch.inference_mode()
def text_pairs(net: VLJEPA, bank: TextBank, texts: Sequence[str]) -> Pairs:
    """Return the embedding of every text with the text as target."""
    rows = [net.y_encoder(*bank.states(texts[i : i + 64])) for i in range(0, len(texts), 64)]
    return Pairs(torch.cat(rows), [(text,) for text in texts])


@torch.inference_mode()
def prediction_pairs(
    runner: VisionRunner,
    sampler: ClipSampler,
    concept_texts: ConceptTexts,
    size: Clips,
    count: int,
    amp: bool,
) -> Pairs:
    """Return predictions on clips, with the sentences of their concepts as targets.

    Args:
        runner: Runs the vision side.
        sampler: Draws clips.
        concept_texts: Sentences of the concepts.
        size: Batch configuration.
        count: Approximate number of clips.
        amp: Whether to use bfloat16.
    """
    vectors, sentences = [], []
    for _ in range(max(count // size.clips, 1)):
        batch = sampler.batch(size)
        with autocast(runner.bank.device, amp):
            found = runner.predict(batch, size.question_tubelets)
        vectors.append(found.vectors.float())
        sentences += [concept_texts.sentences[meaning] for meaning in found.concepts]
    return Pairs(torch.cat(vectors), sentences)


class DecoderStage:
    """One run of stage 3; `step` is one optimizer step."""

    def __init__(
        self,
        decoder: YDecoder | TextDecoder,
        config: DecoderTraining,
        vocabulary: Vocabulary,
        kinds: Sequence[Pairs],
        seed: int,
        noise: Noise | None = None,
    ) -> None:
        """Create the stage; the default `noise` is isotropic, of a length up to `config.noise`."""
        self.decoder, self.config, self.kinds = decoder, config, kinds
        self.noise = noise or IsotropicNoise(config.noise)
        self.vocabulary, self.rng = vocabulary, np.random.default_rng(seed)
        self.optimizer = OptimizerStep(
            groups(list(decoder.parameters()), config.weight_decay),
            config.learning_rate,
            cosine_schedule(config.steps, config.warmup_steps),
        )

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return self.optimizer.done

    def step(self) -> float:
        """Take one step; returns the mean cross-entropy per token."""
        vectors, texts = [], list[str]()
        for pairs in self.kinds:
            chosen = self.rng.integers(0, len(pairs.vectors), self.config.batch // len(self.kinds))
            vectors.append(pairs.vectors[torch.from_numpy(chosen)])
            texts += [str(self.rng.choice(pairs.sentences[i])) for i in chosen]
        tokens, targets = pad([self.vocabulary.tokens(text) for text in texts])
        clean = torch.cat(vectors)
        noisy = functional.normalize(clean + self.noise(clean), dim=-1)
        logits = self.decoder(noisy, tokens.to(noisy.device))
        loss = functional.cross_entropy(
            logits.flatten(0, 1), targets.to(logits.device).flatten(), ignore_index=IGNORE_INDEX
        )
        self.optimizer.apply(loss)
        return loss.item()


def pad(sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return inputs (B, L) and targets (B, L + 1): the tokens, then END, then `IGNORE_INDEX`."""
    length = max(len(tokens) for tokens in sentences)
    inputs = torch.zeros(len(sentences), length, dtype=torch.long)
    targets = torch.full((len(sentences), length + 1), IGNORE_INDEX)
    for row, tokens in enumerate(sentences):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(tokens) + 1] = torch.tensor([*tokens, END])
    return inputs, targets


def train_decoder(
    vision: VLJEPA,
    config: TrainConfig,
    vocabulary: Vocabulary,
    tower_hash: str,
    bank: TextBank,
    concept_texts: ConceptTexts,
    sampler: ClipSampler,
    log: Log,
) -> VLJEPA:
    """Train a Y-Decoder; returns the whole model.

    Args:
        vision: Network whose parts are copied and frozen.
        config: Configuration of the run.
        vocabulary: Vocabulary of the decoder.
        tower_hash: Hash of the text tower.
        bank: Token states of the texts.
        concept_texts: Sentences of the concepts.
        sampler: Draws clips that the vision side was not trained on.
        log: Log of the run.
    """
    texts = list(dict.fromkeys(t for some in concept_texts.sentences.values() for t in some))
    runner, size = VisionRunner(vision, bank, sampler.rng, 1.0), config.vision.medium
    kinds = [
        text_pairs(vision, bank, texts),
        prediction_pairs(runner, sampler, concept_texts, size, config.decoder.clips, config.amp),
    ]
    model = with_vocabulary(config.model, len(vocabulary.ids), tower_hash)
    net = VLJEPA(model).to(bank.device)
    net.load_state_dict(vision.state_dict(), strict=False)
    net.y_decoder.token_ids.copy_(torch.tensor(vocabulary.ids))
    stage = DecoderStage(net.y_decoder, config.decoder, vocabulary, kinds, config.seed)
    total = 0.0
    while stage.done < config.decoder.steps:
        total += stage.step()
        if stage.done % 100 == 0:
            log.write('decoder', stage.done, {'cross-entropy': total / 100})
            total = 0.0
    return net.eval()


def with_vocabulary(config: ModelConfig, size: int, tower_hash: str) -> ModelConfig:
    """Return the configuration with the size of the vocabulary and the hash of the tower."""
    return dataclasses.replace(
        config,
        y_decoder=dataclasses.replace(config.y_decoder, vocabulary=size),
        text_tower=dataclasses.replace(config.text_tower, sha256=tower_hash),
    )
