# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in the public names, pickled and not -> weights.safetensors."""

from __future__ import annotations

import pickle
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_bidirectional as tiny
from safetensors.torch import load_file, save_file

from vljepa_ros.core.errors import ModelError, OutputError
from vljepa_ros.model import registry
from vljepa_ros.model.checkpoint_config import SourceConfig
from vljepa_ros.model.hub.convert import convert, read_tensors

CHECKPOINT = SourceConfig('cun-bjy/open-vljepa', 'best.pt')
VJEPA = SourceConfig(
    'facebook/vjepa2-vitl-fpc64-256',
    'model.safetensors',
    rename_from='encoder.',
    rename_to='x_encoder.model.encoder.',
)


def published(folder: Path) -> list[tuple[SourceConfig, Path]]:
    """Return the tiny net in published form: V-JEPA 2 separately, with its own predictor."""
    net = tiny.net()
    state = net.state_dict()
    begin = 'x_encoder.model.'
    vjepa = {k.removeprefix(begin): v for k, v in state.items() if k.startswith(begin)}
    vjepa['predictor.layernorm.weight'] = torch.ones(24)
    ours = {k: v.bfloat16() for k, v in state.items() if not k.startswith(begin)}
    payload = {'epoch': 42, 'loss': 0.1, 'config': {'x': [None, True]}, 'model_state_dict': ours}
    torch.save(payload, folder / 'best.pt')
    save_file(vjepa, folder / 'model.safetensors')
    return [(CHECKPOINT, folder / 'best.pt'), (VJEPA, folder / 'model.safetensors')]


def meta() -> torch.nn.Module:
    with torch.device('meta'):
        return registry.make(tiny.config())


def test_published_parts_are_converted_to_one_loadable_file(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / 'm')
    (folder / 'weights.safetensors').unlink()
    convert(published(tmp_path), meta(), folder)
    found, expected = load_file(folder / 'weights.safetensors'), tiny.net().state_dict()
    assert set(found) == set(expected)
    for key, value in found.items():
        kept = torch.float32 if key.startswith('x_encoder') else torch.bfloat16
        assert value.dtype is kept
        torch.testing.assert_close(value.float(), expected[key], rtol=2**-8, atol=0)
    assert registry.load(str(folder), device='cpu').vision is not None


@pytest.mark.parametrize(
    ('change', 'pattern'),
    [
        (lambda s: s.pop('predictor.norm.weight'), r'predictor\.norm\.weight'),
        (lambda s: s.update(extra=torch.ones(1)), 'extra'),
        (
            lambda s: s.update({'predictor.norm.weight': torch.ones(3)}),
            r'predictor\.norm\.weight .*\(3,\).*\(32,\)',
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_rejected_without_output(
    tmp_path: Path, change: Any, pattern: str
) -> None:
    files = published(tmp_path)
    payload = torch.load(tmp_path / 'best.pt', weights_only=True)
    change(payload['model_state_dict'])
    torch.save(payload, tmp_path / 'best.pt')
    with pytest.raises(ModelError, match=pattern):
        convert(files, meta(), tmp_path)
    assert not list(tmp_path.glob('weights*'))


class ExecutesOnLoad:
    """Object that executes code on unpickling."""

    def __reduce__(self) -> Any:
        return print, ('it ran',)


def test_a_pickle_that_executes_code_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, write in (
        ('zip.pt', lambda path: torch.save({'model_state_dict': ExecutesOnLoad()}, path)),
        ('plain.pt', lambda path: path.write_bytes(pickle.dumps(ExecutesOnLoad()))),
    ):
        write(tmp_path / name)
        with pytest.raises(ModelError, match=name):
            read_tensors(tmp_path / name)
    assert 'it ran' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'content', 'pattern'),
    [
        ('cut.pt', b'PK\x03\x04', r'cut\.pt'),
        ('none.safetensors', b'', r'none\.safetensors'),
    ],
)
def test_damaged_files_give_a_one_line_error(
    tmp_path: Path, name: str, content: bytes, pattern: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=pattern) as caught:
        read_tensors(tmp_path / name)
    assert '\n' not in str(caught.value)


def test_a_file_without_a_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({'model_state_dict': {'epoch': 3}}, tmp_path / 'x.pt')
    with pytest.raises(ModelError, match='state dict'):
        read_tensors(tmp_path / 'x.pt')


def test_weights_without_a_source_are_initialized_randomly(tmp_path: Path) -> None:
    files = published(tmp_path)[1:]
    whole = tiny.net().state_dict()
    drawn = {key: value for key, value in whole.items() if not key.startswith('x_encoder.')}
    convert(files, meta(), tmp_path, drawn)
    found = load_file(tmp_path / 'weights.safetensors')
    assert set(found) == set(whole)
    torch.testing.assert_close(found['predictor.norm.weight'], whole['predictor.norm.weight'])


def test_a_full_disk_is_an_output_error_and_leaves_no_file(tmp_path: Path) -> None:
    files, folder = published(tmp_path), tmp_path / 'm'
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r'weights\.safetensors'):
            convert(files, meta(), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(folder.iterdir())
