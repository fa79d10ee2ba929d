# SPDX-License-Identifier: Apache-2.0
"""Draw the results of the stack on a recording: frames with texts, segments and distances.

    .venv/bin/python tools/draw_overlay.py samples/bench --out docs/assets/overlay.png

The upper row shows frames with the current text. Below are the segments of the ground truth (if
SOURCE is a folder with ground_truth.json) and of the text events, in two alternating shades, and
the cosine distance between consecutive embeddings. The pipeline runs without ROS; the running
stack gives the same events. Needs matplotlib (requirements/docs.txt).
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from vljepa_ros.core.errors import VljepaError
from vljepa_ros.core.exit_status import ExitStatus
from vljepa_ros.core.types import Event, Image, State
from vljepa_ros.model.registry import load
from vljepa_ros.pipeline import Pipeline
from vljepa_ros.sources import Damaged, open_source

TIMES_S = (22.8, 45.0, 58.9, 68.5)
SHADES = ('#6f9fd8', '#c3d9f1')


@dataclass
class PipelineRun:
    """Results of one run of the pipeline on a recording; times in seconds from its start."""

    frames: dict[float, Image] = field(default_factory=dict)
    texts: dict[float, str] = field(default_factory=dict)
    segments: list[tuple[float, float, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)


def observe(source_path: Path, model: str, times_s: tuple[float, ...]) -> PipelineRun:
    """Run the pipeline on a recording and collect frames, texts, segments and distances.

    Args:
        source_path: The recording.
        model: Name or folder of the model.
        times_s: Times of the frames to draw, in seconds from the start.
    """
    source = open_source(source_path)
    pipeline, run = Pipeline(load(model)), PipelineRun()
    pending, text, previous = sorted(times_s), '', None
    for item in source.items():
        if isinstance(item, Damaged):
            continue
        events = pipeline.push(item)
        text = _newest_text(events, text)
        _note_segments(run, events, source.start_ns)
        at_s = (item.stamp_ns - source.start_ns) / 1e9
        for embedding in pipeline.last_embeddings:
            if previous is not None:
                run.times.append((embedding.stamp_ns - source.start_ns) / 1e9)
                run.distances.append(1 - float(np.dot(previous, embedding.vector)))
            previous = embedding.vector
        if pending and at_s >= pending[0]:
            time_s = pending.pop(0)
            run.frames[time_s], run.texts[time_s] = item.image, text
    _note_segments(run, pipeline.finish(), source.start_ns)
    return run


def _newest_text(events: list[Event], text: str) -> str:
    for event in events:
        if event.state is not State.ENDED:
            text = f'{event.text} ({event.confidence:.2f})'
    return text


def _note_segments(run: PipelineRun, events: list[Event], start_ns: int) -> None:
    for event in events:
        if event.state is State.ENDED:
            span = (event.start_ns - start_ns) / 1e9, (event.end_ns - start_ns) / 1e9
            run.segments.append((*span, event.text))


def draw(run: PipelineRun, truth: list[dict[str, Any]], out: Path) -> None:
    """Draw the figure and write it to `out`."""
    pyplot.rcParams.update({'font.size': 9, 'font.family': 'DejaVu Sans'})
    figure = pyplot.figure(figsize=(12, 5.2), layout='constrained')
    rows = figure.add_gridspec(4, len(run.frames), height_ratios=(6, 0.6, 0.6, 1.6))
    for column, (time_s, image) in enumerate(run.frames.items()):
        _draw_frame(figure.add_subplot(rows[0, column]), image, run.texts[time_s], time_s)
    spans = [(a['start'], a['end'], a['sentence']) for a in truth]
    end_s = max(end for _, end, _ in run.segments)
    if spans:
        _draw_segments(figure.add_subplot(rows[1, :]), spans, 'ground truth', run, end_s)
    _draw_segments(figure.add_subplot(rows[2, :]), run.segments, 'text events', run, end_s)
    axes = figure.add_subplot(rows[3, :])
    axes.plot(run.times, run.distances, color='#333333', linewidth=0.9)
    _mark_times(axes, run)
    axes.set(xlim=(0, end_s), ylabel='cosine\ndistance')
    axes.set_xlabel('seconds from the start of the recording')
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(out, dpi=100)
    pyplot.close(figure)


def _draw_frame(axes: Axes, image: Image, text: str, time_s: float) -> None:
    height, width = image.shape[:2]
    axes.imshow(image)
    axes.set_axis_off()
    axes.text(
        width / 2,
        height * 0.97,
        textwrap.fill(text, 36),
        ha='center',
        va='bottom',
        color='white',
        bbox={'facecolor': 'black', 'alpha': 0.72, 'edgecolor': 'none', 'pad': 4},
    )
    axes.set_title(f'{time_s:.1f} s', fontsize=9)


def _draw_segments(
    axes: Axes, spans: list[tuple[float, float, str]], title: str, run: PipelineRun, end_s: float
) -> None:
    for number, (start_s, stop_s, _) in enumerate(spans):
        axes.axvspan(start_s, stop_s, color=SHADES[number % len(SHADES)], linewidth=0)
    _mark_times(axes, run)
    axes.set(xlim=(0, end_s), ylim=(0, 1), xticks=[], yticks=[])
    axes.set_ylabel(title, rotation=0, ha='right', va='center')


def _mark_times(axes: Axes, run: PipelineRun) -> None:
    for time_s in run.frames:
        axes.axvline(time_s, color='black', linewidth=0.8, linestyle=':')


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, metavar='SOURCE', help='a bag, video or image folder')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE.png', help='image file to write'
    )
    parser.add_argument(
        '--model', default='small', metavar='NAME|DIR', help='model (default: small)'
    )
    parser.add_argument(
        '--at',
        type=float,
        nargs='+',
        default=list(TIMES_S),
        metavar='T',
        help='times of the frames, in seconds (default: %(default)s)',
    )
    args = parser.parse_args()
    pyplot.switch_backend('Agg')
    try:
        run = observe(args.source, args.model, tuple(args.at))
    except VljepaError as error:
        print(f'error: {error}', file=sys.stderr)
        return ExitStatus.BAD_INPUT
    path = args.source / 'ground_truth.json'
    truth = json.loads(path.read_text())['annotations'] if path.is_file() else []
    draw(run, truth, args.out)
    return ExitStatus.OK


if __name__ == '__main__':
    sys.exit(main())
