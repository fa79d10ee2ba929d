# SPDX-License-Identifier: Apache-2.0
"""Bags of colours with what somebody says of them, in words that no model knows; a model to begin
with, and a training that is enough to learn them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from helpers import bags
from helpers.numbered_recordings import asked, lines, said

from vljepa_ros.model import registry
from vljepa_ros.model.config import (
    ModelConfig,
    PredictorConfig,
    TimeConfig,
    XEncoderConfig,
    YDecoderConfig,
)
from vljepa_ros.model.streaming.network import VLJEPA
from vljepa_ros.train.fine_tuning.config import Recording

SAYS = {'red': 'The oven is hot.', 'blue': 'The fridge is open.', 'green': 'All is well.'}
EACH_S = 2  # how long a colour is shown
SHORT = {
    'steps': 50,
    'text_steps': 20,
    'decoder_steps': 400,
    'learning_rate': 5e-3,
    'clips': {'clips': 4, 'tubelets': 4, 'questions': 1, 'question_tubelets': 2},
    'device': 'cpu',
    'amp': False,
}


def save_start(folder: Path) -> Path:
    """A model of random weights, stored in float16 as models are, that says other words."""
    torch.manual_seed(0)
    net = VLJEPA(
        ModelConfig(
            name='start',
            embedding_dim=64,
            time=TimeConfig(window_tubelets=4),
            x_encoder=XEncoderConfig(image_size=32, stem=(8, 16), width=32, layers=2, heads=2),
            predictor=PredictorConfig(width=32, layers=2, heads=2, answer_tokens=2),
            y_decoder=YDecoderConfig(width=32, layers=1, heads=2, max_tokens=12, vocabulary=50),
        )
    )
    net.y_decoder.token_ids.copy_(torch.tensor([0, *range(2001, 2050)]))
    registry.save(net, folder)
    return folder


def film(folder: Path, colours: list[str], name: str) -> Recording:
    """A bag of colours, and a file that says what each means, and answers a question."""
    source = bags.write(folder / name, bags.colours(colours, 10 * EACH_S))
    told = []
    for number, colour in enumerate(colours):
        begin = EACH_S * number
        told.append(said(begin, begin + EACH_S, SAYS[colour]))
        answer = 'no' if colour == 'red' else 'yes'
        told.append(asked(begin + 1, 'May I touch it?', answer, candidates=['yes', 'no']))
    return Recording(str(source), str(lines(folder / f'{name}.jsonl', *told)))
