# SPDX-License-Identifier: Apache-2.0
"""What the generator makes, keeps and refuses; a fake stands in for the simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vljepa_ros.data import generate
from vljepa_ros.data.format import Annotation, StreamData, read_stream, write_stream
from vljepa_ros.data.generate import main, seed_range
from vljepa_ros.errors import InputError


def film(split: str, seed: int, seconds: float) -> StreamData:
    """A stream of blank pictures, as the director would name it."""
    count = round(seconds * 10)
    said = (Annotation(0.0, count / 10, 'rest', 'rest', 'push', 'puck', 'red'),)
    return StreamData(
        f'{split}-{seed:05d}',
        np.zeros((count, 4, 4, 3), np.uint8),
        np.arange(count) * 100_000_000,
        said if count else (),
        {'seed': seed, 'rate_hz': 10},
    )


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """No simulator is needed, and pictures are blank."""

    def make(work: tuple[str, int, float, str]) -> str:
        split, seed, seconds, folder = work
        return write_stream(Path(folder), film(split, seed, seconds)).name

    monkeypatch.setattr(generate, 'require_simulator', lambda: None)
    monkeypatch.setattr(generate, '_make', make)


def command(out: Path, *more: str) -> int:
    return main(['mwstream', '--split', 'train', '--out', str(out), '--streams', '2', *more])


def test_seeds_stay_in_their_split() -> None:
    assert seed_range('validation', 3) == range(10_000, 10_003)
    for split, streams, first in (('nothing', 1, None), ('train', 10_001, None), ('test', 5, 0)):
        with pytest.raises(InputError):
            seed_range(split, streams, first)


def test_the_generator_says_how_to_get_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert main(['mwstream', '--split', 'train', '--out', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and 'metaworld' in error and error.count('\n') == 1
    assert 'requirements/data.txt' in error


@pytest.mark.parametrize('seconds', ['0', '-5', 'nan', 'inf', '0.5', '1e9'])
def test_a_length_that_makes_no_stream_is_one_line(
    blank: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    assert command(tmp_path / 'data', f'--seconds={seconds}') == 2
    error = capsys.readouterr().err
    assert '--seconds' in error and error.count('\n') == 1
    assert not (tmp_path / 'data').exists()


def test_what_is_there_is_kept_and_counted(
    blank: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_stream(tmp_path / 'train', film('train', 1, 2.0))
    assert command(tmp_path, '--seconds', '2') == 0
    out = capsys.readouterr().out
    assert '1 streams made' in out and '1 were there already' in out


def test_a_stream_of_another_length_is_made_again(blank: None, tmp_path: Path) -> None:
    write_stream(tmp_path / 'train', film('train', 0, 0.0))
    write_stream(tmp_path / 'train', film('train', 1, 1.0))
    assert command(tmp_path, '--seconds', '2') == 0
    assert [read_stream(p).frame_count for p in sorted((tmp_path / 'train').iterdir())] == [20, 20]


def test_a_place_that_is_a_file_is_one_line(
    blank: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'file').write_text('')
    assert command(tmp_path / 'file') == 2
    error = capsys.readouterr().err
    assert str(tmp_path / 'file') in error and error.count('\n') == 1
