# SPDX-License-Identifier: Apache-2.0
"""Suites on wide camera views: assignment of acts to rows, and excluded acts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy_suites
from helpers.toy_suites import ToyVision, annotation, context, film

from vljepa_ros.cli import evaluate
from vljepa_ros.cli.main import main
from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.act_classification import choose
from vljepa_ros.evaluate.cameras import camera_of, projected_sizes, viewpoint
from vljepa_ros.evaluate.motion import motion_of
from vljepa_ros.evaluate.report import Row
from vljepa_ros.evaluate.stream_embeddings import hops_of
from vljepa_ros.evaluate.suites.classify import classify, classify_unseen
from vljepa_ros.evaluate.suites.robustness import robustness
from vljepa_ros.evaluate.suites.views import views
from vljepa_ros.evaluate.views import answers

HELD_OUT = 'top-1, held-out paraphrases'
Rows = dict[str, Row]


def camera(view: str = 'wide', *held_out: str, **more: Any) -> dict[str, Any]:
    return {
        'view': view,
        'azimuth_deg': 100.0,
        'elevation_deg': 40.0,
        'roll_deg': 0.0,
        'fov_deg': 45.0,
        'distance_m': 1.2,
        'aspect': '1:1',
        'fit': 'crop',
        'resolution': 192,
        'codec': 'jpeg',
        'texture': 'wood1',
        'held_out': list(held_out),
    } | more


def wide_stream(
    folder: Path,
    cameras: Sequence[dict[str, Any]],
    sizes_px: Sequence[float],
    task: str = 'push',
    name: str = 'test-wide-20000',
    **more: Any,
) -> Stream:
    """Return one act per episode, each from its own camera."""
    acts = [annotation('act', task, episode=i) for i in range(len(cameras))]
    return film(folder, name, acts, cameras=cameras, sizes_px=sizes_px, side=16, **more)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Rows]:
    """Return our rows with held-out paraphrases by part ('': nothing held out), and the notes."""

    def measure(
        cameras: Sequence[dict[str, Any]],
        sizes_px: Sequence[float],
        vision: ToyVision | None = None,
    ) -> Rows:
        report = views(context([wide_stream(tmp_path, cameras, sizes_px)], vision))
        found = {
            row.what.removeprefix(HELD_OUT).removeprefix(': '): row
            for row in report.rows
            if row.who == 'ours' and row.what.startswith(HELD_OUT)
        }
        measure.notes = ' '.join(report.notes)  # type: ignore[attr-defined]
        return found

    return measure


def test_acts_count_in_the_rows_of_their_size(run: Callable[..., Rows]) -> None:
    rows = run([camera()] * 8, [1.0, 2.5, 3.9, 4.0, 8.9, 9.0, 13.9, 20.0])
    assert rows[''].mean.count == 6 and rows[''].target == 0.85 and rows[''].reached
    sizes = {what: (row.mean.count, row.target) for what, row in rows.items() if 'size' in what}
    assert sizes == {
        'size below 2.5 px': (1, None),
        'size 2.5-4 px': (2, 0.85),
        'size 4-6 px': (1, 0.85),
        'size 6-9 px': (1, 0.85),
        'size 9-14 px': (2, 0.85),
        'size above 14 px': (1, None),
    }
    assert rows['all cameras, held-out ones included'].mean.count == 6


def test_held_out_cameras_count_in_separate_rows_only(run: Callable[..., Rows]) -> None:
    cameras = [
        camera(),
        camera('wide', 'azimuth'),
        camera('stock:corner', 'camera'),
        camera('wide', 'codec', codec='mp4'),
        camera('wide', 'azimuth', 'texture'),
    ]
    rows = run(cameras, [5.0] * 5)
    held_out = {what: row.mean.count for what, row in rows.items() if 'held-out ' in what}
    assert held_out.pop('all cameras, held-out ones included') == 5
    assert held_out == {
        'held-out azimuth': 2,
        'held-out camera': 1,
        'held-out texture': 1,
        'held-out codec': 1,
    }
    assert {rows[what].target for what in held_out} == {0.75}
    assert rows[''].mean.count == rows['size 4-6 px'].mean.count == 1


def test_stock_cameras_are_reported_at_any_size_and_hand_cameras_without_a_target(
    run: Callable[..., Rows],
) -> None:
    names = ('corner', 'corner2', 'corner3', 'corner4', 'topview')
    cameras = [
        *(camera(f'stock:{name}') for name in names),
        camera('stock:corner4', 'camera'),
        camera('stock:corner4', 'camera', 'codec'),
        camera('stock:gripperPOV'),
    ]
    rows = run(cameras, [5.0, 2.0, 5.0, 5.0, 5.0, 2.0, 5.0, 5.0])
    found = {what: row for what, row in rows.items() if what.startswith('stock')}
    assert {what: row.mean.count for what, row in found.items()} == {
        **{f'stock camera {name}': 1 for name in names},
        'stock camera corner4': 2,
        'stock camera gripperPOV': 1,
    }
    assert found['stock camera corner2'].target == 0.75
    assert found['stock camera gripperPOV'].target is None
    assert rows[''].mean.count == 4  # corner2 is too small, two are held out, one is in the hand
    assert 'stock' not in run.notes  # type: ignore[attr-defined]


def test_elevations_and_formats_have_rows(run: Callable[..., Rows]) -> None:
    cameras = [
        camera(elevation_deg=10.0, aspect='16:9', fit='letterbox', resolution=96),
        camera(elevation_deg=30.0, aspect='16:9', fit='crop', resolution=512),
        camera(elevation_deg=79.0, aspect='4:3', fit='resize', resolution=512),
    ]
    rows = run(cameras, [5.0] * 3)
    counts = {what: row.mean.count for what, row in rows.items()}
    assert counts['elevation 10-30 deg'] == counts['elevation 30-55 deg'] == 1
    assert counts['elevation 55-80 deg'] == counts['aspect 16:9 letterbox'] == 1
    assert counts['aspect 4:3 resize'] == 1 and 'aspect 1:1 crop' not in counts
    assert (counts['resolution 96 px'], counts['resolution 512 px']) == (1, 2)


def test_accuracy_by_camera_with_oracle_and_vision_blind_baseline(tmp_path: Path) -> None:
    cameras = [camera(elevation_deg=20.0), camera(elevation_deg=60.0)]
    streams = [
        wide_stream(tmp_path, cameras, [5.0, 5.0], task, f'test-wide-2000{i}')
        for i, task in enumerate(('push', 'soccer'))
    ]
    vision = ToyVision(lambda m: m.replace('act:soccer:', 'act:push:'))
    rows = {(row.who, row.what): row.mean for row in views(context(streams, vision)).rows}
    for which in ('training', 'held-out'):
        assert rows['ours', f'top-1, {which} paraphrases'].value == 0.5
        assert rows['oracle', f'top-1, {which} paraphrases'].value == 1.0
        assert rows['blind', f'top-1, {which} paraphrases'].value <= 0.5
    part = rows['ours', f'{HELD_OUT}: elevation 10-30 deg']
    assert (part.value, part.count) == (0.5, 2) and part.low <= part.value <= part.high


def test_hidden_acts_are_left_out_and_their_fraction_is_reported(tmp_path: Path) -> None:
    acts = [annotation('act', episode=i, hidden=i == 3) for i in range(4)]
    stream = film(tmp_path, 'a', acts, cameras=[camera()] * 4, sizes_px=[5.0] * 4)
    assert stream.annotations[4].hidden and not stream.annotations[3].hidden
    for suite in (views, classify):
        rows = {(row.who, row.what): row.mean for row in suite(context([stream])).rows}
        share = rows['data', 'acts left out: object not visible']
        assert (share.value, share.count) == (0.25, 4)
        assert rows['ours', HELD_OUT].count == 3


def test_notes_name_the_missing_cameras_and_held_out_properties(
    run: Callable[..., Rows], tmp_path: Path
) -> None:
    run([camera('stock:corner2'), camera()], [5.0, float('nan')])
    notes = run.notes  # type: ignore[attr-defined]
    assert 'stock cameras corner, corner3, corner4, topview.' in notes
    assert 'held-out azimuth, camera, texture, codec.' in notes
    assert re.search(r'\b1 \w+ of unknown size', notes)
    older = film(tmp_path, 'old', [annotation('act')])
    report = views(context([older]))
    assert report.rows == () and 'cameras' in report.notes[0]


def test_choose_without_limit_returns_all_acts(tmp_path: Path) -> None:
    stream = wide_stream(tmp_path, [camera()] * 25, [5.0] * 25)
    assert len(choose([stream], ('push',))) == 20
    assert len(choose([stream], ('push',), limit=None)) == 25


def test_missing_fields_of_a_camera_have_defaults(tmp_path: Path) -> None:
    stream = wide_stream(tmp_path, [{'view': 'home:corner3'}, camera(extra=1)], [3.0, 5.0])
    first, second = camera_of(stream, 0), camera_of(stream, 1)
    assert first is not None and second is not None
    assert np.isnan(first.elevation_deg) and first.held_out == () and first.resolution == 0
    assert (second.elevation_deg, second.resolution, second.codec) == (40.0, 192, 'jpeg')
    assert viewpoint(stream, 0) == 'corner3' and viewpoint(stream, 1) == ''
    older = film(tmp_path, 'old', [annotation('act')], 'topview')
    assert camera_of(older, 0) is None and viewpoint(older, 0) == 'topview'
    assert np.isnan(projected_sizes(older, list(older.annotations))).all()
    items = list(stream.annotations)
    assert projected_sizes(stream, items)[1:] == [3.0, 5.0]


@pytest.mark.parametrize(
    ('cameras', 'message'),
    [
        ({'0': {}}, 'no camera of episode 0'),
        ([], 'no camera of episode 0'),
        (['corner'], 'camera of episode 0'),
        ([{'elevation_deg': 'high'}], 'not a number'),
        ([{'held_out': 'azimuth'}], 'not a list'),
        ([{'fov_deg': float('inf')}], 'not finite'),
    ],
)
def test_an_invalid_camera_description_names_the_stream(
    tmp_path: Path, cameras: Any, message: str
) -> None:
    stream = film(tmp_path, 'a', [annotation('act')])
    wrong = replace(stream, meta=stream.meta | {'cameras': cameras})
    with pytest.raises(InputError, match=f'stream a: .*{message}'):
        camera_of(wrong, 0)


class SlicedFrames:
    """Frames that support slices only and record the longest one."""

    def __init__(self, frames: Any) -> None:
        self._frames, self.shape, self.dtype, self.longest = frames, frames.shape, frames.dtype, 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, part: slice) -> Any:
        assert isinstance(part, slice)
        found = np.array(self._frames[part])
        self.longest = max(self.longest, len(found))
        return found


class FixedSizeVision(ToyVision):
    """Toy vision side that refuses images of another size, as a model does."""

    def step(self, state: list[Any], images: Sequence[Any]) -> None:
        assert {image.shape for image in images} == {(toy_suites.SIZE, toy_suites.SIZE, 3)}
        super().step(state, images)


def test_larger_frames_are_resized_and_decoded_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = wide_stream(tmp_path, [camera()] * 5, [5.0] * 5)
    assert stream.frames().shape[1] == 2 * toy_suites.SIZE
    lazy = SlicedFrames(stream.frames())
    monkeypatch.setattr(Stream, 'frames', lambda self: lazy)
    vision = FixedSizeVision()
    moment = choose([stream], ('push',))[0]
    assert answers(vision, stream, moment.at_s, ['a']).shape == (1, toy_suites.DIM)
    assert len(hops_of(vision, stream).stamps_ns) == 90 and len(motion_of(stream).energy) == 180
    assert lazy.longest <= 64
    rows = robustness(context([stream], vision)).rows
    top1 = {row.who: row.mean.value for row in rows if row.what.startswith('top-1')}
    assert top1['as recorded'] == top1['24x24 pixels'] == 1.0


def test_unseen_tasks_are_evaluated_on_wide_views(tmp_path: Path) -> None:
    main_stream = wide_stream(tmp_path, [camera()] * 2, [5.0] * 2)
    unseen = wide_stream(tmp_path, [camera()] * 2, [5.0] * 2, 'door-lock', 'unseen-wide-25000')
    report = classify_unseen(context([main_stream], FixedSizeVision(), [unseen]))
    assert next(r for r in report.rows if r.what == 'unseen tasks among the 5').mean.value == 1.0


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command use a toy model that reads the ground truth."""
    monkeypatch.setattr(evaluate.common, 'load_model', lambda args: toy_suites.model())


@pytest.mark.usefixtures('toy')
def test_the_command_reads_the_folder_of_the_requested_views(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {'test': 'home', 'test-wide': 'wide', 'test-wide-fixed': 'wide-fixed'}
    for count, folder in enumerate(folders, 1):
        cameras = [camera() for _ in range(count)]
        wide_stream(tmp_path / folder, cameras, [5.0] * count, name=f'{folder}-20000')
    common_arguments = ['--data', str(tmp_path), '--jobs', '1', '--json']

    def acts(*args: str) -> tuple[int, str, str]:
        assert main(['evaluate', *args, *common_arguments]) == 0
        found = json.loads(capsys.readouterr().out)
        rows = {(r['who'], r['what']): r for suite in found['suites'] for r in suite['rows']}
        name = 'F1: labeled' if 'events' in args[0] else HELD_OUT
        return rows['ours', name]['count'], found['views'], found['suites'][0]['notes'][-1]

    assert acts('classify')[:2] == (1, 'home')
    assert acts('classify', '--views', 'wide') == (2, 'wide', 'Views: wide.')
    assert acts('classify', '--views', 'wide-fixed')[0] == 3
    assert acts('views')[:2] == (2, 'wide')
    assert acts('views-events')[:2] == (1, 'wide-fixed')  # three acts of one concept are one event


@pytest.mark.usefixtures('toy')
def test_invalid_views_give_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide_stream(tmp_path / 'test', [camera()], [5.0])
    for args, message in (
        (['views'], '--split test --views wide --out'),
        (['views', '--views', 'home'], 'only wide'),
        (['transfer', '--views', 'wide'], 'only home'),
        (['classify', '--views', 'wide-fixed'], str(tmp_path / 'test-wide-fixed')),
    ):
        assert main(['evaluate', *args, '--data', str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count('\n') == 1
