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


class LimitedLanguage(fake_models.FakeLanguage):
    """Text side with a limit of twenty letters."""

    def check(self, text: str) -> None:
        if len(text) > 20:
            raise InputError(f'text of {len(text)} tokens is too long (at most 20)')


LANGUAGE: Any = LimitedLanguage(FACTS)
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


def test_an_annotation_is_paired_with_its_mean_prediction(tmp_path: Path) -> None:
    annotation_file = annotations(
        tmp_path,
        {'start': 0, 'end': 2, 'text': 'one'},
        {'start': 2, 'end': 3.5, 'text': 'two'},
        {'start': 10, 'end': 12, 'text': 'after the end'},
    )
    predictions = read_predictions([Predictions(embeddings(tmp_path), annotation_file)], LANGUAGE)
    first, second = predictions.pairs  # the third has no predictions
    assert (first.text, second.text, first.asked) == ('one', 'two', False)
    np.testing.assert_allclose(first.vector, VECTORS[0])
    expected = np.array([0, 2, 1, 0]) / np.sqrt(5)
    np.testing.assert_allclose(second.vector, expected, atol=1e-6)
    assert predictions.vectors[0].shape == (8, 4) and predictions.vectors[1].shape == (0, 4)


def test_a_question_is_paired_with_the_nearest_prediction_of_its_prompt(tmp_path: Path) -> None:
    annotation_file = annotations(
        tmp_path,
        {'time': 3.4, 'prompt': 'what is it?', 'answer': 'a cup'},
        {'time': 3.4, 'prompt': 'Is it red?', 'answer': 'no'},
        {'time': 9.0, 'prompt': 'What is it?', 'answer': 'long gone'},
    )
    predictions = read_predictions(
        [Predictions(embeddings(tmp_path), annotation_file, asked=True)], LANGUAGE
    )
    (pair,) = predictions.pairs
    assert (pair.text, pair.asked) == ('a cup', True)
    np.testing.assert_allclose(pair.vector, VECTORS[6])  # at 3.5 s
    assert len(predictions.vectors[0]) == 0 and len(predictions.vectors[1]) == 8


def test_without_annotations_there_are_no_pairs(tmp_path: Path) -> None:
    predictions = read_predictions([Predictions(embeddings(tmp_path))], LANGUAGE)
    assert predictions.pairs == () and len(predictions.vectors[0]) == 8


def test_unusable_files_and_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r"e\.npz .*'two-2'.*'one-1'"):
        read_predictions([Predictions(embeddings(tmp_path, model_id='two-2'))], LANGUAGE)
    annotation_file = annotations(tmp_path, {'time': 1, 'prompt': 'What?', 'answer': 'a cup'})
    with pytest.raises(InputError, match='prompt'):
        read_predictions(
            [Predictions(embeddings(tmp_path, prompt=''), annotation_file, asked=True)], LANGUAGE
        )
    with pytest.raises(InputError, match=r"a\.jsonl: .*'What is it\?'.*e\.npz"):
        read_predictions(
            [Predictions(embeddings(tmp_path), annotation_file, asked=True)], LANGUAGE
        )
    with pytest.raises(InputError, match=r'a\.jsonl.*e\.npz'):
        read_predictions([Predictions(embeddings(tmp_path), annotation_file)], LANGUAGE)
    annotations(
        tmp_path, {'start': 0, 'end': 1, 'text': 'x'}, {'start': 1, 'end': 2, 'text': 'x' * 30}
    )
    with pytest.raises(InputError, match=r'a\.jsonl:2: .*30 tokens'):
        read_predictions([Predictions(embeddings(tmp_path), annotation_file)], LANGUAGE)
    (tmp_path / 'a.jsonl').write_text('{"start": 2, "end": 1, "text": "x"}')
    with pytest.raises(InputError, match=r'a\.jsonl:1: end'):
        read_predictions([Predictions(embeddings(tmp_path), annotation_file)], LANGUAGE)


def test_only_lines_of_the_selected_camera_are_used(tmp_path: Path) -> None:
    annotation_file = annotations(
        tmp_path,
        {'start': 0, 'end': 2, 'text': 'left', 'source': 'left'},
        {'start': 0, 'end': 2, 'text': 'right', 'source': 'right'},
        {'start': 2, 'end': 4, 'text': 'both'},
    )
    selected = Predictions(embeddings(tmp_path), annotation_file, camera='right')
    assert [p.text for p in read_predictions([selected], LANGUAGE).pairs] == ['right', 'both']
    with pytest.raises(InputError, match=r'a\.jsonl .*left, right.*camera'):
        read_predictions([Predictions(embeddings(tmp_path), annotation_file)], LANGUAGE)
