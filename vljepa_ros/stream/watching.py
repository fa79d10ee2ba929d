# SPDX-License-Identifier: Apache-2.0
"""Whether a condition in words holds in a stream: the judge of Watch. Reads no clock.

A hop has one embedding a standing prompt; the condition's score in it is the best of theirs. It
holds as soon as one reaches the threshold, and has ceased only when a whole hop stays below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vljepa_ros.errors import InputError
from vljepa_ros.stream.settings import check_text
from vljepa_ros.stream.types import Embedding, Moment


@dataclass
class _Hop:
    """The scores of one source's newest hop, by prompt."""

    stamp_ns: int
    window_start_ns: int
    expected: int  # prompts of the hop before; 0 for the first hop
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The best of its prompts."""
        return max(self.scores.values())


class Condition:
    """One condition on one source (empty: on any). Fires once."""

    def __init__(
        self, text: str, threshold: float, until_not: bool = False, source: str = ''
    ) -> None:
        self.text = check_text(text, 'condition', may_be_empty=False)
        if not math.isfinite(threshold) or not 0 < threshold <= 1:
            raise InputError(f'threshold ({threshold}) is not in 0..1')
        self.threshold, self.until_not, self.source = threshold, until_not, source
        self.score = 0.0
        self._hops: dict[str, _Hop] = {}

    def concerns(self, source: str) -> bool:
        """Whether embeddings of a source count."""
        return self.source in ('', source)

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
            hop = _Hop(
                embedding.stamp_ns, embedding.window_start_ns, len(before.scores) if before else 0
            )
            self._hops[source] = hop
        assert hop is not None
        hop.scores[embedding.key.prompt] = score
        self.score = hop.score
        if fired is not None:
            return fired
        if self.until_not:
            whole = hop.expected and len(hop.scores) >= hop.expected
            return self._ceased(source, hop) if whole else None
        return self._moment(source, hop, hop.score) if hop.score >= self.threshold else None

    def _ceased(self, source: str, hop: _Hop) -> Moment | None:
        if not self.until_not or hop.score >= self.threshold:
            return None
        return self._moment(source, hop, 1 - hop.score)

    def _moment(self, source: str, hop: _Hop, score: float) -> Moment:
        return Moment(source, hop.window_start_ns, hop.stamp_ns, score, self.text)
