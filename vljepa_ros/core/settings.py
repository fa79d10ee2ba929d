# SPDX-License-Identifier: Apache-2.0
"""Settings of a pipeline, validated on construction. Durations are in seconds (``_s``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.text import shown

EVER_NS = 2**62  # later than any stamp
MAX_PROMPTS = 32
MAX_PROMPT_CHARACTERS = 4096
LONGEST_RUN = 8  # newest embeddings tested for a change (more if the change threshold is high)
LEAST_DISTANCE = 0.0875  # cosine distance at which LONGEST_RUN embeddings reach the default cost
HIGHEST_THRESHOLD = 100.0  # merge cost that unrelated embeddings at 5 Hz reach after 20 s
EVER_S = 1e10  # longer than the time between any two ROS stamps


def check_text(text: object, what: str = 'prompt', may_be_empty: bool = True) -> str:
    """Return `text` if it is valid as a prompt, candidate or condition.

    Args:
        text: The value to check.
        what: Name of the value for the error message.
        may_be_empty: Whether an empty or blank text is valid.

    Raises:
        InputError: The value is not a string, too long, empty, or contains invalid characters.
    """
    if not isinstance(text, str):
        raise InputError(f'{what} is of type {type(text).__name__}, not a string')
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f'{what} of {len(text):,} characters is too long (at most {MAX_PROMPT_CHARACTERS:,})'
        )
    if '\0' in text:
        raise InputError(f'{what} contains a NUL character')
    if any('\ud800' <= character <= '\udfff' for character in text):
        raise InputError(f'{what} contains a lone surrogate, which is not valid Unicode text')
    if not may_be_empty and not text.strip():
        raise InputError(f'{what} is empty')
    return text


def texts_of(texts: object, what: str) -> tuple[str, ...]:
    """Return a sequence of texts as a tuple.

    Args:
        texts: The value to check.
        what: Name of the value for the error message.

    Raises:
        InputError: The value is not a sequence, or is a single string, whose characters would be
            treated as texts.
    """
    if isinstance(texts, str):
        raise InputError(f'{what} must be a list of texts, but {shown(texts)} is a single text')
    if not isinstance(texts, Sequence):
        raise InputError(f'{what} are of type {type(texts).__name__}, not a list of texts')
    return tuple(texts)


def check_integer(value: object, what: str) -> int:
    """Return an integer of any integer type as int; raise InputError for other values."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f'{what} ({shown(value)}) is not an integer')
    return int(value)


def check_stamp(stamp_ns: object, what: str = 'stamp_ns') -> int:
    """Return a stamp in nanoseconds as int; raise InputError if it is not a valid stamp."""
    found = check_integer(stamp_ns, what)
    if not 0 <= found < EVER_NS:
        reason = 'is negative' if found < 0 else 'is too large for a stamp in ns'
        raise InputError(f'{what} ({shown(found)}) {reason}')
    return found


def _in_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f'{name} ({shown(value)}) is not a number')
    try:
        number = float(value)
    except OverflowError:  # an integer with hundreds of digits
        number = math.inf
    if not math.isfinite(number) or not low <= number <= high:
        raise InputError(f'{name} ({number}) is not in {low:g}..{high:g}')


@dataclass(frozen=True)
class PerceptionSettings:
    """Standing prompts and frame sampling.

    `rate`: sampling rate in Hz; 0: the rate the model was trained at. `max_gap_s`: a longer gap
    between received stamps resets the camera.
    """

    prompts: tuple[str, ...] = ('What is happening?',)
    rate: float = 0.0
    max_gap_s: float = 2.0

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid."""
        check_prompts(self.prompts)
        _in_range('rate', self.rate, 0.0, 1000.0)
        _in_range('max_gap', self.max_gap_s, 0.01, 3600.0)

    @property
    def max_gap_ns(self) -> int:
        """`max_gap_s` in nanoseconds."""
        return round(self.max_gap_s * 1e9)


def check_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """Return the standing prompts as a tuple if they are valid.

    Raises:
        InputError: There are more than `MAX_PROMPTS` prompts, two are equal, or one is invalid.
    """
    prompts = texts_of(prompts, 'standing prompts')
    if len(prompts) > MAX_PROMPTS:
        raise InputError(f'{len(prompts)} standing prompts are too many (at most {MAX_PROMPTS})')
    for prompt in prompts:
        check_text(prompt)
    if len(set(prompts)) != len(prompts):
        twice = next(prompt for prompt in prompts if prompts.count(prompt) > 1)
        raise InputError(f'standing prompt {shown(twice)} is listed twice')
    return prompts


def check_span(start_ns: int, end_ns: int) -> tuple[int, int]:
    """Return a time span as ints if it is valid; `end_ns` 0 is an open end.

    Raises:
        InputError: A time is not a valid stamp, or the span ends before it starts.
    """
    start_ns, end_ns = check_stamp(start_ns, 'start_ns'), check_stamp(end_ns, 'end_ns')
    if end_ns and end_ns < start_ns:
        raise InputError(f'the span ends {(start_ns - end_ns) / 1e9:.3f} s before it starts')
    return start_ns, end_ns


@dataclass(frozen=True)
class SegmenterSettings:
    """Parameters of change detection.

    `change_threshold`: Ward merge cost of the newest k embeddings, above the noise of the stream,
    beyond which a new segment starts (at most 2 k d for a cosine distance d). For a high
    threshold, the maximum k is increased so that any d above 0.09 can reach the threshold.
    `confirm_hops`: minimum k. `min_segment_s`: minimum duration of the previous segment.
    `drift_threshold`: a segment is decoded again if its mean or its end is farther than this
    cosine distance from the vector that was decoded last. `events_per_minute`: long-term limit on
    text events (0: no limit); both thresholds rise if it is exceeded.
    """

    change_threshold: float = 1.4
    confirm_hops: int = 2
    min_segment_s: float = 0.8
    drift_threshold: float = 0.2
    events_per_minute: float = 0.0

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid."""
        _in_range('change_threshold', self.change_threshold, 0.0, HIGHEST_THRESHOLD)
        check_integer(self.confirm_hops, 'confirm_hops')
        _in_range('confirm_hops', self.confirm_hops, 1, LONGEST_RUN)
        _in_range('min_segment', self.min_segment_s, 0.0, 3600.0)
        _in_range('drift_threshold', self.drift_threshold, 0.0, 2.0)
        _in_range('events_per_minute', self.events_per_minute, 0.0, 6000.0)
        if self.events_per_minute and not (self.change_threshold and self.drift_threshold):
            raise InputError(
                f'events_per_minute needs change_threshold ({self.change_threshold:g}) and '
                f'drift_threshold ({self.drift_threshold:g}) above 0'
            )

    @property
    def longest_run(self) -> int:
        """Maximum number of newest embeddings that are tested for a change."""
        return max(LONGEST_RUN, math.ceil(self.change_threshold / (2 * LEAST_DISTANCE)))


@dataclass(frozen=True)
class AnswerSettings:
    """Settings of answers: answers with a confidence below `abstain_below` are abstentions."""

    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid."""
        _in_range('abstain_below', self.abstain_below, 0.0, 1.0)


@dataclass(frozen=True)
class MemorySettings:
    """Retention times of segments (`kept_s`) and embeddings (`hops_kept_s`), and a size limit."""

    kept_s: float = 7 * 86400.0
    hops_kept_s: float = 3600.0
    most_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid."""
        _in_range('memory_kept', self.kept_s, 1.0, EVER_S)
        _in_range('memory_hops_kept', self.hops_kept_s, 1.0, EVER_S)
        _in_range('memory_bytes', self.most_bytes, 100_000, 1e15)


@dataclass(frozen=True)
class FrameStoreSettings:
    """Retention time and size limit of stored frames, for new questions about the past."""

    kept_s: float = 7 * 86400.0
    most_bytes: int = 100_000_000

    def __post_init__(self) -> None:
        """Raise InputError if a value is invalid."""
        _in_range('frames_kept', self.kept_s, 1.0, EVER_S)
        _in_range('frames_bytes', self.most_bytes, 100_000, 1e15)


@dataclass(frozen=True)
class Settings:
    """All settings of a `Pipeline`."""

    perception: PerceptionSettings = field(default_factory=PerceptionSettings)
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    frame_store: FrameStoreSettings = field(default_factory=FrameStoreSettings)

    def __post_init__(self) -> None:
        """Raise InputError if a field is of a wrong type."""
        for part in fields(self):
            value, kind = getattr(self, part.name), part.default_factory
            if isinstance(kind, type) and not isinstance(value, kind):
                raise InputError(
                    f'settings: {part.name} ({shown(value)}) is not of type {kind.__name__}'
                )
