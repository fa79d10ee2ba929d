# SPDX-License-Identifier: Apache-2.0
"""Segments of a stream, either detected by the whole pipeline or annotated.

Times are in seconds from the stream's first stamp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vljepa_ros.core.types import Embedding, Event, Frame, State
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.stream_embeddings import SECOND_NS, StreamEmbeddings, gathered
from vljepa_ros.evaluate.views import frames_of
from vljepa_ros.pipeline import Pipeline


@dataclass(frozen=True)
class DetectedSegment:
    """Detected segment with its `first_text`, emitted at `first_text_s`, and its final `text`."""

    start_s: float
    first_text_s: float
    first_text: str
    text: str


@dataclass(frozen=True)
class StackOutput:
    """Detected segments and embeddings of one stream, from the whole pipeline."""

    segments: tuple[DetectedSegment, ...]
    hops: StreamEmbeddings


def run_stack(context: Context, stream: Stream) -> StackOutput:
    """Return the output of the whole pipeline, with default settings, for a stream."""
    pipeline, stamps_ns = Pipeline(context.model), stream.stamps_ns()
    events, embeddings = list[Event](), list[Embedding]()
    for stamp_ns, image in zip(stamps_ns, frames_of(stream), strict=True):
        events += pipeline.push(Frame(int(stamp_ns), image))
        embeddings += pipeline.last_embeddings
    events += pipeline.finish()
    start_ns = int(stamps_ns[0])
    return StackOutput(tuple(joined(events, start_ns)), gathered(embeddings, start_ns))


def joined(events: Iterable[Event], start_ns: int) -> Iterable[DetectedSegment]:
    """Yield the ended segments of one stream's events, with times in seconds after `start_ns`."""
    opened: dict[int, Event] = {}
    for event in events:
        if event.state is State.STARTED:
            opened[event.segment_id] = event
        elif event.state is State.ENDED:
            first = opened.pop(event.segment_id)
            yield DetectedSegment(
                (event.start_ns - start_ns) / SECOND_NS,
                (first.stamp_ns - start_ns) / SECOND_NS,
                first.text,
                event.text,
            )


def merged(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Merge consecutive annotations of the same concept, and return the merged annotations."""
    found = list[Annotation]()
    for item in annotations:
        if found and found[-1].meaning == item.meaning:
            hidden = found[-1].hidden and item.hidden
            found[-1] = replace(found[-1], end=item.end, hidden=hidden)
        else:
            found.append(item)
    return found
