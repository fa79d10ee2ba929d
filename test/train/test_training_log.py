# SPDX-License-Identifier: Apache-2.0
"""Logs of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vljepa_ros.train import training_log as logs
from vljepa_ros.train.training_log import Log


class Board:
    """Fake TensorBoard writer."""

    def __init__(self) -> None:
        self.scalars: list[Any] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def test_figures_are_lines_of_json_and_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board()
    monkeypatch.setattr(logs, '_board', lambda folder: board)
    log = Log(tmp_path, tmp_path / 'tensorboard')
    log.write('vision', 20, {'loss': 1.23456789})
    log.write('vision', 40, {'loss': 1.0})
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert lines[0] == {'stage': 'vision', 'step': 20, 'loss': 1.2346} and lines[1]['step'] == 40
    assert board.scalars == [('vision/loss', 1.23456789, 20), ('vision/loss', 1.0, 40)]


def test_only_one_process_writes(tmp_path: Path) -> None:
    Log(tmp_path, tmp_path / 'tensorboard', writes=False).write('vision', 20, {'loss': 1.0})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_there_is_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'torch.utils.tensorboard', None)
    Log(tmp_path, tmp_path / 'tensorboard').write('vision', 20, {'loss': 1.0})
    assert [p.name for p in tmp_path.iterdir()] == ['log.jsonl']
