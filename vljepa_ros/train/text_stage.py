# SPDX-License-Identifier: Apache-2.0
"""Stage 1: contrastive training of the Y-Encoder's head on pairs of paraphrases.

Before the vision side is trained, embeddings of paraphrases are pulled together, and concepts that
differ in one slot (object, color, phase) are pushed apart. In joint training with the vision side,
the head would merge concepts that the vision side still confuses (measured: cosine 0.99 between
opening and closing a drawer).

Shapes: N texts, L tokens, Dt width of the text tower, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.config import TextTraining, TrainConfig
from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.losses import text_loss
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.text_bank import ConceptTexts, TextBank, noisy_token_states, restore_order

ANCHORS = 0.25  # fraction of a batch's concepts that are drawn uniformly, before the negatives
NEGATED = 0.2  # fraction of a batch's concepts whose negation is added to the batch
BATCH = 256


class TextStage:
    """Training loop of the Y-Encoder's head (stage 1); `step` runs one optimizer step."""

    def __init__(
        self,
        encoder: YEncoder,
        config: TrainConfig,
        bank: TextBank,
        concept_texts: ConceptTexts,
        workers: Workers,
    ) -> None:
        self.encoder, self.config, self.amp, self.bank = encoder, config.text, config.amp, bank
        self.concept_texts, self.workers = concept_texts, workers
        self.rng = np.random.default_rng([config.seed, workers.rank])
        workers.broadcast(encoder.parameters())
        self.optimizer = OptimizerStep(
            groups(list(encoder.parameters()), self.config.weight_decay),
            self.config.learning_rate,
            cosine_schedule(self.config.steps, self.config.warmup_steps),
            workers=workers,
        )

    @property
    def done(self) -> int:
        """Number of optimizer steps taken so far."""
        return self.optimizer.done

    def step(self) -> float:
        """Draw texts, run one optimizer step, and return the loss."""
        config, names = (
            self.config,
            draw_concepts(self.concept_texts, self.config.meanings, self.rng),
        )
        texts = [self.concept_texts.draw_paraphrase(name, self.rng) for name in (*names, *names)]
        groups = self.bank.group_by_length(texts)
        with autocast(self.workers.device, self.amp):
            parts = [self._encode([texts[row] for row in rows]) for rows in groups]
        vectors = restore_order(parts, groups).float()
        same = torch.arange(len(names), device=vectors.device).repeat(2)
        also = self.concept_texts.also_holds(names).repeat(2, 2).to(vectors.device)
        loss = text_loss(vectors, same, config.temperature, also)
        self.optimizer.apply(loss)
        return loss.item()

    def _encode(self, texts: list[str]) -> Tensor:
        """Embed texts as (N, D), with noise on their token states."""
        return noisy_embeddings(self.encoder, *self.bank.states(texts), self.config)


def noisy_embeddings(
    encoder: YEncoder, states: Tensor, mask: Tensor, config: TextTraining
) -> Tensor:
    """Add noise to token states, drop random tokens, and embed the result.

    Args:
        encoder: Y-Encoder.
        states: Token states (N, L, Dt).
        mask: (N, L), true for real tokens.
        config: Provides `noise` and `dropped_tokens`.

    Returns:
        Embeddings (N, D).
    """
    vectors: Tensor = encoder(
        *noisy_token_states(states, mask, config.noise, config.dropped_tokens)
    )
    return vectors


def draw_concepts(concept_texts: ConceptTexts, count: int, rng: np.random.Generator) -> list[str]:
    """Draw the concepts of a batch: easily confused ones, and negations of some of them.

    Args:
        concept_texts: Training concepts.
        count: Maximum number of concepts without the negations.
        rng: Random generator.

    Returns:
        Concept ids.
    """
    uniform = min(round(ANCHORS * count), len(concept_texts.names))
    # `negatives` seldom draws yes, no and unknown, so they are always included.
    anchors = ['yes', 'no', 'unknown']
    anchors += rng.choice(concept_texts.names, uniform, replace=False).tolist()
    anchors = list(dict.fromkeys(anchors))
    names = [*anchors, *concept_texts.negatives(anchors, count - len(anchors), rng)]
    negated = [
        found
        for name in names
        if rng.random() < NEGATED and (found := concept_texts.negated(name))
    ]
    return [*names, *negated]


@torch.inference_mode()
def concept_vectors(encoder: YEncoder, bank: TextBank, concept_texts: ConceptTexts) -> Tensor:
    """Return the target embedding of each concept for the vision side, (concepts, D).

    It is the mean of the embeddings of the concept's paraphrases, normalized to a unit vector.
    """
    texts = [text for name in concept_texts.names for text in concept_texts.sentences[name]]
    counts = [len(concept_texts.sentences[name]) for name in concept_texts.names]
    vectors = torch.cat(
        [encoder(*bank.states(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
    )
    centers = torch.stack([part.mean(dim=0) for part in vectors.float().split(counts)])
    return functional.normalize(centers, dim=-1)
