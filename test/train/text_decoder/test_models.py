# SPDX-License-Identifier: Apache-2.0
"""`vljepa train` trains a text decoder for one bidirectional model only."""

from __future__ import annotations

import errno
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_bidirectional as tiny
from helpers import tiny_dual_encoder
from safetensors.torch import load_file, save_file

from vljepa_ros.cli import main
from vljepa_ros.core.errors import InputError, ModelError
from vljepa_ros.core.protocols import Language
from vljepa_ros.model import registry
from vljepa_ros.model.language import text_decoder
from vljepa_ros.train.config_file import read_config
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig

TEXTS = [
    f'the {a} is {b}' for a, b in product(('drawer', 'cup', 'robot'), ('open', 'red', 'shut'))
]

SMALL = {'width': 32, 'layers': 1, 'heads': 2, 'max_tokens': 8, 'beams': 2}


def write(folder: Path, **changed: Any) -> Path:
    """Write the configuration of a short training and its sentences."""
    (folder / 'texts.txt').write_text('# a comment\n' + '\n'.join([*TEXTS, *TEXTS]) + '\n')
    values = {
        'kind': 'text_decoder',
        'model': str(folder / 'm'),
        'sentences': [str(folder / 'texts.txt')],
        'y_decoder': SMALL,
        'noise_length': [0.1],
        'steps': 250,
        'batch': 32,
        'learning_rate': 5e-3,
    }
    path = folder / 'words.yaml'
    path.write_text(yaml.safe_dump(values | changed))
    return path


def language(folder: Path) -> Language:
    found = registry.load(str(folder), 'cpu', parts=('language',)).language
    assert found is not None
    return found


@pytest.fixture(scope='module')
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with a trained text decoder, and the configuration."""
    folder = tmp_path_factory.mktemp('words')
    tiny.save(folder / 'm')
    assert main.main(['train', str(write(folder))]) == 0
    return folder / 'm'


def test_the_decoder_generates_sentences_outside_the_bank(trained_folder: Path) -> None:
    text_side = language(trained_folder)
    decoded = text_side.decode(text_side.encode(TEXTS))
    right = [d.text == text for d, text in zip(decoded, TEXTS, strict=True)]
    assert sum(right) >= len(TEXTS) - 1
    assert not any(d.nearest for d, ok in zip(decoded, right, strict=True) if ok)
    assert decoded[0].text not in [*tiny.SENTENCES] or decoded[1].text not in [*tiny.SENTENCES]
    assert text_side.decode(text_side.encode(TEXTS[:1]), asked=True)[0].text == TEXTS[0]
    assert text_side.decode(text_side.encode([])) == []
    bank_only = registry.load(str(trained_folder), 'cpu', parts=('bank',)).language
    assert bank_only is not None and bank_only.decode(bank_only.encode(TEXTS[:1]))[0].nearest


def test_sentence_bank_answers_if_decoder_is_uncertain(
    trained_folder: Path, tmp_path: Path
) -> None:
    folder = copied(trained_folder, tmp_path)
    config = yaml.safe_load((folder / text_decoder.CONFIG).read_text())
    (folder / text_decoder.CONFIG).write_text(yaml.safe_dump(config | {'bank_below': 1.01}))
    text_side = language(folder)
    found = text_side.decode(text_side.encode(['the drawer is open']))[0]
    assert (found.text, found.nearest) == ('the drawer is open', True)


def test_a_decoder_of_another_model_is_rejected_until_it_is_retrained(
    trained_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(trained_folder, tmp_path)
    values = yaml.safe_load((folder / 'model.yaml').read_text())
    (folder / 'model.yaml').write_text(yaml.safe_dump(values | {'name': 'renamed'}))
    with pytest.raises(ModelError, match=r"'tiny_.*'renamed-"):
        language(folder)
    path = write(tmp_path, steps=3)
    assert main.main(['train', str(path), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['folder'] == str(folder) and found['noise'] == 'even 0.1'
    assert 0 <= found['again'] <= 1 and found['cider'] is None
    language(folder)


def test_invalid_configurations_give_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save(tmp_path / 'm')
    for changed, token in (
        ({'sentences': []}, 'sentences'),
        ({'sentences': [str(tmp_path / 'none.txt')]}, 'none.txt'),
        ({'noise': 'loud'}, "'loud'"),
        ({'noise': 'measured'}, '0 pairs'),
        ({'model': 'small'}, 'small'),
        ({'steps': 0}, 'steps'),
        ({'stepz': 1}, "'stepz'"),
        ({'seed': -1}, 'seed (-1)'),
        ({'y_decoder': {'max_tokens': 1}}, '0 of 9'),
        ({'y_decoder': {'width': 30, 'heads': 4}}, '30'),
    ):
        assert main.main(['train', str(write(tmp_path, **changed))]) == 2
        err = capsys.readouterr().err.strip()
        assert token in err.splitlines()[-1] and 'Traceback' not in err, err
    assert not text_decoder.exists(tmp_path / 'm')


def test_sentences_that_cannot_be_decoded_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.save(tmp_path / 'm')
    path = write(tmp_path, steps=1)
    with (tmp_path / 'texts.txt').open('a') as file:
        file.write('the zebra is open\n' + 'the cup ' * 30 + '\n')
    assert main.main(['train', str(path)]) == 0
    assert '2 of 11' in caplog.text


def test_a_full_disk_keeps_the_previous_decoder(
    trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(trained_folder, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def raise_disk_full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', raise_disk_full)
    assert main.main(['train', str(write(tmp_path, steps=1))]) != 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_bank_is_searched_with_recentered_vectors(
    trained_folder: Path, tmp_path: Path
) -> None:
    """The sentence nearest to the raw vector, without re-centering, would be random."""
    folder = copied(trained_folder, tmp_path)
    config = yaml.safe_load((folder / text_decoder.CONFIG).read_text())
    (folder / text_decoder.CONFIG).write_text(yaml.safe_dump(config | {'bank_below': 1.01}))
    weights = load_file(folder / text_decoder.WEIGHTS)
    gap = torch.from_numpy(language(folder).encode(['the robot moves'])[0]) * 5
    weights['bridge.gap'][0], weights['bridge.gap'][1] = gap, 0.0
    save_file(weights, folder / text_decoder.WEIGHTS)
    text_side = language(folder)
    texts = text_side.encode(tiny.SENTENCES)
    vectors = texts + gap.numpy()
    assert [d.text for d in text_side.decode(vectors)] == [*tiny.SENTENCES]
    answers = [d.text for d in text_side.decode(vectors, asked=True)]  # with another modality gap
    assert answers == ['the robot moves'] * len(tiny.SENTENCES)


def test_a_dual_encoder_decodes_captions_and_rejects_questions(
    tmp_path: Path,
) -> None:
    tiny_dual_encoder.save(tmp_path / 'm')
    assert main.main(['train', str(write(tmp_path, y_decoder=SMALL | {'max_tokens': 12}))]) == 0
    text_side = registry.load(str(tmp_path / 'm'), 'cpu', 'bfloat16', parts=('language',)).language
    assert text_side is not None
    decoded = text_side.decode(text_side.encode(TEXTS[:3]))
    assert all(d.text for d in decoded) and not all(d.nearest for d in decoded)
    with pytest.raises(InputError, match='question'):
        text_side.decode(text_side.encode(TEXTS[:1]), asked=True)


def test_a_damaged_decoder_is_named(trained_folder: Path, tmp_path: Path) -> None:
    folder = copied(trained_folder, tmp_path)
    (folder / text_decoder.WEIGHTS).write_bytes(b'no weights')
    with pytest.raises(ModelError, match=r'y_decoder\.safetensors'):
        language(folder)
    (folder / text_decoder.CONFIG).write_text('model_id: x\n')
    with pytest.raises(ModelError, match=r'y_decoder\.yaml'):
        language(folder)


def test_sentences_of_all_files_are_read_without_duplicates(tmp_path: Path) -> None:
    from vljepa_ros.train.text_decoder.models import read_sentences

    (tmp_path / 'a').write_text('one\n\n# no\n two \n')
    (tmp_path / 'b').write_text('two\nthree\n')
    assert read_sentences([tmp_path / 'a', tmp_path / 'b']) == ['one', 'two', 'three']
    (tmp_path / 'b').write_text('the cup\u2028is red\nthe cup is blue\n')
    assert read_sentences([tmp_path / 'b']) == ['the cup\u2028is red', 'the cup is blue']
    (tmp_path / 'c').write_bytes(b'\xff\xfe\xff')
    with pytest.raises(InputError, match='UTF-8'):
        read_sentences([tmp_path / 'c'])


def test_the_shipped_configuration_can_be_read() -> None:
    path = Path(__file__).parents[3] / 'models' / 'open_vljepa' / 'words.yaml'
    found = read_config(path)
    assert isinstance(found, TextDecoderTrainingConfig)
    assert found.model == 'open_vljepa' and found.sentences


def copied(model: Path, folder: Path) -> Path:
    """Return a copy of the model's folder for changes."""
    import shutil

    return Path(shutil.copytree(model, folder / 'm'))


def test_the_modality_gap_is_removed_at_run_time(trained_folder: Path, tmp_path: Path) -> None:
    text_side = language(trained_folder)
    texts = text_side.encode(TEXTS)
    gap = np.random.default_rng(0).normal(size=texts.shape[1]).astype(np.float32)
    off = texts + 2 * gap / np.linalg.norm(gap)
    off /= np.linalg.norm(off, axis=1, keepdims=True)
    path = tmp_path / 'e.npz'
    model_id = text_side.facts.model_id
    np.savez(path, stamp=np.arange(1.0, 10.0), vector=off, model_id=model_id, prompt='')
    folder = copied(trained_folder, tmp_path)
    config = write(tmp_path, predictions=[{'embeddings': str(path)}])
    assert main.main(['train', str(config)]) == 0
    after = [d.text for d in language(folder).decode(off)]
    before = [d.text for d in text_side.decode(off)]
    hits = [sum(a == b for a, b in zip(t, TEXTS, strict=True)) for t in (before, after)]
    assert hits[1] >= len(TEXTS) - 1 and hits[0] <= len(TEXTS) // 2
