# SPDX-License-Identifier: Apache-2.0
"""Stage 1: the Y-Encoder's head learns the space of meanings, text to text.

Rewordings of one meaning come together and one-slot changes (other object, colour, phase) apart,
before the eyes learn to predict. Trained together with the eyes, the head would put together what
they still confuse (measured: opening and closing a drawer at a cosine of 0.99).

Shapes: N texts, L tokens, D embedding_dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.config import TextTraining, TrainConfig
from vljepa_ros.train.losses import text_loss
from vljepa_ros.train.optimizer import autocast, groups, rate
from vljepa_ros.train.parallel import Workers
from vljepa_ros.train.text_bank import Meanings, TextBank, disturbed, in_order

ANCHORS = 0.25  # share of a step's meanings that are drawn freely; the others lie close to those
DENIED = 0.2  # share of a step's meanings whose sentences are denied as well
BATCH = 256


class TextStage:
    """One run of stage 1; `step` is one optimiser step."""

    def __init__(
        self,
        encoder: YEncoder,
        config: TrainConfig,
        bank: TextBank,
        meanings: Meanings,
        workers: Workers,
    ) -> None:
        self.encoder, self.config, self.amp, self.bank = encoder, config.text, config.amp, bank
        self.meanings, self.workers, self.done = meanings, workers, 0
        self.rng = np.random.default_rng([config.seed, workers.rank])
        workers.same(encoder.parameters())
        self.optimizer = torch.optim.AdamW(
            groups(list(encoder.parameters()), self.config.weight_decay), betas=(0.9, 0.98)
        )

    def step(self) -> float:
        """One step; returns the loss."""
        config, names = self.config, drawn(self.meanings, self.config.meanings, self.rng)
        texts = [self.meanings.wording(name, self.rng) for name in (*names, *names)]
        groups = self.bank.alike(texts)
        with autocast(self.workers.device, self.amp):
            parts = [self._encode([texts[row] for row in rows]) for rows in groups]
        vectors = in_order(parts, groups).float()
        same = torch.arange(len(names), device=vectors.device).repeat(2)
        also = self.meanings.also_holds(names).repeat(2, 2).to(vectors.device)
        loss = text_loss(vectors, same, config.temperature, also)
        for group in self.optimizer.param_groups:
            group['lr'] = rate(config.learning_rate, self.done, config.warmup_steps, config.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.workers.average(self.encoder.parameters())
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        return loss.item()

    def _encode(self, texts: list[str]) -> Tensor:
        """Noisy embeddings (N, D)."""
        return noisy(self.encoder, *self.bank.states(texts), self.config)


def noisy(encoder: YEncoder, states: Tensor, mask: Tensor, config: TextTraining) -> Tensor:
    """Embeddings (N, D) of noisy states (N, L, Dt), with some of their tokens left out."""
    vectors: Tensor = encoder(*disturbed(states, mask, config.noise, config.dropped_tokens))
    return vectors


def drawn(meanings: Meanings, count: int, rng: np.random.Generator) -> list[str]:
    """`count` meanings, of which most are easily confused with another, and denials of some."""
    free = min(round(ANCHORS * count), len(meanings.names))
    # Yes, no and cannot tell are in no sentence's neighbourhood.
    anchors = ['yes', 'no', 'unknown', *rng.choice(meanings.names, free, replace=False).tolist()]
    anchors = list(dict.fromkeys(anchors))
    names = [*anchors, *meanings.negatives(anchors, count - len(anchors), rng)]
    denied = [
        found for name in names if rng.random() < DENIED and (found := meanings.denied(name))
    ]
    return [*names, *denied]


@torch.inference_mode()
def meaning_vectors(encoder: YEncoder, bank: TextBank, meanings: Meanings) -> Tensor:
    """What the eyes aim at: the centre of each meaning's wordings, (meanings, D) unit vectors."""
    texts = [text for name in meanings.names for text in meanings.sentences[name]]
    counts = [len(meanings.sentences[name]) for name in meanings.names]
    vectors = torch.cat(
        [encoder(*bank.states(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
    )
    centres = torch.stack([part.mean(dim=0) for part in vectors.float().split(counts)])
    return functional.normalize(centres, dim=-1)
