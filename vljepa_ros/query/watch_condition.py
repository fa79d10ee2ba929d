# SPDX-License-Identifier: Apache-2.0
"""Whether a condition in words holds in a stream: the judge of Watch. Reads no clock.

A hop has one embedding a standing prompt; the condition's score in it is the best of theirs. It
holds when that reaches the threshold in some hops in a row, and has ceased when it stays clearly
below in as many: what flickers about the threshold does neither. A hop counts as holding as soon
as one of its prompts reaches the threshold, and as ceased only when it is whole. A hop that is
unfamiliar to the model has the score 0, and neither holds nor ceases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.settings import check_text
from vljepa_ros.core.types import WITHHELD, AbstainReason, Embedding, Moment


@dataclass
class _Hop:
    """The scores of one source's newest hop, by prompt."""

    stamp_ns: int
    window_start_ns: int
    reset_count: int
    is_unfamiliar: bool = False
    expected: int = 0  # prompts of the hop before; 0 for the first hop
    row: int = 0  # hops directly before it that count
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The best of its prompts."""
        return 0.0 if self.is_unfamiliar else max(self.scores.values())


RELEASE = 0.4  # share of the threshold that the score of what has ceased stays below


class Condition:
    """One condition on one source (empty: on any). Fires once."""

    def __init__(
        self,
        text: str,
        threshold: float,
        until_not: bool = False,
        source: str = '',
        hops: int = 1,
    ) -> None:
        """`hops`: in a row, that it holds, or has ceased, before it fires."""
        self.text = check_text(text, 'condition', may_be_empty=False)
        if not math.isfinite(threshold) or not 0 < threshold <= 1:
            raise InputError(f'threshold ({threshold}) is not in 0..1')
        self.threshold, self.until_not, self.source = threshold, until_not, source
        self.score = 0.0
        self.unfamiliar: float | None = None  # of the newest hop, 0..1; None before the first one
        self._needed = hops
        self._hops: dict[str, _Hop] = {}

    def concerns(self, source: str) -> bool:
        """Whether embeddings of a source count."""
        return self.source in ('', source)

    @property
    def abstain_reason(self) -> AbstainReason:
        """Whether the newest hop could be evaluated."""
        if self.unfamiliar is None:
            return AbstainReason.NOT_SEEN
        return AbstainReason.UNFAMILIAR if self.unfamiliar >= WITHHELD else AbstainReason.NONE

    def push(self, embedding: Embedding, score: float) -> Moment | None:
        """The moment that made it fire, if this embedding does; `score` is its 0..1 similarity."""
        source = embedding.key.source
        if not self.concerns(source):
            return None
        before = self._hops.get(source)
        hop, fired = before, None
        if before is None or before.stamp_ns != embedding.stamp_ns:
            # The hop before is whole now; where its prompts were known it was judged already.
            fired = self._ceased(source, before) if before and not before.expected else None
            hop = self._hops[source] = self._next(before, embedding)
        assert hop is not None
        hop.scores[embedding.key.prompt] = score
        self.score, self.unfamiliar = hop.score, embedding.unfamiliar
        if fired is not None:
            return fired
        if self.until_not:
            whole = hop.expected and len(hop.scores) >= hop.expected
            return self._ceased(source, hop) if whole else None
        if self._counts(hop) and hop.row + 1 >= self._needed:
            return self._moment(source, hop, hop.score)
        return None

    def _next(self, before: _Hop | None, embedding: Embedding) -> _Hop:
        hop = _Hop(
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

    def _counts(self, hop: _Hop) -> bool:
        if hop.is_unfamiliar:
            return False
        if self.until_not:
            return hop.score < RELEASE * self.threshold
        return hop.score >= self.threshold

    def _ceased(self, source: str, hop: _Hop) -> Moment | None:
        if not self.until_not or not self._counts(hop) or hop.row + 1 < self._needed:
            return None
        return self._moment(source, hop, 1 - hop.score)

    def _moment(self, source: str, hop: _Hop, score: float) -> Moment:
        return Moment(source, hop.window_start_ns, hop.stamp_ns, score, self.text)
