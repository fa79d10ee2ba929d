# SPDX-License-Identifier: Apache-2.0
"""Streams that the generator creates, keeps and refuses, with a fake simulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import fake_simulator
from helpers.fake_simulator import film
from helpers.waiting import eventually

from vljepa_ros.core.errors import InputError, OutputError, VljepaError
from vljepa_ros.data import generation as module
from vljepa_ros.data.format import read_stream, write_stream
from vljepa_ros.data.generation import generate
from vljepa_ros.data.splits import SEEDS, seed_range


@pytest.fixture
def use_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[fake_simulator.Work], str]], None]:
    """Set the function that generates a stream, without a simulator."""
    monkeypatch.setattr(module, 'require_simulator', lambda split: None)
    return lambda make: monkeypatch.setattr(module, '_make', make)


@pytest.fixture
def blank_streams(use_generator: Callable[..., None]) -> None:
    """Generate blank streams."""
    use_generator(fake_simulator.make)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_seeds_stay_in_their_split() -> None:
    assert seed_range('validation', 3) == range(10_000, 10_003)
    assert seed_range('test', 5_000) == range(20_000, 25_000)
    assert seed_range('unseen', 2) == range(25_000, 25_002)
    assert seed_range('train', 2, 7) == range(7, 9)
    assert seed_range('kitchen', 2) == range(40_000, 40_002)
    for split, streams, first in (
        ('nothing', 1, None),
        ('train', 10_001, None),
        ('test', 5_001, None),
        ('test', 5, 0),
        ('train', 0, None),
    ):
        with pytest.raises(InputError):
            seed_range(split, streams, first)


def test_no_seed_belongs_to_two_splits() -> None:
    seeds = [s for split in SEEDS for s in seed_range(split, 1_000)]
    assert len(seeds) == len(set(seeds)) == 6_000


def test_the_generator_reports_how_to_install_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r'metaworld.*requirements/data.txt'):
        generate('train', tmp_path / 'data', 1)
    with pytest.raises(InputError, match=r'gymnasium_robotics.*requirements/data.txt'):
        generate('kitchen', tmp_path / 'data', 1)
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize('seconds', [0, -5, float('nan'), float('inf'), 0.5, 1e9])
def test_a_length_that_is_too_short_for_a_stream_is_rejected(
    blank_streams: None, tmp_path: Path, seconds: float
) -> None:
    with pytest.raises(InputError, match='--seconds'):
        generate('train', tmp_path / 'data', 2, seconds, 1)
    assert not (tmp_path / 'data').exists()


def test_existing_streams_are_kept(blank_streams: None, tmp_path: Path) -> None:
    kept = write_stream(tmp_path / 'train', film('train', 1, 2.0))
    before = (kept / 'frames.npy').stat()
    assert generate('train', tmp_path, 3, 2.0, 1) == 2
    assert (kept / 'frames.npy').stat() == before
    assert names(tmp_path / 'train') == ['train-00000', 'train-00001', 'train-00002']
    assert generate('train', tmp_path, 3, 2.0, 1) == 0


def test_a_stream_of_another_length_is_generated_again(
    blank_streams: None, tmp_path: Path
) -> None:
    write_stream(tmp_path / 'train', film('train', 0, 0.0))
    write_stream(tmp_path / 'train', film('train', 1, 1.0))
    write_stream(tmp_path / 'train', film('train', 2, 3.0))
    assert generate('train', tmp_path, 3, 2.0, 1) == 3
    assert {read_stream(p).frame_count for p in (tmp_path / 'train').iterdir()} == {20}


@pytest.mark.parametrize('name', ['frames.npy', 'stamps.npy', 'annotations.jsonl', 'meta.json'])
def test_a_corrupt_stream_is_generated_again(
    blank_streams: None, tmp_path: Path, name: str
) -> None:
    for seed in (0, 1):
        folder = write_stream(tmp_path / 'train', film('train', seed, 2.0))
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    assert generate('train', tmp_path, 2, 2.0, 1) == 1
    assert (folder / name).read_bytes() == whole


def test_an_output_path_that_is_a_file_is_named(blank_streams: None, tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match=str(tmp_path / 'file')):
        generate('train', tmp_path / 'file', 1, 2.0, 1)


def test_streams_are_generated_by_at_most_as_many_processes_as_jobs(
    use_generator: Callable[..., None], tmp_path: Path
) -> None:
    use_generator(fake_simulator.make_in_a_child)
    assert generate('train', tmp_path, 3, 2.0, 2) == 3
    workers = {int(p.suffix[1:]) for p in tmp_path.glob('train-*')}
    assert len(list(tmp_path.glob('train-*'))) == 3
    assert 1 <= len(workers) <= 2 and os.getpid() not in workers


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_full_disk_is_reported_and_the_next_run_resumes(
    use_generator: Callable[..., None], tmp_path: Path, jobs: int
) -> None:
    use_generator(fake_simulator.make_until_full)
    with pytest.raises(OutputError) as caught:
        generate('train', tmp_path, 2, 2.0, jobs)
    message = str(caught.value)
    assert f'{tmp_path}/train' in message and 'No space left on device' in message
    assert '\n' not in message
    assert set(names(tmp_path / 'train')) <= {'train-00000'}
    use_generator(fake_simulator.make)
    generate('train', tmp_path, 2, 2.0, 1)
    assert names(tmp_path / 'train') == ['train-00000', 'train-00001']


def test_no_stream_is_started_after_a_failure(
    use_generator: Callable[..., None], tmp_path: Path
) -> None:
    use_generator(fake_simulator.make_slowly_but_the_first)
    with pytest.raises(OutputError):
        generate('train', tmp_path, 16, 2.0, 2)
    assert len(names(tmp_path / 'train')) <= 6


def test_a_killed_process_is_reported_and_leaves_no_partial_stream(
    use_generator: Callable[..., None], tmp_path: Path
) -> None:
    use_generator(fake_simulator.make_until_killed)
    with pytest.raises(VljepaError, match='--jobs'):
        generate('train', tmp_path, 2, 2.0, 2)
    assert names(tmp_path / 'train') == []


KILLED = """
from pathlib import Path
from helpers import fake_simulator
from vljepa_ros.data import generation as module
if __name__ == '__main__':
    module.require_simulator = lambda split: None
    module._make = fake_simulator.make_forever
    module.generate('train', Path({out!r}), 2, 2.0, 2)
"""


def test_no_process_outlives_a_killed_run(tmp_path: Path) -> None:
    script = tmp_path / 'run.py'
    script.write_text(KILLED.format(out=str(tmp_path)))
    path = os.pathsep.join([str(Path(fake_simulator.__file__).parents[1]), *sys.path])
    run = subprocess.Popen([sys.executable, str(script)], env=os.environ | {'PYTHONPATH': path})

    def workers() -> list[int]:
        return [int(p.suffix[1:]) for p in tmp_path.glob('making.*')]

    def running() -> list[int]:
        """Return the running worker processes; zombies do not count."""
        stats = [Path(f'/proc/{pid}/stat') for pid in workers()]
        return [int(s.parent.name) for s in stats if s.exists() and ') Z' not in s.read_text()]

    try:
        eventually(lambda: len(workers()) == 2, 60.0)
        assert len(running()) == 2
        run.kill()
        run.wait()
        eventually(lambda: not running(), 60.0)
    finally:
        run.kill()
        run.wait()
        for pid in running():
            os.kill(pid, signal.SIGKILL)


def test_an_interrupt_keeps_complete_streams(
    use_generator: Callable[..., None], tmp_path: Path
) -> None:
    def interrupted(work: fake_simulator.Work) -> str:
        if work[1] == 1:
            raise KeyboardInterrupt
        return fake_simulator.make(work)

    use_generator(interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate('train', tmp_path, 3, 2.0, 1)
    assert names(tmp_path / 'train') == ['train-00000']
    use_generator(fake_simulator.make)
    assert generate('train', tmp_path, 3, 2.0, 1) == 2


def test_leftovers_of_killed_runs_are_removed_but_not_active_writes(
    blank_streams: None, tmp_path: Path
) -> None:
    left = tmp_path / 'train' / f'.train-00000.{ended_process()}'
    written = tmp_path / 'train' / f'.train-00009.{os.getppid()}'
    own = tmp_path / 'train' / '.notes.kept'
    for folder in (left, written, own):
        folder.mkdir(parents=True)
        (folder / 'frames.npy').touch()
    generate('train', tmp_path, 1, 2.0, 1)
    assert names(tmp_path / 'train') == sorted([own.name, written.name, 'train-00000'])
