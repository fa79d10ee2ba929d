# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of the Y-Decoder on annotated texts, with rehearsal of known sentences.

A batch has equal numbers of known sentences, of annotated texts and of predictions of the vision
side. New word pieces are appended to the decoder's vocabulary; existing ones keep their ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.config import DecoderTraining
from vljepa_ros.train.decoder_stage import DecoderStage, Pairs, Vocabulary

GROWN = ('y_decoder.token_ids', 'y_decoder.token.weight')


def with_larger_vocabulary(net: VLJEPA, ids: Sequence[int]) -> VLJEPA:
    """Return a copy of the network whose decoder's vocabulary is `ids`; its own must be first."""
    config: ModelConfig = net.config
    before = config.y_decoder.vocabulary
    decoder = dataclasses.replace(config.y_decoder, vocabulary=len(ids))
    extended = VLJEPA(dataclasses.replace(config, y_decoder=decoder))
    state = net.state_dict()
    for key in GROWN:
        initial = extended.state_dict()[key].clone()
        initial[:before] = state[key]
        state[key] = initial
    extended.load_state_dict(state)
    extended.y_decoder.token_ids.copy_(torch.tensor(ids))
    return extended.to(next(net.parameters()).device)


def train_decoder_on_texts(
    net: VLJEPA, vocabulary: Vocabulary, kinds: Sequence[Pairs], steps: int, seed: int
) -> float:
    """Train the decoder of `net` and return the last cross-entropy.

    Args:
        net: The model; its other parts are not changed.
        vocabulary: Vocabulary of the decoder.
        kinds: Sets of pairs; a batch has the same number of each.
        steps: Number of steps.
        seed: Seed of the batches.
    """
    config = DecoderTraining(steps=steps, batch=96, warmup_steps=steps // 10, weight_decay=0.0)
    net.y_decoder.requires_grad_(True)
    stage = DecoderStage(net.y_decoder, config, vocabulary, kinds, seed)
    loss = 0.0
    while stage.done < steps:
        loss = stage.step()
    net.y_decoder.requires_grad_(False)
    return loss
