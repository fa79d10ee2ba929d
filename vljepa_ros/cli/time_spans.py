# SPDX-License-Identifier: Apache-2.0
"""Options --at, --from and --to, which select a moment or a span of a source.

Their values are seconds from the start of the source.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vljepa_ros.core.errors import InputError

if TYPE_CHECKING:
    from vljepa_ros.sources import Source

SECOND_NS = 1_000_000_000
LONGEST_S = 1e9  # upper limit of the options


@dataclass(frozen=True)
class Span:
    """Span from `start_ns` to `end_ns`, both inclusive; None means no limit.

    `moment`: whether the span is only the moment `end_ns`.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    moment: bool = False

    def begins_after(self, stamp_ns: int) -> bool:
        """Return whether the span begins after a stamp."""
        return self.start_ns is not None and stamp_ns < self.start_ns


def add_span_arguments(
    parser: argparse.ArgumentParser,
    moment: bool,
    unit: str = 'seconds from the start of the recording',
) -> None:
    """Add the options --from and --to, and if `moment` is true also --at."""
    if moment:
        parser.add_argument(
            '--at', type=float, metavar='T', help=f'the moment to ask about, in {unit}'
        )
    parser.add_argument(
        '--from',
        type=float,
        metavar='A',
        dest='from_s',
        help=f'start of a time span, in {unit}',
    )
    parser.add_argument(
        '--to',
        type=float,
        metavar='B',
        dest='to_s',
        help=f'end of a time span, in {unit}',
    )


def read_span(args: argparse.Namespace, source_start_ns: int, latest_s: float = LONGEST_S) -> Span:
    """Return the span that --at, --from and --to select.

    Args:
        args: Parsed arguments of the command.
        source_start_ns: Start of the source.
        latest_s: Upper limit of the values, exclusive.

    Raises:
        InputError: A value is out of range, or the options contradict each other.
    """
    at_s, from_s, to_s = getattr(args, 'at', None), args.from_s, args.to_s
    for name, value in (('--at', at_s), ('--from', from_s), ('--to', to_s)):
        if value is not None and (not math.isfinite(value) or not 0 <= value < latest_s):
            raise InputError(f'{name} ({value:g}) must be 0 or more and less than {latest_s:g} s')
    if at_s is not None and (from_s is not None or to_s is not None):
        raise InputError('--at (a moment) cannot be combined with --from or --to (a span)')
    if from_s is not None and to_s is not None and to_s < from_s:
        raise InputError(f'--to ({to_s:g}) is before --from ({from_s:g})')

    def stamp(value: float | None) -> int | None:
        return None if value is None else source_start_ns + round(value * SECOND_NS)

    if at_s is not None:
        return Span(None, stamp(at_s), True)
    return Span(stamp(from_s), stamp(to_s))


def check_reached(source: Source, span: Span, newest_ns: int) -> None:
    """Raise InputError if a span begins more than 1 s after the newest hop of its source.

    Args:
        source: The source.
        span: The span or moment.
        newest_ns: Stamp of the newest hop; 0 if there is no hop.
    """
    asked_ns = span.end_ns if span.moment else span.start_ns
    slack_ns = SECOND_NS  # the last frames may not fill a hop
    if asked_ns is not None and newest_ns and asked_ns > newest_ns + slack_ns:
        asked_s, end_s = ((ns - source.start_ns) / SECOND_NS for ns in (asked_ns, newest_ns))
        raise InputError(
            f'{source.path}: {asked_s:g} s is after the end of the recording ({end_s:g} s)'
        )
