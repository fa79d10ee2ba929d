# SPDX-License-Identifier: Apache-2.0
"""Downloaded files are stored and pinned per repository, file and revision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from helpers.fake_hub import Hub, serve
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vljepa_ros.core.errors import ModelError
from vljepa_ros.model.checkpoint_config import SourceConfig
from vljepa_ros.model.hub.pin import obtain, pin

FIRST = {'weight': torch.ones(2, 2), 'bias': torch.ones(2)}
SECOND = {'weight': torch.zeros(2, 2), 'bias': torch.zeros(2)}
# Two parts of one file at different revisions; `main` is the default.
SOURCES = """\
sources:
- repository: owner/name
  file: best.safetensors
  sha256: ''
  rename_from: weight
  rename_to: weight
- repository: owner/name
  file: best.safetensors
  revision: 'v2'  # the branch
  sha256: ''
  rename_from: bias
  rename_to: bias
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as found:
        monkeypatch.setenv('HF_ENDPOINT', found.url)
        monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
        for revision, tensors in (('main', FIRST), ('v2', SECOND)):
            path = f'/owner/name/resolve/{revision}/best.safetensors'
            found.files[path] = save(tensors)
        yield found


def entries(folder: Path) -> tuple[SourceConfig, ...]:
    values = yaml.safe_load((folder / 'model.yaml').read_text())
    return tuple(SourceConfig(**entry) for entry in values['sources'])


def sha256(tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(save(tensors)).hexdigest()


def test_revisions_of_one_file_are_downloaded_and_pinned_separately(
    hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / 'model.yaml').write_text(SOURCES)
    obtain(
        tmp_path,
        entries(tmp_path),
        lambda: nn.Linear(2, 2),
        (),
        lambda _: None,
        lambda _done, _total: None,
    )
    weights = load_file(tmp_path / 'weights.safetensors')
    assert weights['weight'].tolist() == FIRST['weight'].tolist()
    assert weights['bias'].tolist() == SECOND['bias'].tolist()
    assert [source.sha256 for source in entries(tmp_path)] == [sha256(FIRST), sha256(SECOND)]


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
def test_only_the_entry_of_the_revision_is_pinned(tmp_path: Path, order: tuple[int, int]) -> None:
    (tmp_path / 'model.yaml').write_text(SOURCES)
    first, second = (entries(tmp_path)[i] for i in order)
    pin(tmp_path, first, 'a' * 64)
    assert entries(tmp_path)[order[1]].sha256 == ''
    pin(tmp_path, second, 'b' * 64)
    assert [entries(tmp_path)[i].sha256 for i in order] == ['a' * 64, 'b' * 64]
    changed = (tmp_path / 'model.yaml').read_text()
    for hexadecimal in 'ab':
        changed = changed.replace(hexadecimal * 64, "''")
    assert changed == SOURCES
    with pytest.raises(ModelError, match=r'has no empty sha256 .*revision v2'):
        pin(tmp_path, SourceConfig('owner/name', 'best.safetensors', 'v2'), 'c' * 64)
