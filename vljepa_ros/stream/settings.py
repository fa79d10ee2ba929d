# SPDX-License-Identifier: Apache-2.0
"""What a user may set about the stream; every value is checked once, here.

Durations are in seconds (``_s``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vljepa_ros.errors import InputError

MAX_PROMPTS = 32
MAX_PROMPT_CHARACTERS = 4096
LONGEST_RUN = 8  # embeddings that may begin a segment, at most; more where the threshold is high
LEAST_DISTANCE = 0.0875  # a cosine distance that so many would have to be apart by the default
HIGHEST_THRESHOLD = 100.0  # of a change: what differs wholly counts after 20 s, at 5 a second
EVER_S = 1e10  # longer than any two stamps of ROS are apart


def check_text(text: object, what: str = 'prompt', may_be_empty: bool = True) -> str:
    """`text` if it is a text that a model may read; InputError says what is wrong with it."""
    if not isinstance(text, str):
        raise InputError(f'{what} is of type {type(text).__name__}, not a text')
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise InputError(
            f'{what} of {len(text):,} characters is too long (at most {MAX_PROMPT_CHARACTERS:,})'
        )
    if '\0' in text:
        raise InputError(f'{what} holds a NUL character')
    if any('\ud800' <= character <= '\udfff' for character in text):
        raise InputError(f'{what} holds half a character (a lone surrogate)')
    if not may_be_empty and not text.strip():
        raise InputError(f'{what} is empty')
    return text


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise InputError(f'{name} ({value}) is not in {low:g}..{high:g}')


@dataclass(frozen=True)
class PerceptionSettings:
    """Standing prompts, and how frames are sampled.

    `rate` 0 means the model's own.
    """

    prompts: tuple[str, ...] = ('What is happening?',)
    rate: float = 0.0
    max_gap_s: float = 2.0

    def __post_init__(self) -> None:
        """Check every value."""
        check_prompts(self.prompts)
        _in_range('rate', self.rate, 0.0, 1000.0)
        _in_range('max_gap', self.max_gap_s, 0.01, 3600.0)

    @property
    def max_gap_ns(self) -> int:
        """`max_gap_s` in nanoseconds."""
        return round(self.max_gap_s * 1e9)


def check_prompts(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """Standing prompts: at most `MAX_PROMPTS`, no two alike."""
    if len(prompts) > MAX_PROMPTS:
        raise InputError(f'{len(prompts)} standing prompts are too many (at most {MAX_PROMPTS})')
    for prompt in prompts:
        check_text(prompt)
    if len(set(prompts)) != len(prompts):
        raise InputError('two standing prompts are the same')
    return tuple(prompts)


def check_span(start_ns: int, end_ns: int) -> None:
    """A span of time; `end_ns` 0 is now. Raises InputError where it is none."""
    if end_ns and end_ns < start_ns:
        raise InputError(f'the span ends {(start_ns - end_ns) / 1e9:.3f} s before it starts')


@dataclass(frozen=True)
class SegmenterSettings:
    """When the meaning of a stream has changed.

    `change_threshold`: what the newest embeddings must cost in the running segment, by Ward's
    criterion, above the stream's own noise: k of them at a cosine distance d cost up to 2 d k. A
    high threshold is for what lasts: k may be so large that any d above 0.09 can reach it.
    There are at least `confirm_hops` of them, and the segment before is `min_segment_s` long. A
    segment whose mean, without the newest, is farther than `drift_threshold` (cosine distance)
    from what was last put into words is put into words again; so is its end, when it is over.
    Where there is more to say than `events_per_minute` (0: no limit), both thresholds rise until
    there is not.
    """

    change_threshold: float = 1.4
    confirm_hops: int = 2
    min_segment_s: float = 0.8
    drift_threshold: float = 0.2
    events_per_minute: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        _in_range('change_threshold', self.change_threshold, 0.0, HIGHEST_THRESHOLD)
        _in_range('confirm_hops', self.confirm_hops, 1, LONGEST_RUN)
        _in_range('min_segment', self.min_segment_s, 0.0, 3600.0)
        _in_range('drift_threshold', self.drift_threshold, 0.0, 2.0)
        _in_range('events_per_minute', self.events_per_minute, 0.0, 6000.0)
        if self.events_per_minute and not (self.change_threshold and self.drift_threshold):
            raise InputError('events_per_minute needs thresholds above 0, which it can raise')

    @property
    def longest_run(self) -> int:
        """How many of the newest embeddings are looked at for a change."""
        return max(LONGEST_RUN, math.ceil(self.change_threshold / (2 * LEAST_DISTANCE)))


@dataclass(frozen=True)
class AnswerSettings:
    """An answer with less confidence than `abstain_below` is given as an abstention."""

    abstain_below: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        _in_range('abstain_below', self.abstain_below, 0.0, 1.0)


@dataclass(frozen=True)
class MemorySettings:
    """How long a stream is remembered: in segments, and in every hop; how much of all at most."""

    kept_s: float = 7 * 86400.0
    hops_kept_s: float = 3600.0
    most_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        """Check every value."""
        _in_range('memory_kept', self.kept_s, 1.0, EVER_S)
        _in_range('memory_hops_kept', self.hops_kept_s, 1.0, EVER_S)
        _in_range('memory_bytes', self.most_bytes, 100_000, 1e15)


@dataclass(frozen=True)
class FootageSettings:
    """How long frames are kept, to be looked at again, and how much of all of them at most."""

    kept_s: float = 7 * 86400.0
    most_bytes: int = 100_000_000

    def __post_init__(self) -> None:
        """Check every value."""
        _in_range('frames_kept', self.kept_s, 1.0, EVER_S)
        _in_range('frames_bytes', self.most_bytes, 100_000, 1e15)


@dataclass(frozen=True)
class Settings:
    """All of it."""

    perception: PerceptionSettings = field(default_factory=PerceptionSettings)
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    footage: FootageSettings = field(default_factory=FootageSettings)
