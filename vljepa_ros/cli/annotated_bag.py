# SPDX-License-Identifier: Apache-2.0
"""Write the results of `vljepa annotate` into a copy of the bag, and as WebVTT subtitles.

The topics and message types are those of the nodes under the namespace `vljepa`. Each message is
recorded right after the image that it was computed from, with the recording time of that image.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Change, Embedding, Event, Segment, State, Vector
from vljepa_ros.sources import Source
from vljepa_ros.sources.bag import Bag, BagMessage
from vljepa_ros.sources.bag_copy import Added, bag_copy, merge
from vljepa_ros.sources.bag_files import BagTopic, SqliteFile, format_of
from vljepa_ros.sources.bag_images import stamp_of

SECOND_NS = 1_000_000_000
NAMESPACE = '/vljepa'
TOPICS = {
    Embedding: BagTopic(f'{NAMESPACE}/semantic_embedding', 'vljepa_ros/msg/SemanticEmbedding', 0),
    Change: BagTopic(f'{NAMESPACE}/semantic_change', 'vljepa_ros/msg/SemanticChange', 0),
    Event: BagTopic(f'{NAMESPACE}/text_event', 'vljepa_ros/msg/TextEvent', 0, latched=True),
}
Output = Embedding | Change | Event


def check_new(folder: Path, path: Path) -> None:
    """Check, before a recording is processed, that a bag can be copied to a new folder.

    Raises:
        InputError: `folder` exists or lies in the bag, or `path` is not a bag of ROS 2.
    """
    if folder.exists():
        raise InputError(f'--out: {folder} exists already')
    if not folder.resolve().parent.is_dir():
        raise InputError(f'--out: no such folder: {folder.parent}')
    if path.resolve() in folder.resolve().parents:
        raise InputError(f'--out: {folder} is inside the bag {path}')
    if storage_of(path) is None:
        raise InputError(f'--out: {path} is not a bag of ROS 2; --vtt works with any recording')


def storage_of(path: Path) -> str | None:
    """Return the storage plugin of a bag, `mcap` or `sqlite3`; None if it is no bag of ROS 2."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    kinds = {kind.kind: kind for file in files if (kind := format_of(file)) is not None}
    if not kinds or 'ROS 1' in kinds:
        return None
    return 'sqlite3' if SqliteFile.kind in kinds else 'mcap'


def write(folder: Path, source: Source, outputs: Iterable[Output]) -> int:
    """Write a copy of a bag with the outputs of a pipeline, and return the number of these.

    Args:
        folder: New bag folder.
        source: The bag, or regions of its images.
        outputs: Outputs of the pipeline.

    Raises:
        InputError: The folder exists, or the bag cannot be read.
        DiskFullError: The disk is full.
    """
    pending: dict[str, deque[Output]] = {name: deque() for name in source.cameras}
    for output in sorted(outputs, key=lambda output: output.stamp_ns):  # stable
        pending[output.key.source].append(output)
    frame_ids: dict[str, str] = {}
    newest_ns: dict[str, int] = {}  # recording time of the newest image of each source

    def due(message: BagMessage) -> Iterator[Added]:
        for name in source.sources_by_topic.get(message.topic.name, ()):
            newest_ns[name] = message.log_ns
            try:
                stamp_ns = stamp_of(message.data)
            except InputError:
                continue  # a damaged image, from which nothing was computed
            frame_ids.setdefault(name, frame_id_of(message.data))
            waiting = pending[name]
            while waiting and waiting[0].stamp_ns <= stamp_ns:
                output = waiting.popleft()
                yield TOPICS[type(output)], fields_of(output, frame_ids[name])

    with bag_copy(folder, storage_of(source.path) or 'mcap', definitions()) as copy:
        count = merge(Bag(source.path), copy, due)
        for name, waiting in pending.items():
            for output in waiting:
                fields = fields_of(output, frame_ids.get(name, ''))
                copy.add(TOPICS[type(output)], newest_ns[name], fields)
                count += 1
    return count


def definitions() -> Path:
    """Return the folder of the message definitions, in the source tree or the installation.

    Raises:
        InputError: The folder is not installed.
    """
    root = Path(__file__).resolve().parents[2]
    places = [root / 'msg', Path(sys.prefix) / 'share' / 'vljepa_ros' / 'msg']
    places += [parent / 'share' / 'vljepa_ros' / 'msg' for parent in Path(__file__).parents]
    for place in places:
        if (place / 'TextEvent.msg').is_file():
            return place
    raise InputError('--out: the message definitions of vljepa_ros are not installed')


def frame_id_of(data: bytes) -> str:
    """Return the frame id of a CDR message that begins with a header; '' if it is damaged."""
    order = 'little' if data[1] & 1 else 'big'
    length = int.from_bytes(data[12:16], order)  # type: ignore[arg-type]
    return data[16 : 16 + max(length - 1, 0)].decode(errors='replace')


def fields_of(output: Output, frame_id: str) -> dict[str, Any]:
    """Return the fields of the message of an output, as the nodes publish it.

    Args:
        output: Embedding, change or text event.
        frame_id: Frame id of the camera.
    """
    common: dict[str, Any] = {
        'header': {'stamp': time_of(output.stamp_ns), 'frame_id': frame_id},
        'source': output.key.source,
        'prompt': output.key.prompt,
        'model_id': output.key.model_id,
        'unfamiliar': output.unfamiliar,
    }
    if isinstance(output, Embedding):
        return {
            **common,
            'window_start': time_of(output.window_start_ns),
            'reset_count': output.reset_count,
            'vector': output.vector,
            'latency': {'sec': 0, 'nanosec': 0},
        }
    common |= {'session_id': output.session_id, 'segment_id': output.segment_id}
    if isinstance(output, Change):
        before = output.previous or Segment(0, 0, 0)
        return {
            **common,
            'segment_start': time_of(output.segment_start_ns),
            'has_previous': output.previous is not None,
            'previous_segment_id': before.segment_id,
            'previous_start': time_of(before.start_ns),
            'previous_end': time_of(before.end_ns),
            'score': float(output.score),
            'reason': int(output.reason),
            'vector': _floats(output.vector),
            'previous_vector': _floats(output.previous_vector),
            'previous_unfamiliar': output.previous_unfamiliar,
        }
    return {
        **common,
        'start': time_of(output.start_ns),
        'end': time_of(output.end_ns),
        'state': int(output.state),
        'text': output.text,
        'confidence': float(output.confidence),
        'alternatives': [{'text': c.text, 'score': c.score} for c in output.alternatives],
        'nearest': output.nearest,
        'abstained': output.abstained,
        'abstain_reason': int(output.abstain_reason),
    }


def time_of(stamp_ns: int) -> dict[str, int]:
    """Return the fields of builtin_interfaces/Time."""
    return {'sec': stamp_ns // SECOND_NS, 'nanosec': stamp_ns % SECOND_NS}


def _floats(vector: Vector | None) -> Vector:
    return np.zeros(0, np.float32) if vector is None else np.asarray(vector, np.float32)


def webvtt(events: Sequence[Event], start_ns: int) -> str:
    """Return the final texts of segments as WebVTT subtitles (w3.org/TR/webvtt1).

    With several cameras or prompts, each text begins with the name of its camera and its prompt.

    Args:
        events: Text events; only ended segments with a text are used.
        start_ns: Stamp at the time 0 of the subtitles.
    """
    ended = [event for event in events if event.state is State.ENDED and event.text]
    cameras = {event.key.source for event in ended}
    prompts = {event.key.prompt for event in ended}
    cues = ['WEBVTT']
    for event in sorted(ended, key=lambda event: (event.start_ns, event.key)):
        label = [event.key.source] if len(cameras) > 1 else []
        label += [event.key.prompt] if len(prompts) > 1 else []
        text = ': '.join((*label, event.text))
        start, end = _clock(event.start_ns - start_ns), _clock(event.end_ns - start_ns)
        cues.append(f'{start} --> {end}\n{_escaped(text)}')
    return '\n\n'.join(cues) + '\n'


def _clock(time_ns: int) -> str:
    milliseconds = round(max(time_ns, 0) / 1_000_000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f'{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}'


def _escaped(text: str) -> str:
    """Return a text in one line without markup and control characters."""
    line = ''.join(c if c.isprintable() else ' ' for c in text)
    return line.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
