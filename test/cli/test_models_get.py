# SPDX-License-Identifier: Apache-2.0
"""`vljepa models get` and `compare`, with a hub on this machine and a tiny model."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import tiny_bidirectional as tiny
from helpers.fake_hub import Hub, serve
from model.hub.test_convert import published

from vljepa_ros.model import registry

Run = Callable[..., Any]
REPOSITORIES = ('cun-bjy/open-vljepa', 'facebook/vjepa2-vitl-fpc64-256')
TOKENIZERS = ('meta-llama/Llama-3.2-1B', 'google/embeddinggemma-300m')
LOAD = registry.load  # `vljepa` puts a fake in its place


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Start a hub with the tiny model, published like the large one."""
    (tmp_path / 'published').mkdir()
    with serve() as found:
        files = published(tmp_path / 'published')
        for repository, (_, path) in zip(REPOSITORIES, files, strict=True):
            found.put(repository, path.name, path.read_bytes())
        tiny.save_tokenizer(tmp_path / 'published' / 'tokenizer.json')
        for repository in TOKENIZERS:
            content = (tmp_path / 'published' / 'tokenizer.json').read_bytes()
            found.put(repository, 'tokenizer.json', content)
        monkeypatch.setenv('HF_ENDPOINT', found.url)
        monkeypatch.setenv('HF_TOKEN', 'secret')
        monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of models/open_vljepa with tiny sizes."""
    made = tiny.save(tmp_path / 'open_vljepa')
    for name in ('weights.safetensors', 'predictor_tokenizer.json', 'y_encoder_tokenizer.json'):
        (made / name).unlink()
    shipped = (registry.find('open_vljepa') / 'model.yaml').read_text()
    sizes = yaml.safe_load((made / 'model.yaml').read_text())
    kept = {k: v for k, v in sizes.items() if k not in ('licences', 'sources', 'name')}
    rest = shipped[shipped.index('licences:') :]
    (made / 'model.yaml').write_text('name: open_vljepa\n' + yaml.safe_dump(kept) + rest)
    return made


def test_a_model_is_downloaded_converted_pinned_and_loads(
    vljepa: Run, hub: Hub, folder: Path
) -> None:
    hub.gated.update(TOKENIZERS)
    before = (folder / 'model.yaml').read_text()
    assert 'vljepa models get open' in vljepa('models', '--model', folder).out
    found = vljepa('models', 'get', folder, '--accept-licenses', '--json')
    assert vljepa('models', '--model', folder, '--json').json[0]['weights'] is True
    assert found.status == 0 and found.json == {'name': 'open_vljepa', 'folder': str(folder)}
    assert 'Llama 3.2 Community License' in found.err and 'Gemma Terms of Use' in found.err
    after = (folder / 'model.yaml').read_text()
    content = hub.files['/cun-bjy/open-vljepa/resolve/main/best.pt']
    pinned = hashlib.sha256(content).hexdigest()
    assert before.count("sha256: ''") == 4 and after.count("sha256: ''") == 0
    assert f'file: best.pt\n  sha256: {pinned}' in after and pinned in found.err
    assert '# ' in after and not (folder / 'downloads').exists()
    model = LOAD(str(folder), device='cpu')
    assert model.vision is not None and model.language is not None


def test_nothing_is_downloaded_before_the_licenses_are_accepted(
    vljepa: Run, hub: Hub, folder: Path
) -> None:
    found = vljepa('models', 'get', folder)
    assert (found.status, found.out, hub.asked) == (2, '', [])
    assert 'Llama 3.2 Community License' in found.err and 'Gemma Terms of Use' in found.err
    assert '--accept-licenses' in found.err.splitlines()[-1]


def test_an_interrupted_get_resumes_and_keeps_its_pins(
    vljepa: Run, hub: Hub, folder: Path
) -> None:
    hub.gated.update(TOKENIZERS)
    hub_token = hub.files.pop('/meta-llama/Llama-3.2-1B/resolve/main/tokenizer.json')
    assert vljepa('models', 'get', folder, '--accept-licenses').status == 2
    hub.put('meta-llama/Llama-3.2-1B', 'tokenizer.json', hub_token)
    hub.put('cun-bjy/open-vljepa', 'best.pt', b'another one meanwhile')
    asked = len(hub.asked)
    assert vljepa('models', 'get', folder, '--accept-licenses').status == 0
    paths = [path for path, _ in hub.asked[asked:]]
    assert not [path for path in paths if 'open-vljepa' in path]
    again = vljepa('models', 'get', folder, '--accept-licences')  # the older spelling
    assert again.status == 0 and 'is complete' in again.err


def test_a_pinned_file_that_changed_is_refused(vljepa: Run, hub: Hub, folder: Path) -> None:
    assert vljepa('models', 'get', folder, '--accept-licenses').status == 0
    (folder / 'weights.safetensors').unlink()
    hub.put('cun-bjy/open-vljepa', 'best.pt', b'another one')
    found = vljepa('models', 'get', folder, '--accept-licenses')
    assert found.status == 2 and 'has SHA-256' in found.err.splitlines()[-1]
    assert not (folder / 'weights.safetensors').exists()


def test_several_parts_of_one_file_are_one_download_and_one_pin(
    vljepa: Run, hub: Hub, folder: Path
) -> None:
    """models/vljepa_paper and models/vljepa_open have such sources."""
    path = folder / 'model.yaml'
    values = yaml.safe_load(path.read_text())
    (checkpoint,) = (s for s in values['sources'] if s['file'] == 'best.pt')
    parts = [
        {**checkpoint, 'rename_from': f'{p}.', 'rename_to': f'{p}.'}
        for p in ('predictor', 'y_encoder')
    ]
    rest = [s for s in values['sources'] if s['file'] != 'best.pt']
    path.write_text(yaml.safe_dump({**values, 'sources': parts + rest}, sort_keys=False))
    found = vljepa('models', 'get', folder, '--accept-licenses')
    assert found.status == 0, found.err
    assert len([p for p, _ in hub.asked if p.startswith('/cun-bjy')]) == 1
    assert path.read_text().count("sha256: ''") == 0
    assert LOAD(str(folder), device='cpu').vision is not None


def test_into_writes_the_model_to_another_folder(
    vljepa: Run, hub: Hub, folder: Path, tmp_path: Path
) -> None:
    before = (folder / 'model.yaml').read_text()
    found = vljepa('models', 'get', folder, '--accept-licenses', '--into', tmp_path / 'my')
    made = tmp_path / 'my' / 'open_vljepa'
    assert found.status == 0 and LOAD(str(made), device='cpu').facts.embedding_dim == tiny.DIM
    assert (folder / 'model.yaml').read_text() == before
    assert not (folder / 'weights.safetensors').exists()


def test_get_refuses_a_model_with_included_weights(vljepa: Run) -> None:
    found = vljepa('models', 'get', 'small')
    assert found.status == 2 and "'small'" in found.err


def test_compare_reports_cosine_and_time(vljepa: Run, tmp_path: Path) -> None:
    import cv2

    folder = tiny.save(tmp_path / 'm')
    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{i:02}.png'), image)
    arguments = ('models', 'compare', folder, tmp_path / 'images', '--fps', '4')
    arguments += ('--prompt', 'what is happening', '--device', 'cpu')
    found = vljepa(*arguments, '--json').json
    assert found['hops'] == 10 and -1 <= found['cosine_min'] <= found['cosine_mean'] < 1
    assert found['ratio'] == pytest.approx(found['window_s'] / found['causal_s'])
    assert 'cosine similarity of block-causal and window mode' in vljepa(*arguments).out
    for name, token in (('small', 'streaming'), ('gone', "'gone'")):
        wrong = vljepa('models', 'compare', name, tmp_path / 'images')
        assert wrong.status == 2 and token in wrong.err
    shutil.rmtree(tmp_path / 'images')
