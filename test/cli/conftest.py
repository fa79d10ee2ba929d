# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import bags
from helpers.fake_models import fake_model

from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import ModelError
from vljepa_ros.model import registry


@dataclass
class Result:
    """Result of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the single JSON value on stdout."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Return one JSON value per line."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def vljepa(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the command in this process with the fake model."""

    def load(name: str, *_: object, **__: object) -> object:
        if name == 'nope':
            raise ModelError("unknown model 'nope' (known: small)")
        return fake_model()

    monkeypatch.setattr(registry, 'load', load)

    def run(*arguments: object) -> Result:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Write a bag with three seconds of red, three of blue and two of green."""
    shown = ['red'] * 3 + ['blue'] * 3 + ['green'] * 2
    return bags.write(tmp_path / 'bag', bags.colors(shown, 10))
