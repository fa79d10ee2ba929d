# SPDX-License-Identifier: Apache-2.0
"""`vljepa data`: summaries, exit statuses, skipped recordings, and resuming after a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import bags, fake_simulator
from helpers.numbered_recordings import caption_line, question_line, video, write_lines
from helpers.printed import numbers

from vljepa_ros.cli import data as command
from vljepa_ros.data import format as data_format
from vljepa_ros.data import generation
from vljepa_ros.data.format import open_split, read_stream, write_stream
from vljepa_ros.data.simulators.mwstream.meanings import paraphrases

Run = Callable[..., Any]


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the simulator by blank images."""
    monkeypatch.setattr(generation, 'require_simulator', lambda split: None)
    monkeypatch.setattr(generation, '_make', fake_simulator.make)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def assert_rejected(found: Any, *parts: str) -> None:
    """Expect exit status 2, no stdout, and one line on stderr that contains `parts`."""
    assert found.status == 2 and found.out == ''
    assert found.err.count('\n') == 1 and found.err.startswith('vljepa'), found.err
    assert all(part in found.err for part in parts), found.err


@pytest.mark.parametrize('name', ['mwstream', 'kitchen', 'import', 'manifest'])
def test_every_command_has_help(vljepa: Run, name: str) -> None:
    found = vljepa('data', name, '--help')
    assert found.status == 0 and '--json' in found.out and '--out' in found.out
    assert name in vljepa('data', '--help').out


@pytest.mark.parametrize(
    ('arguments', 'parts'),
    [
        ([], ['COMMAND']),
        (['mwstream', '--split', 'train'], ['--out']),
        (['mwstream', '--split', 'sample', '--out', '{out}'], ['--split', 'sample']),
        (['mwstream', '--split', 'train', '--out', '{out}', '--jobs', '0'], ['--jobs (0)']),
        (['mwstream', '--split', 'train', '--out', '{out}', '--streams', '0'], ['seeds']),
        (['mwstream', '--split', 'test', '--out', '{out}', '--first-seed', '7'], ['20000..24999']),
        (['mwstream', '--split', 'train', '--out', '{out}', '--seconds', 'nan'], ['--seconds']),
        (['kitchen', '--out', '{out}', '--jobs', '0'], ['--jobs (0)']),
        (['kitchen', '--out', '{out}', '--first-seed', '7'], ['40000..40999']),
        (['import', '--out', '{out}'], ['SOURCE']),
        (['import', 'x.avi', '--out', '{out}', '--rate', '0'], ['rate (0)']),
        (['import', 'x.avi', '--out', '{out}', '--size', '0'], ['size (0)']),
        (
            ['import', 'x', 'y', '--out', '{out}', '--annotations', 'z'],
            ['--annotations has 1 files', '2 sources'],
        ),
        (['manifest', '/nowhere', '--out', '{out}'], ['no such folder', '/nowhere/train']),
        (['manifest', '/nowhere', '--out', '/gone/x'], ['no such folder: /gone']),
    ],
)
def test_invalid_input_is_reported_in_one_line_and_nothing_is_written(
    blank: None, vljepa: Run, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    out = tmp_path / 'out'
    assert_rejected(vljepa('data', *[a.format(out=out) for a in arguments]), *parts)
    assert not out.exists()


@pytest.mark.parametrize('split', command.SPLITS)
def test_every_split_starts_at_its_own_seed(
    blank: None, vljepa: Run, tmp_path: Path, split: str
) -> None:
    first = {'train': 0, 'validation': 10_000, 'test': 20_000, 'unseen': 25_000}[split]
    given = ('data', 'mwstream', '--split', split, '--out', tmp_path, '--streams', '2')
    found = vljepa(*given, '--seconds', '1', '--jobs', '1', '--json')
    assert found.status == 0 and found.err == ''
    assert found.json == {'folder': str(tmp_path / split), 'made': 2, 'kept': 0}
    assert [s.meta['seed'] for s in open_split(tmp_path / split).streams] == [first, first + 1]


def test_kitchen_streams_are_a_separate_split(blank: None, vljepa: Run, tmp_path: Path) -> None:
    given = ('data', 'kitchen', '--out', tmp_path, '--seconds', '1', '--jobs', '1')
    out = vljepa(*given, '--streams', '2').out
    assert numbers(out, tmp_path) == [2, 0] and f'{tmp_path}/kitchen' in out
    assert [s.meta['seed'] for s in open_split(tmp_path / 'kitchen').streams] == [40_000, 40_001]
    assert vljepa(*given, '--streams', '3', '--json').json['kept'] == 2


def test_existing_streams_are_kept_and_counted(blank: None, vljepa: Run, tmp_path: Path) -> None:
    write_stream(tmp_path / 'train', fake_simulator.film('train', 1, 2.0))
    given = ('data', 'mwstream', '--split', 'train', '--out', tmp_path, '--streams', '3')
    found = vljepa(*given, '--seconds', '2', '--jobs', '1')
    assert numbers(found.out, tmp_path) == [2, 1] and f'{tmp_path}/train' in found.out


def test_one_job_per_cpu_at_most_one_per_stream(
    blank: None, vljepa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []

    def run(work: list[fake_simulator.Work], count: int) -> list[str]:
        jobs.append(count)
        return [fake_simulator.make(item) for item in work]

    monkeypatch.setattr(generation, '_run', run)
    monkeypatch.setattr(generation, 'cores', lambda: 3)
    for streams, more in ((5, ()), (7, ()), (12, ('--jobs', '4'))):
        given = ('data', 'mwstream', '--split', 'train', '--out', tmp_path, '--seconds', '1')
        assert vljepa(*given, '--streams', streams, *more).status == 0
    assert jobs == [3, 2, 4]


def test_a_full_disk_gives_one_line_and_the_same_command_resumes(
    blank: None, vljepa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ('data', 'mwstream', '--split', 'train', '--out', tmp_path, '--streams', '2')
    given += ('--seconds', '1', '--jobs', '1')
    with monkeypatch.context() as full:
        full.setattr(generation, '_make', fake_simulator.make_until_full)
        assert_rejected(
            vljepa(*given), f'{tmp_path}/train', 'No space left', 'run the same command again'
        )
    assert numbers(vljepa(*given).out, tmp_path) == [1, 1]


def test_recordings_are_imported_with_the_annotation_files_next_to_them(
    vljepa: Run, tmp_path: Path
) -> None:
    sources = [video(tmp_path / f'{name}.avi', 50) for name in 'ab']
    for source in sources:
        write_lines(
            source.with_suffix('.jsonl'), caption_line(0, 1, source.stem), question_line(1.5)
        )
    found = vljepa('data', 'import', *sources, '--out', tmp_path / 'train')
    assert (found.status, found.err) == (0, '')
    assert numbers(found.out, tmp_path) == [2, 0] and f'{tmp_path}/train' in found.out
    a, b = open_split(tmp_path / 'train').streams
    assert [(s.name, s.frames().shape, s.meta['rate_hz']) for s in (a, b)] == [
        ('a', (20, 192, 192, 3), 10.0),
        ('b', (20, 192, 192, 3), 10.0),
    ]
    assert [s.annotations[0].text for s in (a, b)] == ['a', 'b']
    assert [len(s.questions()) for s in (a, b)] == [1, 1]


def test_the_output_of_annotate_can_be_edited_and_imported(vljepa: Run, tmp_path: Path) -> None:
    """The front camera records three seconds of red, the rear one blue; each keeps its lines."""
    rows = bags.colors(['red'] * 3, 10, '/front/image_raw/compressed')
    rows += bags.colors(['blue'] * 3, 10, '/rear/image_raw/compressed')
    source = bags.write(tmp_path / 'two', sorted(rows, key=lambda row: row[1]))
    printed = vljepa('annotate', source, '--json').out
    assert '"segment": ' in printed and '"confidence": ' in printed
    file = tmp_path / 'two.jsonl'
    file.write_text(printed.replace('the scene is red', 'It glows.'))
    found = vljepa('data', 'import', source, '--out', tmp_path / 'train', '--json')
    assert (found.status, found.json['made']) == (0, ['two-front', 'two-rear'])
    front, rear = open_split(tmp_path / 'train').streams
    assert {a.text for a in front.annotations if a.phase == 'told'} == {'It glows.'}
    assert {a.text for a in rear.annotations if a.phase == 'told'} == {'the scene is blue'}
    (annotation,) = [a for a in front.annotations if a.phase == 'told']
    assert (annotation.start, annotation.end) == (0.1, 2.9)  # first and last hop: 0.1 s to 2.9 s


def test_size_rate_and_annotations_are_options(vljepa: Run, tmp_path: Path) -> None:
    source = video(tmp_path / 'a.avi', 50)
    files = [write_lines(tmp_path / f'{i}.jsonl', caption_line(0, 1, str(i))) for i in (1, 2)]
    other = video(tmp_path / 'b.avi', 25)
    given = ('--size', '16', '--rate', '5', '--out', tmp_path / 'x', '--json')
    found = vljepa('data', 'import', source, other, '--annotations', *files, *given)
    assert found.json == {'folder': str(tmp_path / 'x'), 'made': ['a', 'b'], 'skipped': []}
    a, b = open_split(tmp_path / 'x').streams
    assert a.frames().shape == (10, 16, 16, 3) and b.frames().shape == (5, 16, 16, 3)
    assert [s.annotations[0].text for s in (a, b)] == ['1', '2']


def test_importing_again_changes_nothing(vljepa: Run, tmp_path: Path) -> None:
    source = video(tmp_path / 'a.avi', 50)
    write_lines(tmp_path / 'a.jsonl', caption_line(0, 1))
    results = []
    for _ in range(2):
        assert vljepa('data', 'import', source, '--out', tmp_path / 'train').status == 0
        results.append(contents(tmp_path / 'train'))
    assert results[0] == results[1] and len(results[0]) == 4


def test_leftovers_of_a_killed_import_are_removed(vljepa: Run, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    (tmp_path / 'train' / f'.a.{ended.pid}').mkdir(parents=True)
    source = video(tmp_path / 'a.avi', 10)
    write_lines(tmp_path / 'a.jsonl', caption_line(0, 0.2))
    assert vljepa('data', 'import', source, '--out', tmp_path / 'train').status == 0
    assert os.listdir(tmp_path / 'train') == ['a']


def test_unreadable_sources_are_skipped_and_counted(vljepa: Run, tmp_path: Path) -> None:
    good, alone = video(tmp_path / 'good.avi', 10), video(tmp_path / 'alone.avi', 10)
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(good.read_bytes()[:300])
    for name in ('good', 'broken', 'gone'):
        write_lines(tmp_path / f'{name}.jsonl', caption_line(0, 0.2))
    sources = (broken, alone, good, tmp_path / 'gone.avi')
    found = vljepa('data', 'import', *sources, '--out', tmp_path / 'train')
    assert found.status == 0
    assert numbers(found.out, tmp_path) == [1, 3] and f'{tmp_path}/train' in found.out
    err = found.err.splitlines()
    assert [line.split(': ')[1] for line in err] == [
        f'skipped {path}' for path in (broken, alone, tmp_path / 'gone.avi')
    ]
    assert 'alone.jsonl' in err[1] and 'gone.avi' in err[2]
    assert os.listdir(tmp_path / 'train') == ['good']


def test_nothing_imported_is_status_2(vljepa: Run, tmp_path: Path) -> None:
    found = vljepa('data', 'import', tmp_path / 'gone.avi', '--out', tmp_path / 'x', '--json')
    assert found.status == 2 and found.json['made'] == []
    (skipped,) = found.json['skipped']
    assert skipped['source'] == str(tmp_path / 'gone.avi') and 'file' in skipped['reason']


@pytest.mark.parametrize(
    ('line', 'part'),
    [
        (caption_line(1, 99), '99 s is after the end'),
        (caption_line(1, 0), 'end (0) is not after start (1)'),
    ],
)
def test_an_invalid_annotation_is_reported_and_other_recordings_are_imported(
    vljepa: Run, tmp_path: Path, line: dict[str, Any], part: str
) -> None:
    wrong, good = video(tmp_path / 'a.avi', 50), video(tmp_path / 'b.avi', 50)
    write_lines(tmp_path / 'a.jsonl', caption_line(0, 1), line)
    write_lines(tmp_path / 'b.jsonl', caption_line(0, 1))
    found = vljepa('data', 'import', wrong, good, '--out', tmp_path / 'train')
    assert found.status == 2 and numbers(found.out, tmp_path) == [1, 1]
    assert found.err.count('\n') == 1
    assert f'{tmp_path}/a.jsonl:2: ' in found.err and part in found.err
    assert os.listdir(tmp_path / 'train') == ['b']


def test_a_missing_annotation_file_is_reported(vljepa: Run, tmp_path: Path) -> None:
    a, b = video(tmp_path / 'a.avi', 10), video(tmp_path / 'b.avi', 10)
    file = write_lines(tmp_path / 'b_captions.jsonl', caption_line(0, 0.2))
    given = ('--annotations', tmp_path / 'gone.jsonl', file, '--out', tmp_path / 'train')
    found = vljepa('data', 'import', a, b, *given)
    assert found.status == 2 and 'gone.jsonl' in found.err
    assert os.listdir(tmp_path / 'train') == ['b']


def test_damage_within_a_video_is_reported(vljepa: Run, tmp_path: Path) -> None:
    source = video(tmp_path / 'a.avi', 50)
    source.write_bytes(source.read_bytes()[: -source.stat().st_size // 3])
    write_lines(tmp_path / 'a.jsonl', caption_line(0, 0.5))
    found = vljepa('data', 'import', source, '--out', tmp_path / 'train')
    assert found.status == 0 and 'the video ends after' in found.err
    assert 5 <= open_split(tmp_path / 'train').streams[0].frame_count < 20


def test_a_full_disk_ends_an_import_with_one_line(
    vljepa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [video(tmp_path / f'{name}.avi', 10) for name in 'abc']
    for source in sources:
        write_lines(source.with_suffix('.jsonl'), caption_line(0, 0.2))
    write, tried = data_format._write_lines, []

    def fail(path: Path, rows: Any) -> None:
        tried.append(path)
        if len(tried) == 2:
            raise fake_simulator.FULL
        write(path, rows)

    given = ('data', 'import', *sources, '--out', tmp_path / 'train')
    with monkeypatch.context() as full:
        full.setattr(data_format, '_write_lines', fail)
        assert_rejected(
            vljepa(*given), f'{tmp_path}/train', 'No space left', 'the same command again'
        )
    assert len(tried) == 2 and os.listdir(tmp_path / 'train') == ['a']
    assert vljepa(*given).status == 0
    assert sorted(os.listdir(tmp_path / 'train')) == ['a', 'b', 'c']


def test_the_manifest_lists_seeds_and_recordings(blank: None, vljepa: Run, tmp_path: Path) -> None:
    for split in ('train', 'validation'):
        vljepa('data', 'mwstream', '--split', split, '--out', tmp_path, '--streams', '2')
    source = video(tmp_path / 'a.avi', 50)
    write_lines(tmp_path / 'a.jsonl', caption_line(0.5, 1))
    vljepa('data', 'import', source, '--out', tmp_path / 'train')
    out = tmp_path / 'manifest.json'
    found = vljepa('data', 'manifest', tmp_path, '--out', out)
    assert numbers(found.out, out) == [3, 2] and found.out.count('\n') == 1
    manifest = json.loads(out.read_text())
    assert manifest['train']['streams'] == [
        {'source': 'a.avi', 'camera': 'camera'},
        {'seed': 0},
        {'seed': 1},
    ]
    assert manifest['train']['annotations'] == 3 and manifest['train']['seconds'] == 122.0
    assert manifest['train']['most_frequent_meaning'] == 'rest'
    assert manifest['validation']['streams'] == [{'seed': 10_000}, {'seed': 10_001}]
    assert 'Is the light on?' in manifest['prompts'] and 'it is dark' in manifest['sentences']
    assert 'Is the lamp lit?' not in manifest['prompts']  # held out
    drawer = paraphrases()['tasks']['drawer-open']
    assert set(drawer['read']) < set(manifest['sentences'])
    assert not set(drawer['heldout']) & set(manifest['sentences'])
    assert read_stream(tmp_path / 'train' / 'a').name == 'a'
