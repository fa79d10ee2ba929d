# SPDX-License-Identifier: Apache-2.0
"""Bins of view, size and light, from both forms of meta.json."""

from __future__ import annotations

from vljepa_ros.data.format import Annotation
from vljepa_ros.evaluate.bins import HIDDEN, bins_of


def moment(light: bool = True, covered: bool = False, episode: int = 0) -> Annotation:
    return Annotation(
        0.0, 1.0, 'rest', 'rest', '', '', '', light=light, covered=covered, episode=episode
    )


def test_bins_of_a_stream_with_one_camera() -> None:
    meta = {'camera': {'name': 'corner', 'zoom': 1.05}, 'looks': [{'light': 0.8}]}
    assert bins_of(meta, moment()) == ('view: corner', 'zoom: 1.03 or more', 'light: below 0.9')


def test_bins_of_a_stream_with_a_camera_per_episode() -> None:
    cameras = [{'view': 'wide', 'elevation_deg': 20.0}, {'view': 'stock:corner2'}]
    meta = {'cameras': cameras, 'looks': [{'light': 1.0}, {'light': 1.1}]}
    assert bins_of(meta, moment(), 5.0) == (
        'view: wide', 'object_size: 4 to 6.5', 'elevation_deg: below 25', 'light: 0.9 to 1.05',
    )  # fmt: skip
    assert bins_of(meta, moment(episode=1)) == ('view: stock:corner2', 'light: 1.05 or more')


def test_dark_and_covered_moments_share_a_separate_bin() -> None:
    meta = {'camera': {'name': 'corner'}}
    assert bins_of(meta, moment(light=False)) == bins_of(meta, moment(covered=True)) == (HIDDEN,)


def test_user_recordings_have_no_bins() -> None:
    assert bins_of({'camera': 'front', 'rate_hz': 10.0}, moment()) == ()
    assert bins_of({}, None) == ()
