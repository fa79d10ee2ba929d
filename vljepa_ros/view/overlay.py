# SPDX-License-Identifier: Apache-2.0
"""Draw texts, confidences, watches and latency over an RGB image, (H, W, 3), uint8.

The font of OpenCV has ASCII characters only: accents are removed, and any other character is drawn
as '?'. Topics and the terminal show the full texts.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import cv2
import numpy as np

from vljepa_ros.core.text import plain_line
from vljepa_ros.core.types import Image
from vljepa_ros.view.stack_state import StackState

FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, GRAY, GREEN = (255, 255, 255), (190, 190, 190), (80, 220, 120)
SHADE = 0.4  # brightness of the image below a text
WITHHELD = '(text withheld)'
MOST_LINES = 4  # rows of captions and of watches
SCALE_HEIGHT = 480  # image height in pixels at which a text row has 22 pixels


@dataclass(frozen=True)
class OverlayRow:
    """One text with a bar: `value` (confidence or score) in 0..1."""

    text: str
    value: float


@dataclass(frozen=True)
class Overlay:
    """Content of an overlay: rows of captions (bottom), rows of watches and a status (top)."""

    captions: tuple[OverlayRow, ...] = ()
    watches: tuple[OverlayRow, ...] = ()
    status: str = ''


def content(state: StackState, source: str, now_s: float) -> Overlay:
    """Return the overlay of one camera.

    Args:
        state: State of the stack.
        source: Name of the camera.
        now_s: Current time of the monotonic clock of `state`.
    """
    streams = [s for key, s in state.streams.items() if key[0] == source]
    captions = [
        OverlayRow(f'{s.prompt} {text}'.strip() if len(streams) > 1 else text, s.confidence)
        for s in streams
        if (text := WITHHELD if s.withheld else s.text)
    ]
    watches = [
        OverlayRow(w.condition or f'watch {goal}', w.score) for goal, w in state.watches.items()
    ]
    status = ''
    if streams:
        latency_ms = max(s.latency_s for s in streams) * 1000
        status = f'{latency_ms:.0f} ms, {streams[0].rate_hz(now_s):.1f} Hz'
        if state.dropped_frames:
            status += f', {state.dropped_frames} dropped'
    return Overlay(tuple(captions[:MOST_LINES]), tuple(watches[:MOST_LINES]), status)


def draw(image: Image, overlay: Overlay) -> Image:
    """Return a copy of an image with the overlay; the input is not modified."""
    found = np.ascontiguousarray(image).copy()
    top = (OverlayRow(overlay.status, -1.0),) if overlay.status else ()
    _draw_block(found, (*top, *overlay.watches), at_bottom=False)
    _draw_block(found, overlay.captions, at_bottom=True)
    return found


def to_jpeg(image: Image, quality: int) -> bytes:
    """Encode an RGB image as JPEG with a quality of 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode('.jpg', bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return bytes(data)


def ascii_text(text: str) -> str:
    """Return a text in one line of printable ASCII; other characters become '?'."""
    letters = unicodedata.normalize('NFKD', plain_line(text))
    kept = ''.join(c for c in letters if not unicodedata.combining(c))
    return kept.encode('ascii', 'replace').decode()


def _draw_block(image: Image, rows: tuple[OverlayRow, ...], at_bottom: bool) -> None:
    """Draw rows with bars on a darkened band at the top or bottom of an image, in place."""
    height, width = image.shape[:2]
    step = max(9, round(22 * height / SCALE_HEIGHT))
    rows = rows[: max(0, height // (2 * step))]
    if not rows or width < 4 * step:
        return
    first = height - step * len(rows) if at_bottom else 0
    band = image[first : first + step * len(rows)]
    band[:] = (band * SHADE).astype(np.uint8)
    bar, scale = 3 * step, step / 36
    for number, row in enumerate(rows):
        y = first + number * step
        left = 4
        if row.value >= 0:
            filled = round(bar * min(1.0, row.value))
            corner = (4, y + step // 3)
            cv2.rectangle(image, corner, (4 + bar, y + 2 * step // 3), GRAY, 1)
            if filled:
                cv2.rectangle(image, corner, (4 + filled, y + 2 * step // 3), GREEN, -1)
            left += bar + step // 2
        text = _fitted(ascii_text(row.text), scale, width - left - 4)
        cv2.putText(image, text, (left, y + step - step // 3), FONT, scale, WHITE, 1, cv2.LINE_AA)


def _fitted(text: str, scale: float, width: int) -> str:
    """Shorten a text so that it is at most `width` pixels wide."""
    text = text[:500]
    if cv2.getTextSize(text, FONT, scale, 1)[0][0] <= width:
        return text
    while text and cv2.getTextSize(text + '...', FONT, scale, 1)[0][0] > width:
        text = text[:-1]
    return text.rstrip() + '...' if text else ''
