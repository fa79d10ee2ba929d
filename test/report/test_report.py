# SPDX-License-Identifier: Apache-2.0
"""Reports: what is collected from a recording, and the page that shows it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import bags
from helpers.fake_models import UNREADABLE, fake_model

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.report import Lane, Reported, page, recorded
from vljepa_ros.report.page import as_script
from vljepa_ros.report.recorded import MAX_POINTS, MAX_THUMBNAILS, LaneSegment, reduced
from vljepa_ros.sources import Source, open_source

NASTY = '</script><script>alert(1)</script> <b>&amp; \u202e\u05d0\u05d1 \U0001f525 "\'\\ \u2028'


@pytest.fixture
def bag(tmp_path: Path) -> Source:
    shown = ['red'] * 3 + ['blue'] * 3 + ['green'] * 2
    return open_source(bags.write(tmp_path / 'bag', bags.colors(shown, 10)))


def data_of(text: str) -> Any:
    [found] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def test_segments_scores_and_thumbnails_of_a_recording(bag: Source) -> None:
    found = recorded(fake_model(), bag, watches=['it is blue'])
    [lane] = found.lanes
    assert [s.text.split()[-1] for s in lane.segments] == ['red', 'blue', 'green']
    assert lane.segments[1].start_s == pytest.approx(3.1, abs=0.11)
    blue = dict(lane.scores['it is blue'])
    assert max(s for t, s in blue.items() if t < 2.9) < 0.3
    assert min(s for t, s in blue.items() if 3.5 < t < 5.9) > 0.8
    peaks = [t for t, distance in lane.change if distance > 0.3]
    assert [round(t) for t in peaks] == [3, 6]
    pictures = [cv2.imdecode(np.frombuffer(p, np.uint8), 1) for _, p in found.thumbnails['camera']]
    assert len(pictures) == 16  # one every half second
    assert pictures[0][..., 2].mean() > 200 > 50 > pictures[8][..., 2].mean()


def test_a_question_is_shown_as_the_probability_of_yes(bag: Source) -> None:
    found = recorded(fake_model(), bag, questions=['Is it red?'])
    [curve] = [lane.answers['Is it red?'] for lane in found.lanes]
    assert len(found.lanes) == 1 and curve and all(0 <= value <= 1 for _, value in curve)


@pytest.mark.parametrize(
    ('watches', 'questions'), [([UNREADABLE], []), ([], [UNREADABLE]), ([''], []), ([], [''])]
)
def test_unreadable_texts_are_refused(
    bag: Source, watches: list[str], questions: list[str]
) -> None:
    with pytest.raises(InputError):
        recorded(fake_model(), bag, watches=watches, questions=questions)


def test_a_curve_keeps_its_peaks() -> None:
    values = np.zeros(10 * MAX_POINTS)
    values[12_345] = 0.7
    curve = reduced([i / 5 for i in range(len(values))], values)
    assert len(curve) == MAX_POINTS and (2469.0, 0.7) in curve


class LongSource(Source):
    """Two hours of a gray image."""

    def items(self) -> Iterator[Frame]:  # type: ignore[override]
        image = np.full((24, 32, 3), 128, np.uint8)
        for index in range(7200):
            yield Frame(10**9 * (1 + index), image)


def test_thumbnails_of_a_long_recording_are_limited() -> None:
    found = recorded(fake_model(), LongSource(Path('long')))
    times = [t for t, _ in found.thumbnails['camera']]
    assert MAX_THUMBNAILS / 2 < len(times) <= MAX_THUMBNAILS
    assert len(set(np.round(np.diff(times), 3))) == 1 and times[-1] > 7190


class NoisySource(Source):
    """Two hours of noise, which JPEG compresses worst, at one image in 4 s."""

    def items(self) -> Iterator[Frame]:  # type: ignore[override]
        noise = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
        for index in range(1800):
            yield Frame(4 * 10**9 * (1 + index), np.roll(noise, index, 0))


def test_the_page_of_two_hours_is_below_25_megabytes() -> None:
    found = recorded(fake_model(), NoisySource(Path('noise')))
    lane = found.lanes[0]
    lane.segments = [
        LaneSegment(i, i + 1, f'the robot does something {i}', 0.9) for i in range(7200)
    ]
    lane.change = [(3.6 * i, 0.1) for i in range(2000)]
    assert len(found.thumbnails['camera']) > 200
    assert len(page([found]).encode()) < 25_000_000


def test_the_page_needs_no_network_and_no_other_file(bag: Source) -> None:
    text = page([recorded(fake_model(), bag)])
    assert not re.search(r'(src|href)\s*=\s*["\']?(https?:)?//', text)
    assert '%' + 'DATA%' not in text and '%' + 'SCRIPT%' not in text
    assert "default-src 'none'" in text


def test_texts_cannot_leave_the_data() -> None:
    report = Reported(NASTY, 0, 1.0, [Lane('camera', NASTY, 'm', [LaneSegment(0, 1, NASTY, 0.5)])])
    text = page([report])
    assert text.count('</script>') == 2 and '<b>' not in text.split('<style>')[0]
    found = data_of(text)
    assert found['title'] == found['lanes'][0]['segments'][0][2] == NASTY
    assert json.loads(as_script(NASTY)) == NASTY


def test_two_models_are_lanes_of_one_page(bag: Source) -> None:
    first, second = recorded(fake_model(), bag), recorded(fake_model(), bag)
    second.lanes[0].model_id = 'other'
    found = data_of(page([first, second]))
    assert [lane['model'] for lane in found['lanes']] == [first.lanes[0].model_id, 'other']
    assert all(lane['showsModel'] for lane in found['lanes'])
    picture = base64.b64decode(found['thumbnails']['camera'][0][1])
    assert picture == first.thumbnails['camera'][0][1]


CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


def rendered(file: Path, address: str = '') -> str:
    """Return the page's DOM after its script ran in a browser."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--virtual-time-budget=5000',
            '--dump-dom',
            f'{file.as_uri()}{address}',
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')
def test_a_browser_shows_the_moment_of_the_address(bag: Source, tmp_path: Path) -> None:
    file = tmp_path / 'report.html'
    file.write_text(page([recorded(fake_model(), bag, watches=['it is blue'])]))
    shown = rendered(file, '#t=4')
    assert re.search(r'<ol id="current">.*the scene is blue', shown, re.S)
    assert shown.count('<tr data-lane') == 3 and shown.count('class="segment') == 3
    assert 'watch: it is blue' in shown


@pytest.mark.skipif(CHROMIUM is None, reason='chromium is not installed')
def test_a_browser_shows_texts_as_texts(tmp_path: Path) -> None:
    report = Reported(NASTY, 0, 1.0, [Lane('camera', NASTY, 'm', [LaneSegment(0, 1, NASTY, 0.5)])])
    report.thumbnails['camera'] = []
    file = tmp_path / 'report.html'
    file.write_text(page([report]), encoding='utf-8')
    shown = rendered(file)
    rows = shown.split('<tbody id="rows">')[1].split('</tbody>')[0]
    assert '&lt;/script&gt;&lt;script&gt;alert(1)' in rows and '\U0001f525' in rows


def test_an_empty_recording_has_a_page() -> None:
    found = data_of(page([Reported('empty', 0, 0.0, [Lane('camera', '?', 'm')])]))
    assert found['lanes'][0]['segments'] == [] and found['length'] == 0
