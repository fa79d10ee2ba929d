# SPDX-License-Identifier: Apache-2.0
"""Processing of a source without ROS, by the whole pipeline or by the vision side only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vljepa_ros.cli.common import SourceProblems, watched
from vljepa_ros.core.types import Change, Embedding, Event
from vljepa_ros.sources import Damaged, Source
from vljepa_ros.stream.perceiver import Perceiver
from vljepa_ros.stream.stamp_filter import StampFilter

LATE = 32  # consecutive late images that end a span

if TYPE_CHECKING:
    from vljepa_ros.pipeline import Pipeline


def events(
    pipeline: Pipeline,
    source: Source,
    streams_out: bool = False,
    outputs: list[Embedding | Change | Event] | None = None,
) -> Iterator[Event]:
    """Process a source with a pipeline and yield its text events as soon as they are complete.

    Args:
        pipeline: Pipeline without earlier frames.
        source: The source.
        streams_out: Whether results are printed to stdout during the iteration (see `watched`).
        outputs: List to which all embeddings and changes are appended.
    """
    problems = SourceProblems(source.start_ns)
    for item in watched(source, streams_out):
        if isinstance(item, Damaged):
            problems.damage(item)
            pipeline.skip(item.source, item.stamp_ns)
        else:
            found = pipeline.push(item)
            if outputs is not None:
                outputs += [*pipeline.last_embeddings, *pipeline.last_changes]
            yield from found
        problems.stamp(item.source, pipeline.last_message)
    known = len(pipeline.last_changes)
    found = pipeline.finish()
    if outputs is not None:
        outputs += pipeline.last_changes[known:]
    yield from found
    problems.close()


def hops(
    perceiver: Perceiver, source: Source, max_gap_ns: int, until_ns: int | None = None
) -> Iterator[list[Embedding]]:
    """Process a source with the vision side and yield the embeddings of each hop.

    A hop is yielded before the perceiver processes the next hop.

    Args:
        perceiver: Vision side with its standing prompts.
        source: The source.
        max_gap_ns: A longer gap between stamps resets the camera.
        until_ns: Latest stamp of the frames to process; None: no limit.
    """
    problems = SourceProblems(source.start_ns)
    stamp_filters: dict[str, StampFilter] = {}
    late = 0
    for item in watched(source):
        if until_ns is not None and item.stamp_ns > until_ns:
            late += 1  # a few late stamps can be wrong
            if late == LATE:
                break
            continue
        late = 0
        stamp_filter = stamp_filters.setdefault(item.source, StampFilter(max_gap_ns))
        if isinstance(item, Damaged):
            problems.damage(item)
            decision = stamp_filter.admit(item.stamp_ns)
        else:
            decision = stamp_filter.admit(item.stamp_ns, item.image.shape[:2])
            if decision.accepted:
                yield from perceiver.see(item, decision.reset_count)
        problems.stamp(item.source, decision.message)
    problems.close()
