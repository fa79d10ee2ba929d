# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of the Y-Encoder: separates annotated texts, and preserves known embeddings.

Without it, "the left drawer is open" and "the right drawer is open" may have almost the same
embedding (cosine 0.99 in models/small, whose training data has no left or right drawers), so the
vision side could not learn to distinguish them. Known sentences are texts of the starting model
(see `rehearsal`), whose embeddings must not change.

Shapes: N annotated concepts, K known sentences, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vljepa_ros.data.questions import ANSWERS
from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.config import TextTraining
from vljepa_ros.train.losses import text_loss
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.text_bank import ConceptTexts, TextBank
from vljepa_ros.train.text_stage import concept_vectors, noisy_embeddings

BATCH = 48  # maximum number of concepts, and of known sentences, per step
NEAR = 0.6  # cosine above which a known sentence may have the same meaning as another text
BETAS = (0.9, 0.999)  # decay rates of AdamW's moments
KEEP = 4.0  # weight of the loss that preserves the embeddings of known sentences


class TextFineTuning:
    """Fine-tuning of the Y-Encoder; it also provides the targets of the vision side.

    Args:
        encoder: Y-Encoder of the starting model.
        bank: Token states of the texts.
        concept_texts: Concepts of the annotations.
        known: Known sentences, whose embeddings are preserved.
    """

    def __init__(
        self, encoder: YEncoder, bank: TextBank, concept_texts: ConceptTexts, known: list[str]
    ) -> None:
        self.encoder, self.bank = encoder, bank
        self.concept_texts, self.known = concept_texts, known
        self.own = [name for name in concept_texts.names if name not in ANSWERS]
        # Every model has the concepts of answers; they are rehearsed as well.
        answers = [text for name in ANSWERS for text in concept_texts.sentences[name]]
        self._anchors = [*known, *answers]
        with torch.no_grad():
            states, mask = bank.states(self._anchors)
            self._original = encoder(states, mask).clone()  # (K, D)
        self.also = self._near()

    def train(self, steps: int, seed: int) -> float:
        """Train the Y-Encoder and return the loss of the last step.

        Nothing is trained, and the loss is 0, if there are no annotated texts.
        """
        config = TextTraining(steps=steps, learning_rate=3e-4, warmup_steps=steps // 10)
        rng, loss = np.random.default_rng(seed), 0.0
        self.encoder.requires_grad_(True)
        optimizer = OptimizerStep(
            self.encoder.parameters(),
            config.learning_rate,
            cosine_schedule(steps, config.warmup_steps),
            betas=BETAS,
        )
        for _ in range(steps if self.own else 0):
            value = self._loss(config, rng)
            optimizer.apply(value)
            loss = value.item()
        self.encoder.requires_grad_(False)
        return loss

    def targets(self) -> Tensor:
        """Return the targets of the vision side, unit vectors (N + K, D).

        They are the embeddings of the concepts, followed by those of the known sentences.
        """
        own = concept_vectors(self.encoder, self.bank, self.concept_texts)
        if not self.known:
            return own.clone()
        with torch.no_grad():
            return torch.cat([own, self.encoder(*self.bank.states(self.known))]).clone()

    def _loss(self, config: TextTraining, rng: np.random.Generator) -> Tensor:
        """Compute the contrastive loss of annotated texts, plus the drift of known embeddings.

        Known sentences are negatives of the annotated texts, except those of similar meaning.
        """
        chosen = rng.permutation(len(self.own))[:BATCH]
        rows = rng.permutation(len(self._anchors))[:BATCH]
        names = [self.own[i] for i in chosen]
        texts = [self.concept_texts.draw_paraphrase(name, rng) for name in (*names, *names)]
        vectors = noisy_embeddings(self.encoder, *self.bank.states(texts), config)
        anchors = self.encoder(*self.bank.states([self._anchors[i] for i in rows]))
        original = self._original[torch.from_numpy(rows).to(anchors.device)]
        count, device = len(texts), vectors.device
        left_out = torch.ones(count + len(rows), count + len(rows), dtype=torch.bool)
        left_out[:count, :count] = False
        near = (vectors.detach().float() @ original.T > NEAR).cpu()
        left_out[:count, count:] = near
        label = torch.cat([torch.arange(len(names)).repeat(2), -1 - torch.arange(len(rows))])
        contrastive = text_loss(
            torch.cat([vectors, anchors]).float(),
            label.to(device),
            config.temperature,
            left_out.to(device),
        )
        return contrastive + KEEP * (1 - (anchors * original).sum(dim=-1)).mean()

    def _near(self) -> Tensor:
        """Return which pairs of targets may have the same meaning, (N + K, N + K) bool.

        These are pairs with a known sentence whose cosine is above `NEAR`.
        """
        with torch.no_grad():
            targets = self.targets()
        count = len(self.concept_texts.names)
        near = targets @ targets.T > NEAR
        near[:count, :count] = False
        near.fill_diagonal_(False)
        return near.clone()
