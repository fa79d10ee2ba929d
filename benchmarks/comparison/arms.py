# SPDX-License-Identifier: Apache-2.0
"""The arms: prediction for a window and a prompt, loss, decoding and choice of candidates.

Shapes: B windows, W tubelets, P prompts per window, M = B * P examples, K answer tokens, D width
or embedding_dim, N texts, C candidates.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.comparison.examples import Batch
from benchmarks.comparison.settings import Plan, Settings
from benchmarks.comparison.writer import Writer
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.block import KeyValue
from vljepa_ros.model.streaming.predictor import Predictor
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.streaming.y_encoder import YEncoder
from vljepa_ros.train.decoder_stage import Vocabulary
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.noise import IsotropicNoise
from vljepa_ros.train.optimizer import autocast
from vljepa_ros.train.text_bank import TextBank

Made = TypeVar('Made', bound=nn.Module)

CPU = torch.device('cpu')
SEP = 102  # MiniLM's end-of-text token
MORE_LAYERS = 1  # additional layers of B's decoder; its width equalizes the number of parameters
TEXTS = 256  # batch size of encoding


@dataclass(frozen=True)
class Language:
    """Frozen part that all arms share: the text tower's states, tokens and embeddings."""

    tower: TextTower
    bank: TextBank
    vocabulary: Vocabulary
    table: Tensor

    def text(self, tokens: Sequence[int]) -> str:
        """Convert local token ids to text."""
        return str(self.tower.tokenizer.decode([self.vocabulary.ids[i] for i in tokens]))


def language(config: ModelConfig, texts: Sequence[str]) -> Language:
    """Create it with the vocabulary of `texts`: all training answers and candidates."""
    tower = TextTower(config.text_tower, CPU)
    vocabulary = Vocabulary(tower.pieces, texts, config.y_decoder.max_tokens)
    ids = torch.tensor([SEP, *vocabulary.ids[1:]])
    table = tower.bert.embeddings.word_embeddings.weight[ids].detach().clone()
    return Language(tower, TextBank(tower), vocabulary, table)


class Trunk(Predictor):
    """Predictor at a window's newest tubelet; output `pooled` to a vector, or K tokens."""

    def __init__(self, config: ModelConfig, causal: bool = True, pooled: bool = True) -> None:
        super().__init__(config)
        self.causal, self.pooled = causal, pooled
        if not pooled:
            self.head = nn.Identity()  # type: ignore[assignment]

    def see(self, visual: Tensor, prompt: Tensor, prompt_mask: Tensor) -> Tensor:
        """Predict from (B, W, Nx, Dx) and prompts (B, P, L, Dt): (M, D) or tokens (M, K, D)."""
        prefix = self.prefix(visual[:, -self.window :])
        batch, prompts = prompt.shape[:2]
        clip = torch.arange(batch).repeat_interleave(prompts)
        newest = torch.full_like(clip, prefix[0].keys.shape[2] - 1)
        return self.answers(prefix, prompt.flatten(0, 1), prompt_mask.flatten(0, 1), clip, newest)

    def prefix(self, visual: Tensor) -> list[KeyValue]:
        """Compute the visual prefix; without the causal mask, over the whole window."""
        if self.causal:
            return super().prefix(visual)
        x, caches = self.merge(visual), []
        everything = torch.ones(2 * [x.shape[1] * x.shape[2]], dtype=torch.bool, device=x.device)
        for block in self.blocks:
            x, cache = block.band(x, everything)  # type: ignore[operator]
            caches.append(cache)
        return caches

    def _pool(self, suffix: Tensor, length: int) -> Tensor:
        return super()._pool(suffix, length) if self.pooled else self.norm(suffix[:, length:])


class TextHead(nn.Module):
    """Y-Encoder of arm A: a head on MiniLM's token states."""

    def __init__(self, config: ModelConfig, known: Language) -> None:
        super().__init__()
        self.head, self.bank, self.width = YEncoder(config), known.bank, config.embedding_dim

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        return self.head(*self.bank.states(texts)).float()


class PlainText(nn.Module):
    """Frozen MiniLM: the mean of a text's token states, without trained parameters."""

    def __init__(self, config: ModelConfig, known: Language) -> None:
        super().__init__()
        self.bank, self.width = known.bank, config.text_tower.width

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, Dt)."""
        states, mask = self.bank.states(texts)
        return functional.normalize((states * mask[..., None]).sum(dim=1), dim=-1)


class RandomText(nn.Module):
    """Y-Encoder of arm C: token embeddings of some width and the same head, from scratch."""

    def __init__(self, config: ModelConfig, known: Language, width: int) -> None:
        super().__init__()
        tower = dataclasses.replace(config.text_tower, width=width)
        self.vocabulary, self.width = known.vocabulary, config.embedding_dim
        self.token = nn.Embedding(len(known.table), width)
        self.position = nn.Parameter(0.02 * torch.randn(config.y_encoder.max_tokens, width))
        self.head = YEncoder(dataclasses.replace(config, text_tower=tower))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (N, D)."""
        rows = [torch.tensor([0, *self.vocabulary.tokens(text)]) for text in texts]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return self.head(self.token(tokens) + self.position[: tokens.shape[1]], mask).float()


class Arm(nn.Module):
    """Trunk with the loss and the decoding of its answers."""

    trunk: Trunk
    writer: Writer

    def __init__(self, known: Language) -> None:
        super().__init__()
        self.known = known

    def see(self, visual: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return answers (M, ...) to P prompts per window (B, W, N, D)."""
        shape = (len(visual), len(prompts) // len(visual))
        states, mask = self.known.bank.states(prompts)
        with autocast(CPU, True):
            found = self.trunk.see(visual, states.unflatten(0, shape), mask.unflatten(0, shape))
        return found.float()

    def say(self, seen: Tensor) -> list[str]:
        """Decode answers (M, ...) to texts."""
        with autocast(CPU, True):
            return [self.known.text(row) for row in self.writer.greedy(self.prefix(seen))]

    def _writing(self, prefix: Tensor, texts: Sequence[str]) -> Tensor:
        with autocast(CPU, True):
            return self.writer.loss(prefix, [self.known.vocabulary.tokens(t) for t in texts])

    @abstractmethod
    def prefix(self, seen: Tensor) -> Tensor:
        """Convert answers to the writer's prefix."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss."""

    @abstractmethod
    def score(self, seen: Tensor, candidates: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return each answer's scores (C,) of its candidates; the highest is chosen."""


class EmbeddingArm(Arm):
    """Arms A, C and D: InfoNCE with the text embeddings, and a separately trained Y-Decoder."""

    def __init__(
        self, config: ModelConfig, known: Language, texts: nn.Module, plan: Plan, noise: float
    ) -> None:
        super().__init__(known)
        config = dataclasses.replace(config, embedding_dim=int(texts.width))  # type: ignore[arg-type]
        self.texts, self.noise, self.gap_weight = texts, IsotropicNoise(noise), plan.gap_weight
        self.trunk, y = Trunk(config, plan.causal), config.y_decoder
        size = (y.width, y.layers, y.heads)
        self.writer = Writer(
            config.embedding_dim, (1, y.prefix_tokens), size, known.table, y.max_tokens + 1
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def loss(self, batch: Batch) -> Tensor:
        """Return `joint_loss` (positives are equal texts) plus the writer's cross-entropy."""
        predicted = self.see(batch.visual, batch.prompts)
        texts = list(dict.fromkeys(batch.answers))
        number = {text: row for row, text in enumerate(texts)}
        rows = torch.tensor([number[text] for text in batch.answers])
        targets, even = self.texts(texts), torch.ones(len(rows))
        scale = self.log_scale.exp().clamp(max=100.0)
        total, _ = joint_loss(predicted, rows, even, targets, scale, self.gap_weight)
        half = torch.rand(len(rows), 1) < 0.5
        vectors = torch.where(half, predicted, targets[rows]).detach()
        noisy = functional.normalize(vectors + self.noise(vectors), dim=-1)
        return total + self._writing(self.prefix(noisy), batch.answers)

    def prefix(self, seen: Tensor) -> Tensor:
        """Use the vector as the prefix."""
        return seen[:, None]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings (N, D) of any number of texts."""
        parts = [self.texts(texts[i : i + TEXTS]) for i in range(0, len(texts), TEXTS)]
        return torch.cat(parts)

    def score(self, seen: Tensor, candidates: Sequence[Sequence[str]]) -> list[Tensor]:
        """Score candidates by cosine similarity."""
        texts = list(dict.fromkeys(text for row in candidates for text in row))
        number, vectors = {text: i for i, text in enumerate(texts)}, self.encode(texts)
        return [
            vectors[[number[text] for text in row]] @ answer
            for answer, row in zip(seen, candidates, strict=True)
        ]


class TokenArm(Arm):
    """Arm B: cross-entropy of the answer's tokens after the trunk's answer tokens."""

    def __init__(self, config: ModelConfig, known: Language, plan: Plan, width: int) -> None:
        super().__init__(known)
        y, p = config.y_decoder, config.predictor
        self.trunk = Trunk(config, plan.causal, pooled=False)
        size = (width, y.layers + MORE_LAYERS, y.heads)
        self.writer = Writer(p.width, (p.answer_tokens, 1), size, known.table, y.max_tokens + 1)

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy, which also trains the trunk."""
        return self._writing(self.see(batch.visual, batch.prompts), batch.answers)

    def prefix(self, seen: Tensor) -> Tensor:
        """Use all answer tokens as the prefix."""
        return seen

    def score(self, seen: Tensor, candidates: Sequence[Sequence[str]]) -> list[Tensor]:
        """Score candidates by mean log-likelihood per token."""
        tokens = self.known.vocabulary.tokens
        with autocast(CPU, True):
            return [
                self.writer.likelihood(answer, [tokens(text) for text in row])
                for answer, row in zip(seen, candidates, strict=True)
            ]


def make_arm(plan: Plan, settings: Settings, known: Language) -> EmbeddingArm | TokenArm:
    """Create an untrained arm with about as many parameters as A."""
    time = dataclasses.replace(settings.model.time, window_tubelets=plan.window)
    config, noise = dataclasses.replace(settings.model, time=time), settings.noise
    if plan.arm == 'A':
        kind = PlainText if plan.text == 'plain' else TextHead
        return EmbeddingArm(config, known, kind(config, known), plan, noise)
    goal = parameters(EmbeddingArm(config, known, TextHead(config, known), plan, noise))

    if plan.arm == 'B':
        step = 4 * config.y_decoder.heads
        return closest(lambda width: TokenArm(config, known, plan, width), goal, step)

    def from_scratch(width: int) -> EmbeddingArm:
        return EmbeddingArm(config, known, RandomText(config, known, width), plan, noise)

    return closest(from_scratch, goal, 4 * config.y_encoder.heads)


def parameters(arm: nn.Module) -> int:
    """Count trainable parameters; frozen ones are buffers or outside of the arm."""
    return sum(p.numel() for p in arm.parameters())


def closest(make: Callable[[int], Made], goal: int, step: int) -> Made:
    """Return the arm whose width (in steps of `step`) has parameters closest to `goal`."""
    width = step
    while parameters(make(width + step)) < goal:
        width += step
    below, above = make(width), make(width + step)
    return below if goal - parameters(below) < parameters(above) - goal else above
