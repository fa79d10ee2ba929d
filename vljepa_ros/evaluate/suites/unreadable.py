# SPDX-License-Identifier: Apache-2.0
"""Suite unreadable: detection of texts that the text side cannot read.

Texts in other languages, nonsense and emoji must be refused. Held-out paraphrases and prompts of
the package and general English texts must be accepted. None of the texts was used for fitting, and
most of the languages do not occur in the fitting data. Short sentences about the robot bench have
separate rows. The suite does not use the streams.
"""

from __future__ import annotations

from vljepa_ros.data.unfamiliar.texts import FITTED, SHORT, TESTED, own_texts, texts
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import auroc, mean, redrawn

OURS, THRESHOLD = 'ours', 0.5
ABSTAINED_AT_LEAST, REFUSED_AT_MOST = 0.90, 0.03
APART = ('nonsense', 'emoji')


def unreadable(context: Context) -> Report:
    """Return the rates of refused texts at the threshold, and the AUROC."""
    groups = {
        name: [context.language.unreadable(text) for text in rows]
        for name, rows in texts(False, TESTED).items()
    }
    languages = [name for name in groups if name not in APART]
    readable = {
        'held-out paraphrases and prompts': own_texts('heldout'),
        'general English': list(texts(True, TESTED)['general']),
    }
    fine = {
        name: [context.language.unreadable(text) for text in rows]
        for name, rows in readable.items()
    }
    rows = [_refused('abstained: all', [s for g in groups.values() for s in g], True)]
    rows.append(
        _refused('abstained: other languages', [s for n in languages for s in groups[n]], True)
    )
    rows += [_refused(f'abstained: {name}', groups[name], True) for name in APART]
    rows += [_refused(f'abstained: {name}', groups[name]) for name in languages]
    rows += _short(context)
    rows += [_refused(f'readable refused: {name}', found, False) for name, found in fine.items()]
    wrong = [s for g in groups.values() for s in g]
    right = [s for g in fine.values() for s in g]
    score, positive = [*right, *wrong], [False] * len(right) + [True] * len(wrong)
    items = [str(i) for i in range(len(score))]
    area = redrawn(lambda weight: auroc(score, positive, weight), items).interval()
    rows.append(Row(OURS, 'AUROC', area))
    note = f'{len(wrong)} unreadable and {len(right)} readable texts, none used for fitting.'
    return Report('unreadable', tuple(rows), (note,))


def _short(context: Context) -> list[Row]:
    """Return the refusal rates of short sentences: all, and in languages absent from fitting."""
    groups = {
        name: [context.language.unreadable(text) for text in rows]
        for name, rows in texts(False, SHORT).items()
    }
    unfitted = [name for name in groups if name not in texts(False, FITTED)]
    every = [score for group in groups.values() for score in group]
    apart = [score for name in unfitted for score in groups[name]]
    return [
        _refused(f'abstained: {len(every)} short sentences', every, True),
        _refused(f'abstained: {len(apart)} short sentences, languages not fitted', apart, True),
    ]


def _refused(what: str, scores: list[float], wanted: bool | None = None) -> Row:
    share = mean([float(score >= THRESHOLD) for score in scores])
    if wanted is None:
        return Row(OURS, what, share)
    target = ABSTAINED_AT_LEAST if wanted else REFUSED_AT_MOST
    return Row(OURS, what, share, target, at_most=not wanted)
