# SPDX-License-Identifier: Apache-2.0
"""Stage 1: trains the head of the Y-Encoder on pairs of paraphrases.

Paraphrases of one concept are pulled together, and concepts that differ in one slot (object,
color, phase) are pushed apart, before the vision side is trained. If the head is trained jointly
with the vision side, it merges concepts that the latter still confuses (measured: cosine 0.99
between opening and closing a drawer).

Shapes: N texts, L tokens, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.config import TextTraining, TrainConfig
from vljepa_ros.train.losses import text_loss
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import OptimizerStep, cosine_schedule
from vljepa_ros.train.parallel import Workers
from vljepa_ros.train.text_bank import Meanings, TextBank, disturbed, in_order

ANCHORS = 0.25  # fraction of a step's concepts that are drawn uniformly; the others are negatives
DENIED = 0.2  # fraction of a step's concepts that are added in negated form as well
BATCH = 256


class TextStage:
    """One run of stage 1; `step` is one optimizer step."""

    def __init__(
        self,
        encoder: YEncoder,
        config: TrainConfig,
        bank: TextBank,
        meanings: Meanings,
        workers: Workers,
    ) -> None:
        self.encoder, self.config, self.amp, self.bank = encoder, config.text, config.amp, bank
        self.meanings, self.workers = meanings, workers
        self.rng = np.random.default_rng([config.seed, workers.rank])
        workers.same(encoder.parameters())
        self.optimizer = OptimizerStep(
            groups(list(encoder.parameters()), self.config.weight_decay),
            self.config.learning_rate,
            cosine_schedule(self.config.steps, self.config.warmup_steps),
            workers=workers,
        )

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return self.optimizer.done

    def step(self) -> float:
        """Take one step; returns the loss."""
        config, names = self.config, drawn(self.meanings, self.config.meanings, self.rng)
        texts = [self.meanings.wording(name, self.rng) for name in (*names, *names)]
        groups = self.bank.alike(texts)
        with autocast(self.workers.device, self.amp):
            parts = [self._encode([texts[row] for row in rows]) for rows in groups]
        vectors = in_order(parts, groups).float()
        same = torch.arange(len(names), device=vectors.device).repeat(2)
        also = self.meanings.also_holds(names).repeat(2, 2).to(vectors.device)
        loss = text_loss(vectors, same, config.temperature, also)
        self.optimizer.apply(loss)
        return loss.item()

    def _encode(self, texts: list[str]) -> Tensor:
        """Return noisy embeddings (N, D)."""
        return noisy(self.encoder, *self.bank.states(texts), self.config)


def noisy(encoder: YEncoder, states: Tensor, mask: Tensor, config: TextTraining) -> Tensor:
    """Embed noisy token states with random tokens dropped.

    Args:
        encoder: Y-Encoder.
        states: (N, L, Dt).
        mask: (N, L), true for real tokens.
        config: Amount of noise and fraction of dropped tokens.

    Returns:
        Embeddings (N, D).
    """
    vectors: Tensor = encoder(*disturbed(states, mask, config.noise, config.dropped_tokens))
    return vectors


def drawn(meanings: Meanings, count: int, rng: np.random.Generator) -> list[str]:
    """Draw `count` concepts, most of which are easily confused, and negations of some of them."""
    uniform = min(round(ANCHORS * count), len(meanings.names))
    # `negatives` would never draw yes, no and unknown as neighbors of a sentence.
    anchors = ['yes', 'no', 'unknown']
    anchors += rng.choice(meanings.names, uniform, replace=False).tolist()
    anchors = list(dict.fromkeys(anchors))
    names = [*anchors, *meanings.negatives(anchors, count - len(anchors), rng)]
    denied = [
        found for name in names if rng.random() < DENIED and (found := meanings.denied(name))
    ]
    return [*names, *denied]


@torch.inference_mode()
def meaning_vectors(encoder: YEncoder, bank: TextBank, meanings: Meanings) -> Tensor:
    """Return the targets of the vision side: the center of each concept's paraphrases.

    They are unit vectors (meanings, D).
    """
    texts = [text for name in meanings.names for text in meanings.sentences[name]]
    counts = [len(meanings.sentences[name]) for name in meanings.names]
    vectors = torch.cat(
        [encoder(*bank.states(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
    )
    centers = torch.stack([part.mean(dim=0) for part in vectors.float().split(counts)])
    return functional.normalize(centers, dim=-1)
