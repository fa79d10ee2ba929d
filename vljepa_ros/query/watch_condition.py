# SPDX-License-Identifier: Apache-2.0
"""Watch condition: detect when a statement becomes true, or stops being true, in a stream.

Uses stamps only, no clock. A hop (inference step) has one embedding per standing prompt; the score
of the hop is the maximum of their scores. A condition fires after `hops` consecutive hops whose
verdicts have the effect COUNT in `EFFECTS`; a state reset of the camera restarts the count. The
verdict of a hop is TRUE as soon as one of its scores reaches the threshold; all other verdicts
require the scores of all prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import check_text
from vljepa_ros.core.types import WITHHELD, AbstainReason, Embedding, Moment

RELEASE = 0.4  # a hop is false below this fraction of the threshold


class HopVerdict(Enum):
    """Result of comparing the score of one hop with the threshold."""

    TRUE = 'score at or above the threshold'
    UNCLEAR = f'score from {RELEASE:g} x threshold up to the threshold'
    FALSE = f'score below {RELEASE:g} x threshold'
    UNFAMILIAR = 'scene unfamiliar to the model'


class Effect(Enum):
    """Effect of a hop on the count of consecutive hops."""

    COUNT = 'counts'
    RESTART = 'restarts the count'


# Keys: (`until_not`, verdict). UNCLEAR restarts the count in both cases, so that a score that
# fluctuates around the threshold does not fire a condition that requires several hops.
EFFECTS: dict[tuple[bool, HopVerdict], Effect] = {
    (False, HopVerdict.TRUE): Effect.COUNT,
    (False, HopVerdict.UNCLEAR): Effect.RESTART,
    (False, HopVerdict.FALSE): Effect.RESTART,
    (False, HopVerdict.UNFAMILIAR): Effect.RESTART,
    (True, HopVerdict.TRUE): Effect.RESTART,
    (True, HopVerdict.UNCLEAR): Effect.RESTART,
    (True, HopVerdict.FALSE): Effect.COUNT,
    (True, HopVerdict.UNFAMILIAR): Effect.RESTART,
}


@dataclass
class _ScoredHop:
    """Newest hop of one camera, with its scores by prompt."""

    stamp_ns: int
    window_start_ns: int
    reset_count: int
    is_unfamiliar: bool = False
    expected: int = 0  # number of prompts of the previous hop; 0 for the first hop
    row: int = 0  # number of consecutive hops directly before this hop that count
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Maximum score over the prompts, 0..1; 0 if the scene is unfamiliar to the model."""
        return 0.0 if self.is_unfamiliar else max(self.scores.values())

    def verdict(self, threshold: float) -> HopVerdict:
        """Return the verdict for a threshold."""
        if self.is_unfamiliar:
            return HopVerdict.UNFAMILIAR
        if self.score >= threshold:
            return HopVerdict.TRUE
        return HopVerdict.FALSE if self.score < RELEASE * threshold else HopVerdict.UNCLEAR


class Condition:
    """Watch condition on one camera or on all cameras.

    `score` and `unfamiliar` describe the newest hop.
    """

    def __init__(
        self,
        text: str,
        threshold: float,
        until_not: bool = False,
        source: str = '',
        hops: int = 1,
    ) -> None:
        """Create a condition.

        Args:
            text: Statement to compare with each embedding.
            threshold: Minimum score at which the statement counts as true; above 0, at most 1.
            until_not: Whether to fire when the statement stops being true, not when it becomes
                true.
            source: Name of the camera; '' for any.
            hops: Number of consecutive hops that must agree before the condition fires.

        Raises:
            InputError: The text or threshold is invalid.
        """
        self.text = check_text(text, 'condition', may_be_empty=False)
        if not math.isfinite(threshold) or not 0 < threshold <= 1:
            raise InputError(f'threshold ({threshold}) must be above 0 and at most 1')
        self.threshold, self.until_not, self.source = threshold, until_not, source
        self.score = 0.0
        self.unfamiliar: float | None = None  # of the newest hop, 0..1; None before the first hop
        self._needed = hops
        self._hops: dict[str, _ScoredHop] = {}

    def concerns(self, source: str) -> bool:
        """Return whether the condition applies to a camera."""
        return self.source in ('', source)

    @property
    def abstain_reason(self) -> AbstainReason:
        """Reason why the newest hop could not be evaluated; NONE if it was evaluated."""
        if self.unfamiliar is None:
            return AbstainReason.NOT_SEEN
        return AbstainReason.UNFAMILIAR if self.unfamiliar >= WITHHELD else AbstainReason.NONE

    def push(self, embedding: Embedding, score: float) -> Moment | None:
        """Add one embedding with its score, and return the moment at which the condition fires.

        Args:
            embedding: The embedding.
            score: Its calibrated similarity to the text, 0..1.

        Returns:
            The moment that made the condition fire, or None.
        """
        source = embedding.key.source
        if not self.concerns(source):
            return None
        before = self._hops.get(source)
        hop, fired = before, None
        if before is None or before.stamp_ns != embedding.stamp_ns:
            # The previous hop is complete; if its prompts were known, it was evaluated already.
            fired = self._stopped(source, before) if before and not before.expected else None
            hop = self._hops[source] = self._next(before, embedding)
        assert hop is not None
        hop.scores[embedding.key.prompt] = score
        self.score, self.unfamiliar = hop.score, embedding.unfamiliar
        if fired is not None:
            return fired
        if self.until_not:
            complete = hop.expected and len(hop.scores) >= hop.expected
            return self._stopped(source, hop) if complete else None
        if self._counts(hop) and hop.row + 1 >= self._needed:
            return self._moment(source, hop, hop.score)
        return None

    def _next(self, before: _ScoredHop | None, embedding: Embedding) -> _ScoredHop:
        hop = _ScoredHop(
            embedding.stamp_ns,
            embedding.window_start_ns,
            embedding.reset_count,
            embedding.unfamiliar >= WITHHELD,
        )
        if before is not None:
            hop.expected = len(before.scores)
            goes_on = hop.reset_count == before.reset_count and hop.stamp_ns > before.stamp_ns
            hop.row = before.row + 1 if goes_on and self._counts(before) else 0
        return hop

    def _counts(self, hop: _ScoredHop) -> bool:
        return EFFECTS[self.until_not, hop.verdict(self.threshold)] is Effect.COUNT

    def _stopped(self, source: str, hop: _ScoredHop) -> Moment | None:
        if not self.until_not or not self._counts(hop) or hop.row + 1 < self._needed:
            return None
        return self._moment(source, hop, 1 - hop.score)

    def _moment(self, source: str, hop: _ScoredHop, score: float) -> Moment:
        return Moment(source, hop.window_start_ns, hop.stamp_ns, score, self.text)
