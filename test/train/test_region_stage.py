# SPDX-License-Identifier: Apache-2.0
"""The region finder learns to locate a bright rectangle, the workspace of the streams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.synthetic_streams import film

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Stream, read_stream, write_stream
from vljepa_ros.data.workspace import WORKSPACE, workspaces
from vljepa_ros.model.config import ModelConfig, RegionFinderConfig
from vljepa_ros.model.streaming.region_finder import RegionFinder
from vljepa_ros.train.config import RegionTraining, TrainConfig
from vljepa_ros.train.region_stage import RegionStage

SIDE = 32


def scene(folder: Path, seed: int) -> Stream:
    """Write a stream whose frames show a bright rectangle in a random place."""
    rng, data = np.random.default_rng(seed), film(f's{seed}', seed)
    count = len(data.frames)
    x, y = rng.uniform(0.25, 0.75, 2)
    width, height = rng.uniform(0.3, 0.6, 2)
    frames = np.full((count, SIDE, SIDE, 3), 20, np.uint8)
    rows = slice(max(round(SIDE * (y - height / 2)), 0), round(SIDE * (y + height / 2)))
    columns = slice(max(round(SIDE * (x - width / 2)), 0), round(SIDE * (x + width / 2)))
    frames[:, rows, columns] = 230
    state = {'light': np.ones(count), 'cover': np.zeros(count)}
    state |= {n: np.full(count, v) for n, v in zip(WORKSPACE, (x, y, width, height), strict=True)}
    return read_stream(write_stream(folder, replace(data, frames=frames, state=state)))


def test_finder_learns_the_position_of_the_workspace(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    streams = [scene(tmp_path / str(seed), seed) for seed in range(24)]
    finder = RegionFinder(RegionFinderConfig(SIDE, (8, 16)), SIDE)
    training = RegionTraining(
        steps=250, batch=32, learning_rate=5e-3, warmup_steps=20, ema=0.9, every=40
    )
    model = ModelConfig('tiny')
    stage = RegionStage(
        finder, streams[:20], TrainConfig('data', 'out', model, seed=1, regions=training)
    )
    for _ in range(stage.steps):
        stage.step()
    stage.average.copy_to_module()
    errors, spread = [], []
    for stream in streams[20:]:
        expected = workspaces(stream.state())
        assert expected is not None
        x, y, width, height = finder.eval().find(np.asarray(stream.frames()[0]))
        errors.append([x + width / 2 - expected[0, 0], y + height / 2 - expected[0, 1]])
        spread.append(expected[0, :2] - 0.5)
    assert np.abs(errors).mean() < 0.4 * np.abs(spread).mean()


def test_streams_without_workspaces_are_an_input_error(tmp_path: Path) -> None:
    plain = read_stream(write_stream(tmp_path, film('s', 0)))
    finder = RegionFinder(RegionFinderConfig(SIDE, (8, 16)), SIDE)
    with pytest.raises(InputError, match='region_finder'):
        RegionStage(finder, [plain], TrainConfig('data', 'out', ModelConfig('tiny')))
