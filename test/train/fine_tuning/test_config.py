# SPDX-License-Identifier: Apache-2.0
"""Configuration of fine-tuning: valid values, and errors that name the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.annotated_bags import tune_config

from vljepa_ros.core.errors import InputError
from vljepa_ros.train.fine_tuning.config import Recording
from vljepa_ros.train.fine_tuning.run import FineTuning

GOOD = {'kind': 'fine_tuning', 'out': 'runs/mine', 'recordings': [{'source': 'run.mp4'}]}


def test_defaults_of_a_minimal_configuration() -> None:
    found = tune_config(GOOD, Path('tune.yaml'))
    assert found.recordings == (Recording('run.mp4', '', (), 0.0),)
    assert (found.start, found.tune, found.validation, found.title) == (
        'small',
        'heads',
        (),
        'mine',
    )


def test_all_keys_of_a_recording_are_read() -> None:
    given = {'source': 'run7', 'annotations': 'a.jsonl', 'topics': ['front=/f', '/r'], 'fps': 5}
    found = tune_config({**GOOD, 'recordings': [given]}, Path('tune.yaml'))
    assert found.recordings == (Recording('run7', 'a.jsonl', ('front=/f', '/r'), 5.0),)


@pytest.mark.parametrize(
    ('more', 'part'),
    [
        ({'tune': 'some'}, "tune 'some'"),
        ({'steps': 0}, 'steps (0)'),
        ({'lora': {'rank': 0}}, 'lora.rank (0)'),
        ({'lora': {'alpha': 0}}, 'lora.alpha (0)'),
        ({'lora': {'dropout': 0}}, "'dropout'"),
        ({'epochs': 3}, "'epochs'"),
        ({'keep': -1}, 'keep (-1)'),
        ({'learning_rate': 7}, 'learning_rate (7)'),
        ({'recordings': []}, 'recordings'),
        ({'recordings': 'run.mp4'}, 'recordings: '),
        ({'recordings': ['run.mp4']}, 'recordings[0]'),
        ({'recordings': [{'annotations': 'a'}]}, "'source'"),
        ({'recordings': [{'source': 'a'}, {'source': 7}]}, 'recordings[1].source'),
        ({'recordings': [{'source': 'a', 'topics': '/r'}]}, 'topics'),
        ({'clips': {'clips': 0, 'tubelets': 4}}, 'clips'),
    ],
)
def test_errors_name_the_file_and_the_invalid_value(more: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        tune_config({**GOOD, **more}, Path('x/tune.yaml'))
    assert str(caught.value).startswith('x/tune.yaml: ') and part in str(caught.value)


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    config = tune_config({**GOOD, 'start': 'siglip2', 'out': str(tmp_path)}, Path('tune.yaml'))
    with pytest.raises(InputError, match=r'siglip2.*dual_encoder'):
        FineTuning(config)
