# SPDX-License-Identifier: Apache-2.0
"""benchmarks/live.py grades the answers of the service as the suites do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_suites import annotation, context, film

sys.path.append(str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import live

from vljepa_ros.core.types import Answer


def test_a_service_with_correct_answers_has_full_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = context([film(tmp_path, 'a', [annotation('act'), annotation('rest')])])

    def answer(_: object, stack: object, posed: Sequence[Any]) -> list[Answer]:
        return [
            Answer(question.answer, 0.9, False, 0, 'toy-0')
            for question in (p.question for p in posed)
        ]

    monkeypatch.setattr(live, 'ask_service', answer)
    found = live.live_vqa(given, None)  # type: ignore[arg-type]
    rows = {(row.who, row.what): row.mean.value for row in found.rows}
    assert rows and {who for who, _ in rows} == {'live', 'offline'}
    assert all(value == 1.0 for (who, _), value in rows.items() if who == 'live')

    calibrated = live.live_calibrate(given, None)  # type: ignore[arg-type]
    shares = {(r.who, r.what): r.mean.value for r in calibrated.rows}
    right = [
        value for (who, what), value in shares.items() if who == 'live' and 'accuracy' in what
    ]
    assert right and min(right) > 0.9
    assert ('offline', 'abstained: answerable') in shares
