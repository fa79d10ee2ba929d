# SPDX-License-Identifier: Apache-2.0
"""Predictions from files, with their target texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import fake_models

from vljepa_ros.core.errors import InputError, ModelMismatchError
from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.train.text_decoder.config import Predictions
from vljepa_ros.train.text_decoder.pairs import read_predictions

FACTS = ModelFacts('one-1', 4, 8, 10.0, 2, 4, 4)


class Reader(fake_models.FakeLanguage):
    """Text side with a limit of twenty letters."""

    def check(self, text: str) -> None:
        if len(text) > 20:
            raise InputError(f'text of {len(text)} tokens is too long (at most 20)')


LANGUAGE: Any = Reader(FACTS)
STAMPS_S = 0.5 * np.arange(1, 9)  # 0.5 .. 4 s
VECTORS = np.eye(4)[[0, 0, 0, 0, 1, 1, 2, 3]]


def embeddings(folder: Path, **changed: Any) -> str:
    arrays = {'stamp': STAMPS_S, 'vector': VECTORS, 'model_id': 'one-1', 'prompt': 'What is it?'}
    path = folder / 'e.npz'
    np.savez(path, **{k: np.array(v) for k, v in (arrays | changed).items()})
    return str(path)


def annotations(folder: Path, *lines: dict[str, Any]) -> str:
    path = folder / 'a.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    return str(path)


def test_a_stretch_is_paired_with_its_mean_prediction(tmp_path: Path) -> None:
    told = annotations(
        tmp_path,
        {'start': 0, 'end': 2, 'text': 'one'},
        {'start': 2, 'end': 3.5, 'text': 'two'},
        {'start': 10, 'end': 12, 'text': 'after the end'},
    )
    known = read_predictions([Predictions(embeddings(tmp_path), told)], LANGUAGE)
    first, second = known.pairs  # nothing was predicted of the third
    assert (first.text, second.text, first.asked) == ('one', 'two', False)
    np.testing.assert_allclose(first.vector, VECTORS[0])
    expected = np.array([0, 2, 1, 0]) / np.sqrt(5)
    np.testing.assert_allclose(second.vector, expected, atol=1e-6)
    assert known.vectors[0].shape == (8, 4) and known.vectors[1].shape == (0, 4)


def test_a_question_is_paired_with_the_nearest_prediction_of_its_prompt(tmp_path: Path) -> None:
    told = annotations(
        tmp_path,
        {'time': 3.4, 'prompt': 'what is it?', 'answer': 'a cup'},
        {'time': 3.4, 'prompt': 'Is it red?', 'answer': 'no'},
        {'time': 9.0, 'prompt': 'What is it?', 'answer': 'long gone'},
    )
    known = read_predictions([Predictions(embeddings(tmp_path), told, asked=True)], LANGUAGE)
    (pair,) = known.pairs
    assert (pair.text, pair.asked) == ('a cup', True)
    np.testing.assert_allclose(pair.vector, VECTORS[6])  # of 3.5 s
    assert len(known.vectors[0]) == 0 and len(known.vectors[1]) == 8


def test_without_annotations_there_are_no_pairs(tmp_path: Path) -> None:
    known = read_predictions([Predictions(embeddings(tmp_path))], LANGUAGE)
    assert known.pairs == () and len(known.vectors[0]) == 8


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r"e\.npz .*'two-2'.*'one-1'"):
        read_predictions([Predictions(embeddings(tmp_path, model_id='two-2'))], LANGUAGE)
    told = annotations(tmp_path, {'time': 1, 'prompt': 'What?', 'answer': 'a cup'})
    with pytest.raises(InputError, match='prompt'):
        read_predictions(
            [Predictions(embeddings(tmp_path, prompt=''), told, asked=True)], LANGUAGE
        )
    with pytest.raises(InputError, match=r"a\.jsonl: .*'What is it\?'.*e\.npz"):
        read_predictions([Predictions(embeddings(tmp_path), told, asked=True)], LANGUAGE)
    with pytest.raises(InputError, match=r'a\.jsonl.*e\.npz'):
        read_predictions([Predictions(embeddings(tmp_path), told)], LANGUAGE)
    annotations(
        tmp_path, {'start': 0, 'end': 1, 'text': 'x'}, {'start': 1, 'end': 2, 'text': 'x' * 30}
    )
    with pytest.raises(InputError, match=r'a\.jsonl:2: .*30 tokens'):
        read_predictions([Predictions(embeddings(tmp_path), told)], LANGUAGE)
    (tmp_path / 'a.jsonl').write_text('{"start": 2, "end": 1, "text": "x"}')
    with pytest.raises(InputError, match=r'a\.jsonl:1: end'):
        read_predictions([Predictions(embeddings(tmp_path), told)], LANGUAGE)


def test_only_lines_of_the_one_camera_count(tmp_path: Path) -> None:
    told = annotations(
        tmp_path,
        {'start': 0, 'end': 2, 'text': 'left', 'source': 'left'},
        {'start': 0, 'end': 2, 'text': 'right', 'source': 'right'},
        {'start': 2, 'end': 4, 'text': 'both'},
    )
    of = Predictions(embeddings(tmp_path), told, camera='right')
    assert [p.text for p in read_predictions([of], LANGUAGE).pairs] == ['right', 'both']
    with pytest.raises(InputError, match=r'a\.jsonl .*left, right.*camera'):
        read_predictions([Predictions(embeddings(tmp_path), told)], LANGUAGE)
