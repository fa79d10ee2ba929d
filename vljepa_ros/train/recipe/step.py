# SPDX-License-Identifier: Apache-2.0
"""Training step of a bidirectional model: predictions are trained to match embeddings of texts.

The loss is bidirectional InfoNCE on unit vectors (arXiv 2512.10942, section 3). Pairs with the
same text are not negatives of each other.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vljepa_ros.model.bidirectional.network import BidirectionalVLJEPA
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.train.adapters import ALL, LORA, add_adapters, require
from vljepa_ros.train.losses import joint_loss
from vljepa_ros.train.optimizer import autocast, groups
from vljepa_ros.train.optimizer_step import (
    OptimizerStep,
    constant_schedule,
    cosine_schedule,
)
from vljepa_ros.train.recipe.config import RecipeConfig, StageConfig
from vljepa_ros.train.recipe.pairs import ClipTextPair

BETAS = (0.9, 0.999)  # decay rates of AdamW's moments


def select_parameters(net: BidirectionalVLJEPA, config: RecipeConfig) -> None:
    """Freeze `net` except the parameters that `config.tune` selects.

    With `lora`, LoRA adapters are added to the network first.

    Raises:
        InputError: `lora` was selected, but peft is not installed.
    """
    require(config.tune)
    net.requires_grad_(False)
    net.x_encoder.eval()
    if config.tune == ALL:
        net.predictor.requires_grad_(True)
        net.y_encoder.requires_grad_(True)
    if config.tune == LORA:
        add_adapters(net, ('predictor.layers',), config.lora)
    for layer in (net.predictor.norm, net.predictor.out_proj, net.y_encoder.projector):
        layer.requires_grad_(True)


class RecipeStage:
    """Training loop of one stage of a bidirectional model; `step` runs one optimizer step.

    The X-Encoder is frozen.
    """

    def __init__(
        self,
        net: BidirectionalVLJEPA,
        prompt_tokens: Tokens,
        text_tokens: Tokens,
        config: RecipeConfig,
        stage: StageConfig,
    ) -> None:
        self.net, self.config = net, config
        self._prompt_tokens, self._text_tokens = prompt_tokens, text_tokens
        self._device = next(net.parameters()).device
        select_parameters(net, config)
        parts = ((net.predictor, 1.0), (net.y_encoder, config.y_encoder_rate))
        parameters = [
            {**group, 'lr': share * stage.learning_rate}
            for part, share in parts
            for group in groups(
                [p for p in part.parameters() if p.requires_grad], config.weight_decay
            )
        ]
        schedule = (
            constant_schedule(stage.warmup_steps)
            if stage.schedule == 'constant'
            else cosine_schedule(stage.steps, stage.warmup_steps)
        )
        self.optimizer = OptimizerStep(
            parameters, stage.learning_rate, schedule, betas=BETAS, clip_groups=True
        )

    @property
    def done(self) -> int:
        """Number of optimizer steps taken so far."""
        return self.optimizer.done

    def step(self, pairs: list[ClipTextPair]) -> float:
        """Run one optimizer step on a batch of pairs, and return the loss."""
        loss = self.loss(pairs)
        self.optimizer.apply(loss)
        return float(loss.detach())

    def loss(self, pairs: list[ClipTextPair]) -> Tensor:
        """Compute the InfoNCE loss between the predictions of clips and the distinct texts."""
        texts = list(dict.fromkeys(pair.text for pair in pairs))
        images = torch.from_numpy(np.stack([pair.frames for pair in pairs])).to(self._device)
        with autocast(self._device, self.config.amp):
            with torch.no_grad():
                visual = self.net.x_encoder(images)
            prompts = self._prompt_tokens.batch([pair.prompt for pair in pairs], self._device)
            predicted = self.net.predictor(visual, *prompts)
            targets = self.net.y_encoder(*self._text_tokens.batch(texts, self._device))
        scale = torch.tensor(1 / self.config.temperature, device=self._device)
        rows = torch.tensor([texts.index(pair.text) for pair in pairs], device=self._device)
        weight = torch.ones(len(pairs), device=self._device)
        loss, _ = joint_loss(predicted, rows, weight, targets, scale, gap_weight=0.0)
        return loss
