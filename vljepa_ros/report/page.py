# SPDX-License-Identifier: Apache-2.0
"""Assemble the HTML page of a report: template, style, script and data in one file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from vljepa_ros.report.recorded import Lane, Reported

UNIFORM_S = (1, 2, 5, 10)  # periods of uniform decoding that the page compares with


def page(reports: Sequence[Reported], title: str = '') -> str:
    """Return an HTML page that needs no other file and no network.

    Args:
        reports: Results of one recording; several to compare models.
        title: Title; by default the name of the recording.
    """
    first = reports[0]
    title = title or first.name
    assets = resources.files('vljepa_ros.report')
    template = (assets / 'page.html').read_text(encoding='utf-8')
    parts = {
        '%TITLE%': html.escape(title),
        '%STYLE%': (assets / 'page.css').read_text(encoding='utf-8'),
        '%SCRIPT%': (assets / 'page.js').read_text(encoding='utf-8'),
        '%DATA%': as_script(data(reports, title)),
    }
    for mark, text in parts.items():
        head, _, tail = template.partition(mark)
        template = head + text + tail
    return template


def as_script(value: Any) -> str:
    """Return JSON that can stand in a script element, whatever texts it contains."""
    text = json.dumps(value, ensure_ascii=True, separators=(',', ':'), allow_nan=False)
    return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


def data(reports: Sequence[Reported], title: str) -> dict[str, Any]:
    """Return the data of the page as JSON values."""
    first = reports[0]
    length_s = max(report.length_s for report in reports)
    several_models = len({lane.model_id for report in reports for lane in report.lanes}) > 1
    lanes = [lane for report in reports for lane in report.lanes]
    started = datetime.fromtimestamp(first.start_ns / 1e9, tz=timezone.utc)
    return {
        'title': title,
        'started': started.isoformat(timespec='seconds').replace('+00:00', 'Z'),
        'length': round(length_s, 2),
        'uniform': [[period, int(length_s // period) + 1] for period in UNIFORM_S],
        'lanes': [_lane(lane, several_models) for lane in lanes],
        'thumbnails': {
            camera: [[at_s, base64.b64encode(picture).decode()] for at_s, picture in found]
            for camera, found in first.thumbnails.items()
        },
    }


def _lane(lane: Lane, several_models: bool) -> dict[str, Any]:
    return {
        'camera': lane.camera,
        'prompt': lane.prompt,
        'model': lane.model_id,
        'showsModel': several_models,
        'decodes': lane.decodes,
        'segments': [
            [round(s.start_s, 2), round(s.end_s, 2), s.text, round(s.confidence, 3)]
            for s in lane.segments
        ],
        'change': lane.change,
        'scores': [[text, curve] for text, curve in lane.scores.items()],
        'answers': [[text, curve] for text, curve in lane.answers.items()],
    }
