# SPDX-License-Identifier: Apache-2.0
"""A checkpoint is valid as long as the configuration of its own stage does not change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vljepa_ros.core.errors import InputError
from vljepa_ros.model.config import CalibrationConfig, ModelConfig
from vljepa_ros.train import checkpoint
from vljepa_ros.train.config import TrainConfig

CONFIG = TrainConfig('data', 'out', ModelConfig('tiny'))
STAGES = ('texts', 'region_finder', 'vision')
CHANGES: dict[str, tuple[Any, tuple[str, ...]]] = {  # section -> value, invalid checkpoints
    'seed': (1, STAGES),
    'start': ('models/small', STAGES),
    'model': (replace(CONFIG.model, embedding_dim=64), STAGES),
    'text': (replace(CONFIG.text, noise=0.5), ('texts', 'vision')),
    'regions': (replace(CONFIG.regions, steps=5), ('region_finder',)),
    'vision': (replace(CONFIG.vision, gap_weight=0.25), ('vision',)),
    'decoder': (replace(CONFIG.decoder, steps=5), ()),
    'familiarity': (replace(CONFIG.familiarity, enabled=False), ()),
    'data': ('elsewhere', ()),
}


@pytest.mark.parametrize('section', CHANGES)
@pytest.mark.parametrize('stage', STAGES)
def test_a_checkpoint_depends_on_the_sections_of_its_stage(
    tmp_path: Path, stage: str, section: str
) -> None:
    path = tmp_path / f'{stage}.pt'
    checkpoint.write(path, CONFIG, {'weight': torch.ones(2)})
    value, invalid = CHANGES[section]
    changed = replace(CONFIG, **{section: value})
    if stage in invalid:
        with pytest.raises(InputError, match=rf'{stage}\.pt was written with {section}'):
            checkpoint.read(path, changed)
    else:
        state = checkpoint.read(path, changed)
        assert state is not None and state['weight'].tolist() == [1, 1]


def test_results_of_later_stages_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / 'vision.pt'
    checkpoint.write(path, CONFIG, {})
    calibrated = replace(CONFIG.model, calibration=CalibrationConfig(match_centre=0.4))
    assert checkpoint.read(path, replace(CONFIG, model=calibrated)) == {}


def test_sections_of_other_stages_in_an_earlier_checkpoint_are_ignored(tmp_path: Path) -> None:
    """Checkpoints stored the sections of all stages before."""
    path = tmp_path / 'texts.pt'
    (tmp_path / 'old').mkdir()
    checkpoint.write(tmp_path / 'old' / 'vision.pt', CONFIG, {})
    (tmp_path / 'old' / 'vision.pt').rename(path)
    changed = replace(CONFIG, vision=replace(CONFIG.vision, gap_weight=0.25))
    assert checkpoint.read(path, changed) == {}


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path / 'vision.pt', CONFIG) is None
