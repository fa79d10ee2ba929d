# SPDX-License-Identifier: Apache-2.0
"""Stage 3: trains the Y-Decoder to decode embeddings into texts; all other parts are frozen.

One half of each batch consists of embeddings of training sentences, with these sentences as
targets. The other half consists of predictions of the vision side for streams that are held back
from its training, with paraphrases of the annotated concepts as targets. Noise on all embeddings
covers the remaining modality gap (docs/design.md section 1).

Shapes: B batch, M vectors, L tokens, D embedding_dim.
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
    """Vocabulary of a Y-Decoder: the tokenizer's token ids that occur in the training sentences.

    `ids` maps local ids to token ids; local id 0 is END.

    Args:
        pieces: Function that encodes a text to the tokenizer's ids.
        sentences: Training sentences.
        limit: Maximum number of tokens of a sentence.
        known: Token ids of an existing vocabulary; they keep their local ids.

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
    """Embeddings (M, D), each with the sentences that are valid targets for it (M)."""

    vectors: Tensor
    sentences: list[tuple[str, ...]]


@torch.inference_mode()
def text_pairs(net: VLJEPA, bank: TextBank, texts: Sequence[str]) -> Pairs:
    """Embed texts with the Y-Encoder; the target of each embedding is its own text."""
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
    """Predict embeddings for random clips; their targets are the sentences of their concepts.

    Args:
        runner: Predicts the answers to the prompts of clips.
        sampler: Draws the clips.
        concept_texts: Sentences by concept.
        size: Number and length of the clips per batch.
        count: Approximate total number of clips.
        amp: Whether to use bfloat16 where it is faster.
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
    """Training loop of a Y-Decoder; `step` runs one optimizer step."""

    def __init__(
        self,
        decoder: YDecoder | TextDecoder,
        config: DecoderTraining,
        vocabulary: Vocabulary,
        kinds: Sequence[Pairs],
        seed: int,
        noise: Noise | None = None,
    ) -> None:
        """Create the optimizer.

        Args:
            decoder: Decoder to train.
            config: Steps, batch size and learning rate.
            vocabulary: Vocabulary of the decoder.
            kinds: Sets of training pairs; a batch has the same number from each set.
            seed: Seed of the batches.
            noise: Noise on the embeddings (default: isotropic, with a norm up to `config.noise`).
        """
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
        """Number of optimizer steps taken so far."""
        return self.optimizer.done

    def step(self) -> float:
        """Draw a batch, run one optimizer step, and return the mean cross-entropy per token."""
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
    """Pad tokenized sentences to the length L of the longest one.

    Args:
        sentences: Local token ids of each sentence, without END.

    Returns:
        Decoder inputs (B, L), padded with 0, and targets (B, L + 1): the tokens followed by END,
        padded with `IGNORE_INDEX`.
    """
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
    """Train a Y-Decoder and return the complete network.

    Args:
        vision: Network with trained vision side and Y-Encoder, whose weights are copied.
        config: Configuration of the run.
        vocabulary: Vocabulary of the decoder.
        tower_hash: SHA-256 of the text tower, for model.yaml.
        bank: Token states of the texts.
        concept_texts: Sentences by concept.
        sampler: Draws clips from the streams held back for the decoder.
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
    """Return a copy of the configuration with the vocabulary size and the text tower's SHA-256."""
    return dataclasses.replace(
        config,
        y_decoder=dataclasses.replace(config.y_decoder, vocabulary=size),
        text_tower=dataclasses.replace(config.text_tower, sha256=tower_hash),
    )
