# SPDX-License-Identifier: Apache-2.0
"""Lost frames are detected from ten seconds of counts, and reported with one share."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from vljepa_ros.runtime.frame_loss import FrameLoss


def shares(seconds: Iterable[tuple[int, int]]) -> list[float | None]:
    """Return the reported share after each second with (received, lost) frames."""
    loss, received, lost = FrameLoss(), 0, 0
    found = [loss.push(100.0, 0, 0)]
    for second, (more, less) in enumerate(seconds, 1):
        received, lost = received + more, lost + less
        found.append(loss.push(100.0 + second, received, lost))
    return found


def test_ten_seconds_of_loss_are_reported_with_the_same_share_until_it_ends() -> None:
    found = shares([(15, 15)] * 10 + [(6, 24)] * 20 + [(30, 0)] * 10)
    assert found[:10] == [None] * 10
    assert found[10:31] == [0.5] * 21
    assert found[-1] is None


@pytest.mark.parametrize(
    'seconds',
    [
        [(22, 8)] * 40,  # 73%
        [(30, 0)] * 10 + [(0, 30)] * 2 + [(30, 0)] * 10,  # a short hiccup
        [(0, 0)] * 30,  # the camera stands still
        [(1, 0), (25, 0), (0, 0), (7, 0)] * 10,  # an irregular camera
        [(0, 2), (0, 2)] + [(0, 0)] * 30,  # too few frames to judge
    ],
)
def test_no_loss_is_reported(seconds: list[tuple[int, int]]) -> None:
    assert set(shares(seconds)) == {None}


def test_an_irregular_camera_with_loss_is_reported() -> None:
    assert shares([(1, 0), (5, 20), (0, 0), (2, 5)] * 3)[-1] is not None


def test_shares_around_the_limit_do_not_alternate() -> None:
    found = shares(([(20, 10)] * 10 + [(22, 8)] * 10) * 3)
    assert None not in found[10:] and len(set(found[10:])) == 1
