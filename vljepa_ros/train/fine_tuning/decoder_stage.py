# SPDX-License-Identifier: Apache-2.0
"""The Y-Decoder learns people's sentences, and says again what it said before.

A batch has as many of the known sentences as of people's own and of the eyes' predictions. Words
that the decoder never used are added to its vocabulary; the others keep their numbers.
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


def grown(net: VLJEPA, ids: Sequence[int]) -> VLJEPA:
    """The same network, whose decoder has words for all wordpieces `ids`; its own come first."""
    config: ModelConfig = net.config
    before = config.y_decoder.vocabulary
    decoder = dataclasses.replace(config.y_decoder, vocabulary=len(ids))
    wider = VLJEPA(dataclasses.replace(config, y_decoder=decoder))
    state = net.state_dict()
    for key in GROWN:
        fresh = wider.state_dict()[key].clone()
        fresh[:before] = state[key]
        state[key] = fresh
    wider.load_state_dict(state)
    wider.y_decoder.token_ids.copy_(torch.tensor(ids))
    return wider.to(next(net.parameters()).device)


def train_words(
    net: VLJEPA, vocabulary: Vocabulary, kinds: Sequence[Pairs], steps: int, seed: int
) -> float:
    """Train `net`'s decoder on as many pairs of each kind; returns the last cross-entropy."""
    config = DecoderTraining(steps=steps, batch=96, warmup_steps=steps // 10, weight_decay=0.0)
    net.y_decoder.requires_grad_(True)
    stage = DecoderStage(net.y_decoder, config, vocabulary, kinds, seed)
    loss = 0.0
    while stage.done < steps:
        loss = stage.step()
    net.y_decoder.requires_grad_(False)
    return loss
