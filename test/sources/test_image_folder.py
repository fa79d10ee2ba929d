# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import pytest
from helpers.fake_models import solid_image

from vljepa_ros.core.errors import InputError
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.sources.natural_order import natural


def folder(path: Path) -> Path:
    path.mkdir()
    for number, colour in ((2, 'green'), (10, 'blue'), (1, 'red')):
        cv2.imwrite(str(path / f'shot{number}.png'), solid_image(colour)[..., ::-1])
    (path / 'notes.txt').write_text('not an image')
    return path


def test_a_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    frames = list(open_source(folder(tmp_path / 'f'), fps=4.0))
    assert [frame.stamp_ns for frame in frames] == [0, 250_000_000, 500_000_000]
    shown = [tuple(frame.image[0, 0]) for frame in frames]
    assert shown == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_damaged_images_of_a_folder_are_skipped(tmp_path: Path) -> None:
    path = folder(tmp_path / 'f')
    (path / 'shot3.jpg').write_bytes(b'\xff\xd8 broken')
    items = list(open_source(path).items())
    assert isinstance(items[2], Damaged) and 'shot3.jpg' in items[2].message
    assert [item.stamp_ns for item in items] == [0, 100_000_000, 200_000_000, 300_000_000]


def assert_input_error(path: Path, *parts: str, **options: object) -> None:
    with pytest.raises(InputError) as caught:
        open_source(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert '\n' not in text


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    assert_input_error(tmp_path / 'gone', 'no such file', 'gone')


def test_an_empty_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / 'x').mkdir()
    assert_input_error(tmp_path / 'x', 'empty')


def test_a_path_without_a_recording_is_rejected(tmp_path: Path) -> None:
    (tmp_path / 'f').mkdir()
    (tmp_path / 'f' / 'notes.txt').write_text('x')
    assert_input_error(tmp_path / 'f', 'no image')
    cv2.imwrite(str(tmp_path / 'a.png'), solid_image('red'))
    assert_input_error(tmp_path / 'a.png', 'single image')


def test_options_for_other_kinds_of_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'v.avi').write_bytes(b'never read')
    assert_input_error(tmp_path / 'v.avi', 'topics', topics=['/a'])
    assert_input_error(tmp_path / 'v.avi', 'fps', fps=5.0)
    assert_input_error(folder(tmp_path / 'f'), 'fps', fps=-1.0)


def test_natural_order_counts_digits_as_numbers() -> None:
    assert sorted(['a10', 'a2', 'b1', '3'], key=natural) == ['3', 'a2', 'a10', 'b1']
