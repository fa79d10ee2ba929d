# SPDX-License-Identifier: Apache-2.0
"""Vision side: learning of annotated texts, and preservation of other answers."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.clips import ClipSampler
from vljepa_ros.train.config import Clips
from vljepa_ros.train.fine_tuning.config import FineTuningConfig, Recording
from vljepa_ros.train.fine_tuning.run import FineTuning
from vljepa_ros.train.fine_tuning.text_stage import TextFineTuning
from vljepa_ros.train.fine_tuning.trainable_parameters import select_parameters
from vljepa_ros.train.fine_tuning.vision_stage import Nets, VisionFineTuning

STEPS = 30
OTHER_PROMPTS = ['Is the light on?', 'Is the arm at rest?']


@pytest.fixture(scope='module')
def tuning(
    start: Path, training_recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> FineTuning:
    torch.set_num_threads(1)
    config = FineTuningConfig(
        str(tmp_path_factory.mktemp('vision') / 'out'),
        (training_recording,),
        start=str(start),
        tune='all',
        steps=STEPS,
        learning_rate=5e-3,
        clips=Clips(3, 4, 1, 1),
        device='cpu',
        amp=False,
    )
    return FineTuning(config)


def train(tuning: FineTuning, keep: float) -> tuple[VLJEPA, float]:
    """Return the network after all steps, and the loss of the last five steps."""
    torch.manual_seed(0)
    config = dataclasses.replace(tuning.config, keep=keep)
    net = copy.deepcopy(tuning.before)
    texts = TextFineTuning(net.y_encoder, tuning.bank, tuning.concept_texts, [])
    frames = tuning.model.time.tubelet_frames
    sampler = ClipSampler(tuning.train, frames, config.seed)
    nets = Nets(net, tuning.before, select_parameters(net, config))
    stage = VisionFineTuning(nets, config, sampler, texts, OTHER_PROMPTS)
    losses = [stage.step()['prediction_to_text'] for _ in range(STEPS)]
    return net, float(np.mean(losses[-5:]))


def answers_to_other_prompts(net: VLJEPA, tuning: FineTuning) -> Tensor:
    """Return answers (P, T, D) about the first six seconds of the recording."""
    frames = np.array(tuning.train[0].frames()[:60]).reshape(1, 30, 2, 32, 32, 3)
    states, mask = tuning.bank.states(OTHER_PROMPTS)
    with torch.no_grad():
        found: Tensor = net(torch.from_numpy(frames), states[None], mask[None])
    return found[0]


def test_keep_preserves_the_answers_to_other_prompts(
    tuning: FineTuning,
) -> None:
    before, drift = answers_to_other_prompts(tuning.before, tuning), {}
    for keep in (0.0, 10.0):
        net, loss = train(tuning, keep)
        after = answers_to_other_prompts(net, tuning)
        drift[keep] = 1 - functional.cosine_similarity(before, after, dim=-1).mean().item()
        if keep == 0.0:
            assert loss < 0.9  # chance level among six concepts: log 6 = 1.8
    assert drift[10.0] < 0.5 * drift[0.0]
    assert drift[0.0] > 0.1
