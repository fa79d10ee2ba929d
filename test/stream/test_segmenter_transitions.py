# SPDX-License-Identifier: Apache-2.0
"""Every cell of the segmenter's state machine, observed through `push` and `end`."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from vljepa_ros.core.settings import SegmenterSettings
from vljepa_ros.core.types import Change, Embedding, Reason, StreamKey
from vljepa_ros.stream.segmenter import TRANSITIONS, Compared, Segmenter, Signal, StreamPhase

HOP = 200_000_000
KEY = StreamKey('camera', 'what?', 'model')
SETTINGS = SegmenterSettings(
    change_threshold=0.9, confirm_hops=2, min_segment_s=0.6, drift_threshold=0.1
)
DRIFT, FIRST, MEANING = Reason.DRIFT, Reason.FIRST, Reason.MEANING
CLOSED, OPEN = StreamPhase.CLOSED, StreamPhase.OPEN


def hop(number: int, degrees: float, reset_count: int = 0) -> Embedding:
    angle = math.radians(degrees)
    vector = np.array([math.cos(angle), math.sin(angle)], np.float32)
    return Embedding(number * HOP, max(0, number - 8) * HOP, KEY, vector, reset_count)


def segmenter_of(angles: list[float], settings: SegmenterSettings = SETTINGS) -> Segmenter:
    """Return a segmenter whose stream had these embeddings."""
    segmenter = Segmenter(settings, 's')
    for number, degrees in enumerate(angles):
        segmenter.push(hop(number, degrees))
    return segmenter


def changes_of(segmenter: Segmenter, signal: Signal, number: int) -> list[Change]:
    """Give a stream with `number` embeddings near 0 degrees a signal and return its changes."""
    if signal is Signal.END:
        return segmenter.end()
    if signal is Signal.RESET:
        return segmenter.push(hop(number, 0, reset_count=1))
    if signal is Signal.CHANGE:
        assert segmenter.push(hop(number, 90)) == []  # confirmed by the second hop only
        return segmenter.push(hop(number + 1, 90))
    return segmenter.push(hop(number, 0))


# Phase, signal, expected reasons, number of open segments afterwards.
CELLS = [
    (CLOSED, Signal.EMBEDDING, [FIRST], 1),
    (CLOSED, Signal.END, [], 0),
    (OPEN, Signal.EMBEDDING, [], 1),
    (OPEN, Signal.CHANGE, [MEANING], 1),
    (OPEN, Signal.RESET, [Reason.RESET], 1),
    (OPEN, Signal.END, [Reason.END], 0),
]


@pytest.mark.parametrize(('phase', 'signal', 'reasons', 'opened'), CELLS)
def test_each_signal_yields_the_expected_changes(
    phase: StreamPhase, signal: Signal, reasons: list[Reason], opened: int
) -> None:
    number = 10 if phase is OPEN else 0
    segmenter = segmenter_of([0] * number)
    assert [c.reason for c in changes_of(segmenter, signal, number)] == reasons
    assert len(segmenter.opened()) == opened


# The segment was published at 0 degrees; its end is at 12 degrees, at a cosine distance of 0.022.
@pytest.mark.parametrize(
    ('signal', 'reason'),
    [(Signal.CHANGE, MEANING), (Signal.RESET, Reason.RESET), (Signal.END, Reason.END)],
)
def test_a_drift_at_the_end_is_reported_before_the_segment_closes(
    signal: Signal, reason: Reason
) -> None:
    segmenter = segmenter_of([0] * 10 + [12] * 4, replace(SETTINGS, drift_threshold=0.02))
    changes = changes_of(segmenter, signal, 14)
    assert [c.reason for c in changes] == [DRIFT, reason]
    np.testing.assert_allclose(changes[0].vector, hop(0, 12).vector, atol=1e-6)
    assert changes[0].segment_id == 0


def test_an_embedding_of_an_open_segment_reports_a_drift_of_its_mean() -> None:
    segmenter = segmenter_of([0] * 5, SegmenterSettings(90.0, 2, 0.0, 0.1))
    changes = [segmenter.push(hop(n, 40)) for n in range(5, 65)]
    reported = [n for n, found in enumerate(changes, 5) if found]
    assert {c.reason for found in changes for c in found} == {DRIFT}
    assert reported[0] > 5 + 8  # the newest 8 may yet begin a segment


def test_a_stream_without_a_segment_has_no_change_reset_or_end() -> None:
    absent = set(product(StreamPhase, Signal)) - set(TRANSITIONS)
    assert absent == {(CLOSED, signal) for signal in Signal if signal is not Signal.EMBEDDING}


def test_the_transition_table_equals_the_observed_transitions() -> None:
    expected = {(phase, signal): reasons for phase, signal, reasons, _ in CELLS}
    for cell, step in TRANSITIONS.items():
        assert [step.reason] * (step.reason is not None) == expected[cell]
        assert step.phase is (CLOSED if cell[1] is Signal.END else OPEN)
    compared = {cell: step.compared for cell, step in TRANSITIONS.items() if step.compared}
    assert compared.pop((OPEN, Signal.EMBEDDING)) is Compared.SETTLED
    assert set(compared) == {(OPEN, s) for s in Signal} - {(OPEN, Signal.EMBEDDING)}
    assert set(compared.values()) == {Compared.ENDING}
