# SPDX-License-Identifier: Apache-2.0
"""Draw the overlay image and the terminal view for the results of a recording.

    .venv/bin/python tools/draw_view.py samples/bench

The pipeline runs without ROS up to `TIME_S`; the latency is the measured time of a step, and rates
follow the stamps. Writes docs/assets/view_overlay.png and docs/assets/top.svg.
"""

from __future__ import annotations

import argparse
import io
import re
import time
from pathlib import Path

import cv2
from rich.console import Console, Group

from vljepa_ros.core.types import Image
from vljepa_ros.model.registry import load
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import Damaged, open_source
from vljepa_ros.view import overlay, terminal
from vljepa_ros.view.stack_state import StackState

ASSETS = Path(__file__).resolve().parents[1] / 'docs' / 'assets'
TIME_S = 45.0
QUESTION = 'What is happening?'


def collect(path: Path) -> tuple[StackState, Image, float, str]:
    """Run the pipeline; return the state, the last image, its time in s, and an answer."""
    source, pipeline, state = open_source(path), Pipeline(load('small')), StackState()
    image, now_s = None, 0.0
    for item in source.items():
        if isinstance(item, Damaged):
            continue
        now_s = (item.stamp_ns - source.start_ns) / 1e9
        began_s = time.monotonic()
        events = pipeline.push(item)
        step_s = time.monotonic() - began_s
        for embedding in pipeline.last_embeddings:
            key = embedding.key
            state.on_embedding(key.source, key.prompt, step_s, embedding.unfamiliar, now_s)
        for event in events:
            state.on_event(event)
        image = item.image
        if now_s >= TIME_S:
            break
    assert image is not None
    answer = pipeline.ask(QUESTION)
    return state, image, now_s, f'{QUESTION} {answer.answer} ({answer.confidence:.2f})'


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('recording', type=Path)
    state, image, now_s, answer = collect(parser.parse_args().recording)
    source = next(iter(state.streams))[0]
    # Enlarged first, so that the text is readable on the page.
    larger = cv2.resize(image, (640, 480), interpolation=cv2.INTER_CUBIC)
    drawn = overlay.draw(larger, overlay.content(state, source, now_s))
    (ASSETS / 'view_overlay.png').write_bytes(
        cv2.imencode('.png', cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()
    )
    console = Console(record=True, width=80, highlight=False, markup=False, file=io.StringIO())
    console.print(Group(*terminal.lines(state, '/vljepa', now_s, [answer], '')))
    picture = console.export_svg(title='vljepa top')
    # The page must not load fonts from the network; the next font of the list is used.
    picture = re.sub(r'@font-face \{.*?\}', '', picture, flags=re.DOTALL)
    (ASSETS / 'top.svg').write_text(picture)


if __name__ == '__main__':
    main()
