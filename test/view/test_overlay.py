# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest

from vljepa_ros.view.overlay import GREEN, Overlay, OverlayRow, ascii_text, content, draw, to_jpeg
from vljepa_ros.view.stack_state import StackState

GRAY = np.full((480, 640, 3), 200, np.uint8)


def changed_rows(drawn: np.ndarray) -> np.ndarray:
    """Return the numbers of the image rows that differ from the gray image."""
    return np.flatnonzero((drawn != GRAY).any(axis=(1, 2)))


def green_pixels(drawn: np.ndarray) -> int:
    """Return the number of pixels in the color of filled bars."""
    return int((drawn == np.array(GREEN)).all(axis=2).sum())


def test_an_empty_overlay_leaves_the_image_as_it_is() -> None:
    assert np.array_equal(draw(GRAY, Overlay()), GRAY)


def test_drawing_does_not_modify_the_input() -> None:
    before = GRAY.copy()
    draw(GRAY, Overlay((OverlayRow('a cup', 0.5),)))
    assert np.array_equal(GRAY, before)


def test_captions_are_drawn_at_the_bottom_and_watches_at_the_top() -> None:
    assert changed_rows(draw(GRAY, Overlay(captions=(OverlayRow('a cup', 0.5),)))).min() >= 440
    assert changed_rows(draw(GRAY, Overlay(watches=(OverlayRow('a cup', 0.5),)))).max() < 40


def test_the_band_below_a_text_is_darkened_to_forty_percent() -> None:
    drawn = draw(GRAY, Overlay((OverlayRow('', 0.0),)))
    assert drawn[-1, -1].tolist() == [80, 80, 80]


def test_the_filled_part_of_a_bar_is_proportional_to_the_value() -> None:
    half, full = (green_pixels(draw(GRAY, Overlay((OverlayRow('', v),)))) for v in (0.5, 1.0))
    assert full > 300
    assert half / full == pytest.approx(0.5, abs=0.03)
    assert green_pixels(draw(GRAY, Overlay((OverlayRow('', 0.0),)))) == 0


def test_two_texts_give_different_pixels() -> None:
    first, second = (draw(GRAY, Overlay((OverlayRow(t, 0.5),))) for t in ('a cup', 'a mug'))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    'text',
    [
        'x' * 100_000,
        '\x1b[31m\x00\n\r\t',
        '\u202eevil\u2066',
        '<b>&amp;',
        '🦾 🇦🇹',
        'שלום',
        '\ud800',
    ],
)
def test_any_text_stays_inside_its_band(text: str) -> None:
    drawn = draw(GRAY, Overlay((OverlayRow(text, 0.5),)))
    assert changed_rows(drawn).min() >= 440
    assert drawn.shape == GRAY.shape and drawn.dtype == np.uint8


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (30, 2000), (2000, 30), (1080, 1920)])
def test_images_of_any_size_keep_their_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    rows = tuple(OverlayRow('a long text about a cup', 0.5) for _ in range(4))
    assert draw(image, Overlay(rows, rows, 'status')).shape == image.shape


def test_accents_are_removed_and_other_characters_become_question_marks() -> None:
    assert ascii_text('café 🦾\n\u202e<b>') == 'cafe ? <b>'


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(to_jpeg(red, 90), np.uint8), cv2.IMREAD_COLOR)
    blue, green, found = decoded[16, 16]
    assert found > 240 and blue < 20 and green < 20


def state_of_two_cameras() -> StackState:
    """Return a state in which `front` has a text and `rear` has none."""
    state = StackState()
    for source in ('front', 'rear'):
        state.on_embedding(source, '', 0.12, 0.0, 1.0)
        state.on_embedding(source, '', 0.12, 0.0, 1.5)
    status = state.stream('front', '')
    status.text, status.confidence = 'a cup', 0.5
    return state


def test_the_overlay_of_a_camera_has_its_own_texts_only() -> None:
    state = state_of_two_cameras()
    assert content(state, 'front', 1.5).captions == (OverlayRow('a cup', 0.5),)
    assert content(state, 'rear', 1.5).captions == ()


def test_the_status_has_latency_and_rate() -> None:
    assert content(state_of_two_cameras(), 'front', 1.5).status == '120 ms, 2.0 Hz'


def test_a_withheld_text_is_reported() -> None:
    state = state_of_two_cameras()
    state.stream('rear', '').withheld = True
    assert [row.text for row in content(state, 'rear', 1.5).captions] == ['(text withheld)']
