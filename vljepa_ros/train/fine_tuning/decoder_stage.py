# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning of the Y-Decoder on annotated texts, with rehearsal of known sentences.

A batch consists of equal numbers of known sentences (see `rehearsal`), annotated texts, and
predictions of the vision side. New word pieces are appended to the decoder's vocabulary; existing
ones keep their local ids.
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
    """Return a copy of a network with additional word pieces in its Y-Decoder's vocabulary.

    Args:
        net: Network to copy.
        ids: Token ids of the new vocabulary, which must begin with those of the existing one.
    """
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
    """Train the Y-Decoder of `net` in place, and return the cross-entropy of the last step.

    Args:
        net: Network; only its Y-Decoder is changed.
        vocabulary: Vocabulary of the decoder.
        kinds: Sets of training pairs; a batch has the same number from each set.
        steps: Number of optimizer steps.
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
