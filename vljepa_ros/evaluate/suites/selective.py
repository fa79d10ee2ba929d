# SPDX-License-Identifier: Apache-2.0
"""Suite selective: caption quality of selective decoding against the number of decodes.

This is an exact form of the paper's protocol. An annotation is compared with the text of the
decode nearest to its midpoint (the earlier decode of a tie); the score is the mean CIDEr-D against
five fixed paraphrases. The score *in force* uses the last text emitted before the midpoint and is
0 without such a text. It does not exist for offline rules, which need the whole stream before they
emit a text (offline Ward, peaks of motion energy, oracle boundaries).

Embeddings are computed once per stream; `evaluate.decode_rules` has the rules. Every decode that a
rule requests counts: for our rule the first of a stream, one per new segment and one per update.
(A segment ends with its last text, without another decode.) Decodes that no annotation uses are
counted, but not computed.

The baseline is uniform decoding at one decode per second. For each budget, our rule has one
threshold for all streams: the lowest that spends at most 95% of the budget over all streams of
`context.validation` (the margin allows for streams with more changes). The validation streams are
concatenated to the length of the evaluated streams, because the first decode of a stream is
mandatory. "Ours by default" has no budget; it uses the default thresholds of the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Language
from vljepa_ros.data.annotation_file import read_annotations
from vljepa_ros.data.embeddings import read_embeddings
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decode_rules import (
    DEFAULT_THRESHOLD,
    PERIODS_S,
    Decodes,
    allowed,
    end_to_end,
    middle_ns,
    moving,
    named,
    online,
    pooled,
    thresholds_within,
    uniform,
    ward,
    within,
)
from vljepa_ros.evaluate.decoded_texts import CachedDecoder, blind_text, decoder_of, oracle_texts
from vljepa_ros.evaluate.document_frequencies import references, scorer
from vljepa_ros.evaluate.moments import is_known
from vljepa_ros.evaluate.motion import Motion, motion_of
from vljepa_ros.evaluate.report import Points, Report, Row
from vljepa_ros.evaluate.statistics import Draws, Mean, draws, mean, more, redrawn, share
from vljepa_ros.evaluate.stream_embeddings import (
    Indices,
    Stamps,
    StreamEmbeddings,
    hops_of,
    nearest,
)
from vljepa_ros.evaluate.views import Vectors
from vljepa_ros.stream.offline_segmenter import need_ward

UNIFORM, POOLED, WARD, OURS = 'uniform', 'uniform + pooling', 'offline Ward', 'ours'
MOTION = 'motion energy'  # for streams with frames only
LINES = (UNIFORM, POOLED, MOTION, WARD, OURS)
EMITTING = (UNIFORM, POOLED, OURS)
AS_UNIFORM = (POOLED, WARD)  # as many decodes as uniform
BY_DEFAULT = 'ours by default'
BOUNDARIES, BASELINE, ORACLE, BLIND = 'oracle boundaries', 'baseline', 'oracle', 'blind'
ONES = (BLIND, ORACLE, BOUNDARIES)  # rows without a budget
# Two upper bounds: the text of the true concept, and our text between the true boundaries.
BEST = {ORACLE: "share of the oracle's", BOUNDARIES: "share of the oracle boundaries'"}
BASELINE_S, SPARSE_S = 1.0, 2.85  # seconds per decode: the baseline, and the target of our rule
BUDGET_SHARE = 0.95  # fraction of a budget spent on validation
KEPT_TARGET, ORACLE_TARGET = 0.98, 0.70  # ours relative to baseline; baseline relative to oracle
CIDER, IN_FORCE = 'CIDEr-D', 'CIDEr-D in force'

Key = tuple[str, float]  # row, and the period of its budget in seconds
ONCE = 0.0  # the period of rows without a budget
Thresholds = Mapping[float, float]  # period -> threshold
Values = NDArray[np.float64]


@dataclass(frozen=True)
class AnnotatedSpan:
    """Annotated span (seconds) with its reference texts."""

    start_s: float
    end_s: float
    references: tuple[str, ...]


@dataclass(frozen=True)
class Recorded:
    """Embeddings, annotations and motion energy of a stream.

    `others`: texts of the baselines, one per annotation.
    """

    name: str
    hops: StreamEmbeddings
    spans: tuple[AnnotatedSpan, ...]
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    motion: Motion | None = None

    @property
    def middles_ns(self) -> Stamps:
        """Return the midpoints (A,) of the annotations, in nanoseconds."""
        return np.array([middle_ns(s.start_s, s.end_s) for s in self.spans], np.int64)


@dataclass(frozen=True)
class RuleResult:
    """Result of one rule in one stream.

    `decodes`: number of decodes. `nearest`, `in_force`: CIDEr-D (A,) of the nearest text and of
    the text in force at each annotation; None for offline rules.
    """

    decodes: int
    nearest: Values
    in_force: Values | None = None


def selective(context: Context) -> Report:
    """Return the results of all rules, with thresholds chosen on the validation streams.

    Raises:
        InputError: The context has no validation streams.
    """
    need_ward()
    if not context.validation:
        raise InputError('the suite selective needs validation streams to select its thresholds')
    known = [s for s in context.streams if is_known(s, context.concepts.tasks)]
    streams = list({s.folder: s for s in (*context.validation, *known)}.values())
    each = context.map(embedded, streams, 'streams')
    hops = {s.folder: h for s, h in zip(streams, each, strict=True) if len(h.stamps_ns) > 1}
    chosen_on = [hops[s.folder] for s in context.validation if s.folder in hops]
    recorded = [record(context, s, hops[s.folder]) for s in known if s.folder in hops]
    if not recorded:
        return Report('selective', (), ('These streams have no annotations to caption.',))
    longest_s = max(r.hops.seconds for r in recorded)
    chosen_on = end_to_end(chosen_on, longest_s)
    periods_s = context.each(PERIODS_S, 'thresholds')
    thresholds = thresholds_within(chosen_on, periods_s, BUDGET_SHARE)
    cider, corpus = scorer(context.streams)
    score = partial(_scored, thresholds=thresholds, cider=cider)
    scored = context.map(score, recorded, 'decodes')
    about = f"Thresholds of 'ours' are selected on {len(context.validation)} validation streams."
    note = f'{about} Document frequencies: {corpus}.'
    return report(Table(recorded, scored), thresholds, note)


def selective_of_own(embeddings: Path, annotations: Path, language: Language) -> Report:
    """Return the results of all rules on a user's embeddings; thresholds fit the same data.

    Args:
        embeddings: File of embeddings (see `data.embeddings`).
        annotations: Annotation file of one camera; its texts are the references.
        language: Text side of the model that computed the embeddings.

    Raises:
        InputError: A file is invalid.
    """
    need_ward()
    read, texts = read_embeddings(embeddings, language.facts), read_annotations(annotations).texts
    if not texts:
        raise InputError(f'{annotations} contains no text with a start and an end')
    cameras = sorted({line.source for line in texts} - {''})
    if len(cameras) > 1:
        raise InputError(
            f'{annotations} has lines of several cameras ({", ".join(cameras)}): '
            'keep the lines of one camera'
        )
    found = StreamEmbeddings(read.vectors, read.stamps_ns)
    spans = tuple(AnnotatedSpan(line.start, line.end, (line.text,)) for line in texts)
    recorded = Recorded(embeddings.name, found, spans)
    thresholds = thresholds_within([found], PERIODS_S)
    cider = Cider([s.references for s in spans])
    scored = score_rows(recorded, thresholds, CachedDecoder(language), cider)
    note = (
        f"Thresholds of 'ours' are selected, and document frequencies counted, on these "
        f'{len(spans)} annotations.'
    )
    return report(Table([recorded], [scored]), thresholds, note)


def embedded(context: Context, stream: Stream) -> StreamEmbeddings:
    """Return all embeddings of a stream."""
    return hops_of(context.vision, stream)


def record(context: Context, stream: Stream, hops: StreamEmbeddings) -> Recorded:
    """Return the embeddings of a stream with its references and the texts of the baselines."""
    shown = [a for a in stream.annotations if not a.hidden]
    spans = tuple(
        AnnotatedSpan(a.start, a.end, references(context.concepts, a.meaning)) for a in shown
    )
    others = {
        ORACLE: oracle_texts(context, [a.meaning for a in shown]),
        BLIND: [blind_text(context)] * len(spans),
    }
    return Recorded(stream.name, hops, spans, others, motion_of(stream))


def planned(recorded: Recorded, thresholds: Thresholds) -> dict[Key, Decodes]:
    """Return the decodes of every rule at every budget for a stream."""
    hops, found = recorded.hops, dict[Key, Decodes]()
    for period, threshold in thresholds.items():
        count = allowed(hops, period)
        found[UNIFORM, period] = uniform(hops, count)
        found[POOLED, period] = pooled(hops, count)
        found[WARD, period] = ward(hops, count)
        found[OURS, period] = online(hops, threshold)
        if recorded.motion is not None:
            found[MOTION, period] = moving(hops, recorded.motion, count)
    spans_s = [(s.start_s, s.end_s) for s in recorded.spans]
    found[BOUNDARIES, ONCE] = within(hops, spans_s)
    found[BY_DEFAULT, ONCE] = online(hops, DEFAULT_THRESHOLD)
    return found


def in_force(emitted_ns: Stamps, times_ns: Stamps) -> Indices:
    """Return the index of the last decode emitted before each of A times; -1 if none."""
    return np.searchsorted(emitted_ns, times_ns, side='left') - 1


def taken(decodes: Decodes, times_ns: Stamps) -> list[Indices]:
    """Return the index of the nearest decode and, for online rules, of the decode in force.

    Both are arrays (A,), with one index for each time of `times_ns`.
    """
    found = [nearest(decodes.at_ns, times_ns)]
    if decodes.emitted_ns is not None:
        found.append(in_force(decodes.emitted_ns, times_ns))
    return found


def _scored(
    context: Context, recorded: Recorded, thresholds: Thresholds, cider: Cider
) -> dict[Key, RuleResult]:
    return score_rows(recorded, thresholds, decoder_of(context), cider)


def score_rows(
    recorded: Recorded, thresholds: Thresholds, words: CachedDecoder, cider: Cider
) -> dict[Key, RuleResult]:
    """Return the result of every rule in one stream; all vectors are decoded in one batch."""
    plans, times_ns = planned(recorded, thresholds), recorded.middles_ns
    picks = {key: taken(decodes, times_ns) for key, decodes in plans.items()}
    rows = [plans[key].vectors[pick[pick >= 0]] for key in plans for pick in picks[key]]
    words.texts(np.concatenate(rows))
    worth = cache(cider.score)

    def score(vectors: Vectors, pick: Indices) -> Values:
        found, heard = np.zeros(len(pick)), np.flatnonzero(pick >= 0)
        for i, text in zip(heard, words.texts(vectors[pick[heard]]), strict=True):
            found[i] = worth(text, recorded.spans[i].references)
        return found

    scored = {
        key: RuleResult(len(d.at_ns), *(score(d.vectors, pick) for pick in picks[key]))
        for key, d in plans.items()
    }
    for who, texts in recorded.others.items():
        each = zip(texts, recorded.spans, strict=True)
        values = np.array([worth(text, span.references) for text, span in each])
        scored[who, ONCE] = RuleResult(0, values)
    return scored


class Table:
    """Results of all rules (rows) over S streams; arrays (S,) have one value per stream."""

    def __init__(
        self, recorded: Sequence[Recorded], scored: Sequence[Mapping[Key, RuleResult]]
    ) -> None:
        self._scored = scored
        self._streams = [r.name for r in recorded]
        self._of = [r.name for r in recorded for _ in r.spans]
        self.seconds = np.array([r.hops.seconds for r in recorded])
        self.annotations = np.array([len(r.spans) for r in recorded], float)

    def has(self, who: str) -> bool:
        """Return whether there are results of the rule or baseline `who`."""
        return any(who == row for row, _ in self._scored[0])

    @property
    def lines(self) -> list[str]:
        """Return the names of the rules that have results at every budget."""
        return [who for who in LINES if self.has(who)]

    def cider(self, who: str, period: float) -> Draws:
        """Return the mean CIDEr-D of the texts nearest in time to each annotation's middle.

        Args:
            who: Name of a rule.
            period: Budget in seconds per decode, or `ONCE` for a row without a budget.
        """
        return draws(np.concatenate([s[who, period].nearest for s in self._scored]), (), self._of)

    def in_force(self, who: str, period: float) -> Mean:
        """Return the mean CIDEr-D of the last text before the middle of each annotation.

        Args:
            who: Name of an online rule.
            period: Budget in seconds per decode, or `ONCE` for a row without a budget.
        """
        found = [s[who, period].in_force for s in self._scored]
        return mean(
            np.concatenate([values for values in found if values is not None]), (), 0, self._of
        )

    def decodes(self, who: str, period: float) -> Values:
        """Return the number of decodes of each stream (S,)."""
        return np.array([s[who, period].decodes for s in self._scored], float)

    def decodes_per(self, who: str, period: float, what: Values) -> Mean:
        """Return the number of decodes of all streams, divided by the sum of `what`.

        Args:
            who: Name of a rule.
            period: Budget in seconds per decode, or `ONCE` for a row without a budget.
            what: Denominator of each stream (S,), for example its seconds or its annotations.
        """
        decodes = self.decodes(who, period)
        found = redrawn(lambda weight: float(weight @ decodes / (weight @ what)), self._streams)
        return replace(found.interval(), count=int(decodes.sum()))


def report(table: Table, thresholds: Thresholds, note: str) -> Report:
    """Return the report: first the rows with targets, then every rule at every budget."""
    rows = [
        *targets(table, thresholds),
        *comparisons(table, thresholds),
        *listed(table, thresholds),
    ]
    return Report('selective', tuple(rows), (note,), curves(table, thresholds))


def targets(table: Table, periods: Iterable[float]) -> list[Row]:
    """Return the rows with targets, and the rows that they refer to.

    They compare uniform decoding (the baseline) with the oracle and with the true boundaries, and
    our segmenter with the baseline, at each budget and with default thresholds.

    Args:
        table: Results of all rules.
        periods: Budgets in seconds per decode.
    """
    base, each = table.cider(UNIFORM, BASELINE_S), table.decodes(UNIFORM, BASELINE_S)
    rows = [Row(BASELINE, CIDER, base.interval())]
    rows += [Row(w, CIDER, table.cider(w, ONCE).interval()) for w in ONES if table.has(w)]
    rows += [
        Row(BASELINE, f'{CIDER}, {what}', share(base, table.cider(who, ONCE)), ORACLE_TARGET)
        for who, what in BEST.items()
        if table.has(who)
    ]
    for period in periods:
        has_target = period == SPARSE_S
        kept, spent = share(table.cider(OURS, period), base), table.decodes_per(OURS, period, each)
        what = f"share of the baseline's: {named(period)}"
        rows += [
            Row(OURS, f'{CIDER}, {what}', kept, KEPT_TARGET if has_target else None),
            Row(OURS, f'decodes, {what}', spent, 1 / SPARSE_S if has_target else None, True),
        ]
    return rows + by_default(table)


def by_default(table: Table) -> list[Row]:
    """Return the rows of our rule with the nodes' default thresholds."""
    at, each = (BY_DEFAULT, ONCE), table.decodes(UNIFORM, BASELINE_S)
    cider = table.cider(*at)
    kept, spent = share(cider, table.cider(UNIFORM, BASELINE_S)), table.decodes_per(*at, each)
    return [
        Row(BY_DEFAULT, CIDER, cider.interval()),
        Row(BY_DEFAULT, IN_FORCE, table.in_force(*at)),
        Row(BY_DEFAULT, f"{CIDER}, share of the baseline's", kept, KEPT_TARGET),
        Row(BY_DEFAULT, "decodes, share of the baseline's", spent, 1 / SPARSE_S, True),
        Row(BY_DEFAULT, 'decodes per annotation', table.decodes_per(*at, table.annotations)),
    ]


def comparisons(table: Table, periods: Iterable[float]) -> list[Row]:
    """Return our CIDEr-D margin over other rules, and the fewest decodes that reach the target."""
    base = table.cider(UNIFORM, BASELINE_S)
    ours = {period: table.cider(OURS, period) for period in periods}
    rows = [
        Row(f'{OURS} - {who}', f'{CIDER}: {named(period)}', more(mine, table.cider(who, period)))
        for who in table.lines
        if who != OURS
        for period, mine in ours.items()
    ]
    spent = [
        table.decodes_per(OURS, period, table.annotations)
        for period, mine in ours.items()
        if share(mine, base).value >= KEPT_TARGET
    ]
    least = min(spent, key=lambda found: found.value, default=mean([]))
    what = f'decodes per annotation, of the least budget that keeps {KEPT_TARGET:.0%}'
    return [*rows, Row(OURS, what, least)]


def listed(table: Table, thresholds: Thresholds) -> list[Row]:
    """Return the metrics of every rule at every budget, and our thresholds."""
    rows = list[Row]()
    for period, threshold in thresholds.items():
        at = named(period)
        rows += [Row(w, f'{CIDER}: {at}', table.cider(w, period).interval()) for w in table.lines]
        rows += [Row(w, f'{IN_FORCE}: {at}', table.in_force(w, period)) for w in EMITTING]
        for who in table.lines:
            if who in AS_UNIFORM:
                continue
            per_second = table.decodes_per(who, period, table.seconds)
            rows.append(Row(who, f'decodes per second: {at}', per_second))
        chosen = Mean(threshold, threshold, threshold, 1)
        rows.append(Row(OURS, f'threshold: {at}', chosen))
    return rows


def curves(table: Table, periods: Iterable[float]) -> dict[str, Points]:
    """Return the points (decodes per second, CIDEr-D) of every rule, by name."""

    def point(who: str, period: float) -> tuple[float, float]:
        per_second = table.decodes_per(who, period, table.seconds)
        return per_second.value, table.cider(who, period).value

    found = {who: tuple(point(who, period) for period in periods) for who in table.lines}
    found |= {who: (point(who, ONCE),) for who in (BOUNDARIES, BY_DEFAULT)}
    return found | {BASELINE: (point(UNIFORM, BASELINE_S),)}
