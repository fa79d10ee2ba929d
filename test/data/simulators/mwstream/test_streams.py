# SPDX-License-Identifier: Apache-2.0
"""Streams from the simulator: labels match images in every kind of view."""

from __future__ import annotations

import importlib.util
from ctypes.util import find_library

import numpy as np
import pytest

from vljepa_ros.data.format import StreamData
from vljepa_ros.data.splits import CUTS, FIXED, HOME, WIDE
from vljepa_ros.data.workspace import WORKSPACE

if importlib.util.find_spec('metaworld') is None or find_library('OSMesa') is None:
    pytest.skip('needs metaworld and OSMesa', allow_module_level=True)

SIZE, SECONDS = 64, 24.0


@pytest.fixture(scope='module')
def filmed() -> dict[str, StreamData]:
    """Render one seed of the test split in all views."""
    from vljepa_ros.data.simulators.mwstream.streams import Director

    director = Director(SIZE, depth=True)
    return {views: director.film('test', 20_003, SECONDS, views) for views in (HOME, WIDE, FIXED)}


def test_all_views_show_the_same_acts(filmed: dict[str, StreamData]) -> None:
    spans = {
        views: [(a.start, a.end, a.meaning, a.episode) for a in data.annotations]
        for views, data in filmed.items()
    }
    assert spans[HOME] == spans[WIDE] == spans[FIXED] and len(spans[HOME]) > 4
    assert [data.name for data in filmed.values()] == [
        'test-20003', 'test-wide-20003', 'test-wide-fixed-20003',
    ]  # fmt: skip
    home, wide = filmed[HOME].frames, filmed[WIDE].frames
    assert home.shape == wide.shape == (240, SIZE, SIZE, 3)
    assert np.abs(home.astype(int) - wide).mean() > 10


def test_wide_views_have_a_camera_per_episode_and_fixed_views_have_one(
    filmed: dict[str, StreamData],
) -> None:
    cameras = {views: data.meta['cameras'] for views, data in filmed.items()}
    count = len(filmed[HOME].meta['episodes'])
    assert count > 1 and {len(found) for found in cameras.values()} == {count}
    poses = {v: {tuple(c['position_m']) for c in found} for v, found in cameras.items()}
    assert len(poses[HOME]) == len(poses[FIXED]) == 1 and len(poses[WIDE]) == count
    assert all(c['view'].startswith('home:') for c in cameras[HOME])
    assert all(c['view'].split(':')[0] in ('wide', 'stock') for c in cameras[WIDE])


def test_an_object_is_at_its_labeled_position(filmed: dict[str, StreamData]) -> None:
    """The depth at its pixel matches the camera's pose, unless the object is hidden."""
    data = filmed[WIDE]
    shown = [max(visible.values(), default=0.0) for visible in data.meta['visible']]
    best = int(np.argmax(shown))
    at = sum(episode['frames'] for episode in data.meta['episodes'][:best])  # the arm rests
    camera = data.meta['cameras'][best]
    x, y = float(data.state['object_x'][at]), float(data.state['object_y'][at])
    assert 0.0 < x < 1.0 and 0.0 < y < 1.0
    width_m = 96 * 0.05 / float(data.state['object_size'][at])
    expected_m = width_m / 2 / np.tan(np.radians(camera['fov_deg']) / 2)
    if camera['fit'] == 'resize':
        y = 0.5 + (y - 0.5) * {'4:3': 3 / 4, '16:9': 9 / 16}[camera['aspect']]
    depth_m = data.state['depth'][at]
    side = len(depth_m)
    row, column = int(y * side), int(x * side)
    around = depth_m[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert np.abs(around.astype(float) - expected_m).min() < 0.15


def test_progress_rises_through_an_attempt_and_is_unknown_at_rest(
    filmed: dict[str, StreamData],
) -> None:
    data = filmed[HOME]
    progress = data.state['progress'].astype(float)
    times = np.arange(len(progress)) / 10.0
    for item in data.annotations:
        own = progress[(times >= item.start) & (times < item.end)]
        if item.phase == 'rest':
            assert np.isnan(own).all()
        elif item.phase in ('reach', 'act') and not np.isnan(own).any():
            assert (np.diff(own) >= 0).all() and own.min() >= 0.0 and own.max() <= 1.0
        elif item.phase == 'done':
            assert (own == 1.0).all()


def test_acts_with_an_object_out_of_view_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from vljepa_ros.data.simulators.mwstream import streams
    from vljepa_ros.data.simulators.mwstream.cameras import PinholeCamera

    # The camera faces away.
    away = PinholeCamera('wide', (0.0, -1.5, 1.0), (0.0, -3.0, 0.5), 0.0, 40.0)
    monkeypatch.setattr(streams, 'draw_wide', lambda *_: away)
    data = streams.Director(32).film('test', 20_003, SECONDS, FIXED)
    acts = [item for item in data.annotations if item.phase == 'act']
    assert acts and all(item.hidden for item in acts)
    assert not any(item.hidden for item in data.annotations if item.phase != 'act')


def test_cuts_change_the_camera_within_an_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first camera of every other shot faces away: acts are split and hidden there."""
    from vljepa_ros.data.simulators.mwstream import streams
    from vljepa_ros.data.simulators.mwstream.cameras import PinholeCamera

    away = PinholeCamera('wide', (0.0, -1.5, 1.0), (0.0, -3.0, 0.5), 0.0, 40.0)
    toward = PinholeCamera('wide', (0.9, 0.0, 1.5), (0.0, 0.66, 0.07), 0.0, 27.0)
    drawn = iter([away, toward] * 100)
    monkeypatch.setattr(streams, 'draw_wide', lambda *_: next(drawn))
    monkeypatch.setattr(streams, 'MOVING_CAMERAS', 0.0)
    data = streams.Director(32).film('test', 20_003, SECONDS, CUTS)
    shots, cameras = data.meta['shots'], data.meta['cameras']
    lengths = np.diff([*shots, len(data.frames)])
    assert shots[0] == 0 and len(shots) <= len(cameras)
    assert lengths.min() > 0 and lengths.max() == 16
    assert len(shots) > 2 * len(data.meta['episodes'])
    acts = [item for item in data.annotations if item.phase == 'act']
    assert {item.hidden for item in acts} == {False, True}
    for item in acts:
        middle = round(5 * (item.start + item.end))  # frame
        shot = int(np.searchsorted(shots, middle, side='right')) - 1
        faces_away = tuple(cameras[shot]['position_m']) == away.position_m
        assert item.hidden or not faces_away
    assert all(a.end == b.start for a, b in zip(data.annotations, data.annotations[1:]))


def test_visible_acts_are_not_hidden(filmed: dict[str, StreamData]) -> None:
    acts = [item for item in filmed[HOME].annotations if item.phase == 'act']
    assert acts and sum(item.hidden for item in acts) <= len(acts) / 2


def test_workspaces_follow_from_the_cameras(filmed: dict[str, StreamData]) -> None:
    """Compare with trigonometry for cameras that neither pan nor shake."""
    from vljepa_ros.data.simulators.mwstream.cameras import WORKSPACE_M

    data, first, checked = filmed[WIDE], 0, 0
    lengths = [episode['frames'] for episode in data.meta['episodes']]
    for camera, length in zip(data.meta['cameras'], lengths, strict=True):
        at, first = first, first + length
        if camera['pan_deg'] or camera['shake_deg'] or at >= len(data.frames):
            continue
        right, up, back = (np.array(WORKSPACE_M) - camera['position_m']) @ camera['axes']
        width_m = 2 * -back * np.tan(np.radians(camera['fov_deg']) / 2)
        squeeze = {'1:1': 1, '4:3': 4 / 3, '16:9': 16 / 9}[camera['aspect']]
        squeeze = squeeze if camera['fit'] == 'resize' else 1
        width = 96 * 0.05 / width_m / 5.2  # 5 cm cover 5.2 of 96 pixels
        expected = (0.5 + right / width_m, 0.5 - up / width_m * squeeze, width, width * squeeze)
        found = [float(data.state[name][at]) for name in WORKSPACE]
        np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.005)
        checked += 1
    assert checked


def test_home_views_are_not_cropped(filmed: dict[str, StreamData]) -> None:
    state = filmed[HOME].state
    assert state['workspace_width'].min() >= 1.0 and state['workspace_height'].min() >= 1.0
