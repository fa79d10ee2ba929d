# SPDX-License-Identifier: Apache-2.0
"""Logs of a training run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vljepa_ros.train.training_log import Log


class Board:
    """Fake TensorBoard writer."""

    def __init__(self) -> None:
        self.scalars: list[Any] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def test_metrics_are_json_lines_and_tensorboard_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board()
    module = SimpleNamespace(SummaryWriter=lambda folder: board)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    log = Log(tmp_path, tmp_path / 'tensorboard')
    log.write('vision', 20, {'loss': 1.23456789})
    log.write('vision', 40, {'loss': 1.0})
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert lines[0] == {'stage': 'vision', 'step': 20, 'loss': 1.2346} and lines[1]['step'] == 40
    assert board.scalars == [('vision/loss', 1.23456789, 20), ('vision/loss', 1.0, 40)]


def test_only_one_process_writes(tmp_path: Path) -> None:
    Log(tmp_path, tmp_path / 'tensorboard', writes=False).write('vision', 20, {'loss': 1.0})
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_only_the_json_log_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    Log(tmp_path, tmp_path / 'tensorboard').write('vision', 20, {'loss': 1.0})
    assert [p.name for p in tmp_path.iterdir()] == ['log.jsonl']
