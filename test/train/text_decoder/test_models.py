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
    (folder / 'texts.txt').write_text('# what can be said\n' + '\n'.join([*TEXTS, *TEXTS]) + '\n')
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
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with a trained text decoder, and the configuration."""
    folder = tmp_path_factory.mktemp('words')
    tiny.save(folder / 'm')
    assert main.main(['train', str(write(folder))]) == 0
    return folder / 'm'


def test_the_model_says_sentences_that_its_bank_does_not_hold(taught: Path) -> None:
    spoken = language(taught)
    said = spoken.decode(spoken.encode(TEXTS))
    right = [d.text == text for d, text in zip(said, TEXTS, strict=True)]
    assert sum(right) >= len(TEXTS) - 1
    assert not any(d.nearest for d, ok in zip(said, right, strict=True) if ok)
    assert said[0].text not in [*tiny.SENTENCES] or said[1].text not in [*tiny.SENTENCES]
    assert spoken.decode(spoken.encode(TEXTS[:1]), asked=True)[0].text == TEXTS[0]
    assert spoken.decode(spoken.encode([])) == []
    bare = registry.load(str(taught), 'cpu', parts=('bank',)).language
    assert bare is not None and bare.decode(bare.encode(TEXTS[:1]))[0].nearest


def test_where_its_words_are_far_the_bank_speaks_and_says_so(taught: Path, tmp_path: Path) -> None:
    folder = copied(taught, tmp_path)
    config = yaml.safe_load((folder / text_decoder.CONFIG).read_text())
    (folder / text_decoder.CONFIG).write_text(yaml.safe_dump(config | {'bank_below': 1.01}))
    spoken = language(folder)
    found = spoken.decode(spoken.encode(['the drawer is open']))[0]
    assert (found.text, found.nearest) == ('the drawer is open', True)


def test_words_of_another_model_are_refused_until_they_are_learned_anew(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(taught, tmp_path)
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


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save(tmp_path / 'm')
    for changed, words in (
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
        assert words in err.splitlines()[-1] and 'Traceback' not in err, err
    assert not text_decoder.exists(tmp_path / 'm')


def test_sentences_that_cannot_be_said_again_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.save(tmp_path / 'm')
    path = write(tmp_path, steps=1)
    with (tmp_path / 'texts.txt').open('a') as file:
        file.write('the zebra is open\n' + 'the cup ' * 30 + '\n')
    assert main.main(['train', str(path)]) == 0
    assert '2 of 11' in caplog.text


def test_a_disk_that_takes_no_more_leaves_the_older_decoder(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(taught, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    assert main.main(['train', str(write(tmp_path, steps=1))]) != 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_bank_is_asked_where_texts_lie(taught: Path, tmp_path: Path) -> None:
    """The sentence nearest to the raw vector, without re-centering, would be random."""
    folder = copied(taught, tmp_path)
    config = yaml.safe_load((folder / text_decoder.CONFIG).read_text())
    (folder / text_decoder.CONFIG).write_text(yaml.safe_dump(config | {'bank_below': 1.01}))
    spoken = language(folder)
    gap = torch.zeros(2, tiny.DIM)
    gap[0] = torch.from_numpy(spoken.encode(['the robot moves'])[0]) * 5
    spoken._decoder.bridge.gap.copy_(gap)  # type: ignore[attr-defined]
    texts = spoken.encode(tiny.SENTENCES)
    vectors = texts + gap[0].numpy()
    assert [d.text for d in spoken.decode(vectors)] == [*tiny.SENTENCES]
    asked = [d.text for d in spoken.decode(vectors, asked=True)]  # with another modality gap
    assert asked == ['the robot moves'] * len(tiny.SENTENCES)


def test_a_dual_encoder_gets_words_for_what_it_sees_and_answers_no_question(
    tmp_path: Path,
) -> None:
    tiny_dual_encoder.save(tmp_path / 'm')
    assert main.main(['train', str(write(tmp_path, y_decoder=SMALL | {'max_tokens': 12}))]) == 0
    spoken = registry.load(str(tmp_path / 'm'), 'cpu', 'bfloat16', parts=('language',)).language
    assert spoken is not None
    said = spoken.decode(spoken.encode(TEXTS[:3]))
    assert all(d.text for d in said) and not all(d.nearest for d in said)
    with pytest.raises(InputError, match='question'):
        spoken.decode(spoken.encode(TEXTS[:1]), asked=True)


def test_a_damaged_decoder_is_named(taught: Path, tmp_path: Path) -> None:
    folder = copied(taught, tmp_path)
    (folder / text_decoder.WEIGHTS).write_bytes(b'no weights')
    with pytest.raises(ModelError, match=r'y_decoder\.safetensors'):
        language(folder)
    (folder / text_decoder.CONFIG).write_text('model_id: x\n')
    with pytest.raises(ModelError, match=r'y_decoder\.yaml'):
        language(folder)


def test_sentences_are_those_of_all_files_each_once(tmp_path: Path) -> None:
    from vljepa_ros.train.text_decoder.models import read_sentences

    (tmp_path / 'a').write_text('one\n\n# no\n two \n')
    (tmp_path / 'b').write_text('two\nthree\n')
    assert read_sentences([tmp_path / 'a', tmp_path / 'b']) == ['one', 'two', 'three']
    (tmp_path / 'b').write_text('the cup\u2028is red\nthe cup is blue\n')
    assert read_sentences([tmp_path / 'b']) == ['the cup\u2028is red', 'the cup is blue']
    (tmp_path / 'c').write_bytes(b'\xff\xfe\xff')
    with pytest.raises(InputError, match='UTF-8'):
        read_sentences([tmp_path / 'c'])


def test_the_shipped_configuration_is_one() -> None:
    path = Path(__file__).parents[3] / 'models' / 'open_vljepa' / 'words.yaml'
    found = read_config(path)
    assert isinstance(found, TextDecoderTrainingConfig)
    assert found.model == 'open_vljepa' and found.sentences


def copied(model: Path, folder: Path) -> Path:
    """Return a copy of the model's folder that may be changed."""
    import shutil

    return Path(shutil.copytree(model, folder / 'm'))


def test_the_gap_is_taken_off_at_run_time(taught: Path, tmp_path: Path) -> None:
    spoken = language(taught)
    texts = spoken.encode(TEXTS)
    gap = np.random.default_rng(0).normal(size=texts.shape[1]).astype(np.float32)
    off = texts + 2 * gap / np.linalg.norm(gap)
    off /= np.linalg.norm(off, axis=1, keepdims=True)
    path = tmp_path / 'e.npz'
    model_id = spoken.facts.model_id
    np.savez(path, stamp=np.arange(1.0, 10.0), vector=off, model_id=model_id, prompt='')
    folder = copied(taught, tmp_path)
    config = write(tmp_path, predictions=[{'embeddings': str(path)}])
    assert main.main(['train', str(config)]) == 0
    after = [d.text for d in language(folder).decode(off)]
    before = [d.text for d in spoken.decode(off)]
    hits = [sum(a == b for a, b in zip(t, TEXTS, strict=True)) for t in (before, after)]
    assert hits[1] >= len(TEXTS) - 1 and hits[0] <= len(TEXTS) // 2
