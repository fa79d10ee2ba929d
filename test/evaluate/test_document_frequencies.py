# SPDX-License-Identifier: Apache-2.0
"""The corpus of CIDEr-D: counted from a split, stored in a file, and read from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.printed import numbers
from helpers.toy_suites import annotation, film

from vljepa_ros.core.errors import InputError, OutputError
from vljepa_ros.data.format import Stream
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.document_frequencies import count, load, main, references, save, scorer


@pytest.fixture
def streams(tmp_path: Path) -> list[Stream]:
    """Return streams that begin with a rest."""
    return [
        film(tmp_path / 'test', 'a', [annotation('act'), annotation('dark')]),
        film(tmp_path / 'test', 'b', [annotation('act')]),
    ]


def test_references_are_five_training_paraphrases() -> None:
    assert len(references(CONCEPTS, 'act:push:red')) == 5
    assert set(references(CONCEPTS, 'act:push:red')) < set(sentences('act:push:red', 'train'))


def test_annotations_are_counted_by_concept(streams: list[Stream]) -> None:
    assert count(streams) == {'act:push:red': 2, 'dark': 1, 'rest': 2}


def test_saved_counts_are_loaded(tmp_path: Path, streams: list[Stream]) -> None:
    path = tmp_path / 'counts.json'
    assert load(path) is None
    save(count(streams), path)
    assert load(path) == count(streams)
    assert json.loads(path.read_text())['documents'] == 5


@pytest.mark.parametrize(
    'text', ['{', '[]', '{}', '{"documents": 2, "annotations": {"rest": 1}}', '{"annotations": 1}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'counts.json'
    path.write_text(text)
    with pytest.raises(InputError, match=r'counts\.json'):
        load(path)


def test_counts_of_the_file_take_precedence_over_the_streams(
    tmp_path: Path, streams: list[Stream]
) -> None:
    path = tmp_path / 'counts.json'
    save({'rest': 3, 'dark': 1}, path)
    cider, corpus = scorer(streams, path)
    assert numbers(corpus) == [4] and 'test split' in corpus
    expected_cider = Cider([references(CONCEPTS, 'rest')] * 3 + [references(CONCEPTS, 'dark')])
    for hypothesis in ('the arm is at rest', 'the light is off', 'it is the robot'):
        expected = expected_cider.score(hypothesis, references(CONCEPTS, 'rest'))
        assert cider.score(hypothesis, references(CONCEPTS, 'rest')) == pytest.approx(expected)
    assert cider.score('the arm is at rest', references(CONCEPTS, 'rest')) > 0


def test_without_a_file_the_given_streams_are_counted(
    tmp_path: Path, streams: list[Stream]
) -> None:
    cider, corpus = scorer(streams, tmp_path / 'none.json')
    assert numbers(corpus) == [5] and 'given streams' in corpus
    corpus_references = [
        references(CONCEPTS, a.meaning) for stream in streams for a in stream.annotations
    ]
    hypothesis = 'the robot pushes the red puck forward'
    expected = Cider(corpus_references).score(hypothesis, references(CONCEPTS, 'act:push:red'))
    assert cider.score(hypothesis, references(CONCEPTS, 'act:push:red')) == pytest.approx(expected)


def test_the_command_writes_the_file(
    tmp_path: Path, streams: list[Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'counts.json'
    assert main([str(streams[0].folder.parent), '--out', str(path)]) == 0
    assert load(path) == count(streams)
    assert numbers(capsys.readouterr().out, path)[:2] == [5, 3]  # annotations, concepts


def test_the_command_rejects_an_incomplete_split(
    tmp_path: Path, streams: list[Stream], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'counts.json'
    split = streams[0].folder.parent
    (split / 'b' / 'meta.json').write_text('{}')
    assert main([str(split), '--out', str(path)]) == 2
    assert main([str(tmp_path / 'nowhere'), '--out', str(path)]) == 2
    assert not path.exists() and capsys.readouterr().err.count('\n') == 2


def test_an_unwritable_path_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match='write'):
        save({'rest': 1}, tmp_path / 'no' / 'folder.json')
