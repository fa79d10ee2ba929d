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
from vljepa_ros.train.config import Clips
from vljepa_ros.train.fine_tuning.config import FineTuningConfig, Recording
from vljepa_ros.train.fine_tuning.run import FineTuning
from vljepa_ros.train.fine_tuning.text_stage import TextFineTuning
from vljepa_ros.train.fine_tuning.trainable_parameters import select_parameters
from vljepa_ros.train.fine_tuning.vision_stage import Nets, VisionFineTuning

STEPS = 30
OTHERS = ['Is the light on?', 'Is the arm at rest?']


@pytest.fixture(scope='module')
def tuning(start: Path, shown: Recording, tmp_path_factory: pytest.TempPathFactory) -> FineTuning:
    torch.set_num_threads(1)
    config = FineTuningConfig(
        str(tmp_path_factory.mktemp('vision') / 'out'),
        (shown,),
        start=str(start),
        tune='all',
        steps=STEPS,
        learning_rate=5e-3,
        clips=Clips(3, 4, 1, 1),
        device='cpu',
        amp=False,
    )
    return FineTuning(config)


def trained(tuning: FineTuning, keep: float) -> tuple[VLJEPA, float]:
    """Return the network after all steps, and the loss of the last five steps."""
    torch.manual_seed(0)
    config = dataclasses.replace(tuning.config, keep=keep)
    net = copy.deepcopy(tuning.before)
    texts = TextFineTuning(net.y_encoder, tuning.bank, tuning.concept_texts, [])
    nets = Nets(net, tuning.before, select_parameters(net, config))
    stage = VisionFineTuning(nets, config, tuning._sampler(0), texts, OTHERS)
    forth = [stage.step()['prediction_to_text'] for _ in range(STEPS)]
    return net, float(np.mean(forth[-5:]))


def to_other_questions(net: VLJEPA, tuning: FineTuning) -> Tensor:
    """Return answers (P, T, D) about the first six seconds of the recording."""
    frames = np.array(tuning.train[0].frames()[:60]).reshape(1, 30, 2, 32, 32, 3)
    states, mask = tuning.bank.states(OTHERS)
    with torch.no_grad():
        found: Tensor = net(torch.from_numpy(frames), states[None], mask[None])
    return found[0]


def test_other_questions_are_answered_as_before_where_that_is_asked_for(
    tuning: FineTuning,
) -> None:
    before, drift = to_other_questions(tuning.before, tuning), {}
    for keep in (0.0, 10.0):
        net, forth = trained(tuning, keep)
        after = to_other_questions(net, tuning)
        drift[keep] = 1 - functional.cosine_similarity(before, after, dim=-1).mean().item()
        if keep == 0.0:
            assert forth < 0.9  # it learns: one of six meanings at random has log 6 = 1.8
    assert drift[10.0] < 0.5 * drift[0.0]
    assert drift[0.0] > 0.1
