# SPDX-License-Identifier: Apache-2.0
"""Clips of a user's recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.numbered_recordings import bag, image_folder, numbers, rows, video

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.unfamiliar.recorded_clips import clips_of

FRONT, REAR = '/front/image_raw/compressed', '/rear/image_raw/compressed'


def test_each_camera_of_a_short_recording_gives_a_clip(tmp_path: Path) -> None:
    front, rear = rows(np.arange(3) / 10, FRONT), rows(np.arange(2) / 10, REAR)
    clips = list(clips_of(str(bag(tmp_path / 'run', front, rear)), 4, 8))
    assert sorted(numbers(clip) for clip in clips) == [[0, 1, 0, 1], [0, 1, 2, 0]]


def test_frames_are_not_repeated_if_a_camera_has_enough(tmp_path: Path) -> None:
    front, rear = rows(np.arange(9) / 10, FRONT), rows(np.arange(2) / 10, REAR)
    clips = list(clips_of(str(bag(tmp_path / 'run', front, rear)), 4, 8))
    assert [numbers(clip) for clip in clips] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_film_is_sampled_at_ten_frames_per_second(tmp_path: Path) -> None:
    clips = list(clips_of(str(video(tmp_path / 'run.avi', 20, 20.0)), 5, 8))
    assert [numbers(clip) for clip in clips] == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]


def test_each_image_of_a_folder_gives_a_clip(tmp_path: Path) -> None:
    clips = list(clips_of(str(image_folder(tmp_path / 'shots', 3)), 4, 8))
    assert [clip.shape for clip in clips] == [(4, 8, 8, 3)] * 3


def test_a_single_image_per_camera_is_too_little(tmp_path: Path) -> None:
    path = bag(tmp_path / 'run', rows([0.0], FRONT), rows([0.0], REAR))
    with pytest.raises(InputError, match='readable images'):
        list(clips_of(str(path), 4, 8))
