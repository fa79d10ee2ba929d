# SPDX-License-Identifier: Apache-2.0
"""Suite calibrate: calibration of confidences, and abstention on unanswerable questions.

Results are by kind of answer: yes/no, choices among candidates, sentences (captions), and open
answers to the same questions. Metrics are ECE in 15 bins of equal mass and AUROC of confidence
against correctness. For an unanswerable question no candidate is correct: the answer must be an
abstention. Intervals resample whole streams. `evaluate.questions` defines the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vljepa_ros.core.types import Decoded
from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.simulators.mwstream.questions import UNKNOWN, Question
from vljepa_ros.data.simulators.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.evaluate.context import Context
from vljepa_ros.evaluate.decoded_texts import in_words
from vljepa_ros.evaluate.probing import Look
from vljepa_ros.evaluate.probing import look as look_at
from vljepa_ros.evaluate.questions import CAPTION, pose, says
from vljepa_ros.evaluate.report import Report, Row
from vljepa_ros.evaluate.statistics import Mean, auroc, ece, mean, redrawn
from vljepa_ros.evaluate.suites.vqa import truth
from vljepa_ros.evaluate.views import CONTEXT_S, Vectors, blind_answers

ECE_MARK, AUROC_MARK = 0.05, 0.80
ABSTAINED_MARK, LOST_MARK = 0.85, 0.05  # abstention: unanswerable, answerable
ENOUGH = 5000  # answers per kind
DRAWS = 3  # draws of the questions about one annotation
YES_NO, CHOICES, SENTENCES, OWN_WORDS = 'yes/no', 'choices', 'sentences', 'own words'
KINDS = (YES_NO, CHOICES, SENTENCES, OWN_WORDS)
REASONS = ('absent', 'dark', 'covered')  # why a question is unanswerable

Figure = Callable[[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]], float]


@dataclass(frozen=True)
class Posed:
    """Question about a moment of a stream, `at_s` from its start."""

    stream: Stream
    item: Annotation
    at_s: float
    question: Question

    @property
    def kind(self) -> str:
        """Return one of `KINDS`."""
        if self.question.kind == CAPTION:
            return SENTENCES
        if not self.question.candidates:
            return OWN_WORDS
        return YES_NO if self.question.kind == YES_NO else CHOICES

    @property
    def reason(self) -> str:
        """Return one of `REASONS`, or '' for an answerable question."""
        if self.question.meaning != UNKNOWN:
            return ''
        return self.item.phase if self.item.phase in REASONS else 'absent'


@dataclass(frozen=True)
class Given:
    """Answer of the stack and its correctness."""

    posed: Posed
    confidence: float
    abstained: bool
    right: bool


def calibrate(context: Context) -> Report:
    """Evaluate confidences and abstentions."""
    posed = pose_all(context.streams)
    if not posed:
        return Report('calibrate', (), ('These streams have no annotations to ask about.',))
    given = answered(context, posed)
    rows = [row for kind in KINDS for who in given for row in confidences(who, kind, given[who])]
    rows += [row for who in given for row in abstentions(who, given[who])]
    few = [f'{kind}: {n}' for kind in KINDS if (n := sum(p.kind == kind for p in posed)) < ENOUGH]
    notes = [f'Fewer than {ENOUGH} answers ({", ".join(few)}): use more streams.'] if few else []
    return Report('calibrate', tuple(rows), tuple(notes))


def pose_all(streams: Sequence[Stream]) -> list[Posed]:
    """Return all questions; one draw of them is also posed without candidates."""
    rng, found = np.random.default_rng(0), list[Posed]()
    for stream in streams:
        for item in stream.annotations:
            if item.task not in TRAIN_TASKS or item.hidden:
                continue
            for at_s, pool in pose(item, rng, DRAWS):
                asked = [q for q in pool if q.candidates]
                open_ones = [replace(q, candidates=()) for q in asked[: len(asked) // DRAWS]]
                captions = [q for q in pool if q.kind == CAPTION]
                if at_s >= CONTEXT_S:
                    both = [*captions, *asked, *open_ones]
                    found += [Posed(stream, item, at_s, question) for question in both]
    return found


def answered(context: Context, posed: Sequence[Posed]) -> dict[str, list[Given]]:
    """Return the answers of the model, the oracle and the vision-blind baseline."""
    return {
        'ours': give(context, posed, look(context, posed)),
        'oracle': give(context, posed, np.stack([_oracle(context, p.question) for p in posed])),
        'blind': give(context, posed, _blind(context, posed)),
    }


def look(context: Context, posed: Sequence[Posed]) -> Vectors:
    """Return the vision side's answers (N, D); each moment is streamed once."""
    groups: dict[tuple[str, float], list[int]] = {}
    for i, p in enumerate(posed):
        groups.setdefault((p.stream.name, p.at_s), []).append(i)
    found = np.zeros((len(posed), context.vision.facts.embedding_dim), np.float32)
    looks = []
    for rows in groups.values():
        prompts = tuple(dict.fromkeys(posed[i].question.prompt for i in rows))
        looks.append(Look(posed[rows[0]].stream, posed[rows[0]].at_s, prompts))
    seen = look_at(context, looks, 'answers')
    for rows, item, vectors in zip(groups.values(), looks, seen, strict=True):
        found[rows] = vectors[[item.prompts.index(posed[i].question.prompt) for i in rows]]
    return found


def give(context: Context, posed: Sequence[Posed], vectors: Vectors) -> list[Given]:
    """Convert vectors (N, D) to answers with the text side."""
    language = context.language
    decoded = dict[int, Decoded]()
    for kind in (SENTENCES, OWN_WORDS):
        at = [i for i, p in enumerate(posed) if p.kind == kind]
        said = in_words(context, vectors[at], kind, kind == OWN_WORDS)
        decoded |= dict(zip(at, said, strict=True))
    given = []
    for i, p in enumerate(posed):
        question = p.question
        if i in decoded:
            text, confidence = decoded[i].text, decoded[i].confidence
            right = says(question, text)
        else:
            best = language.rank(vectors[i], question.candidates)[0]
            text, confidence, right = best.text, best.score, best.text == question.answer
        unknown = language.is_unanswerable(vectors[i], question.candidates, text)
        given.append(Given(p, confidence, unknown, right))
    return given


def confidences(who: str, kind: str, given: Sequence[Given]) -> list[Row]:
    """Return ECE, AUROC and accuracy of one kind of answer; ours also of answerable ones."""
    part = [g for g in given if g.posed.kind == kind]
    if not part:
        return []
    marked = who == 'ours' and kind != OWN_WORDS
    rows = [
        _row(who, f'{kind}: ECE', part, ece, ECE_MARK if marked else None, at_most=True),
        _row(who, f'{kind}: AUROC', part, auroc, AUROC_MARK if marked else None),
        Row(who, f'{kind}: right', _share([g.right for g in part], part)),
    ]
    some = [g for g in part if not g.posed.reason]
    if who == 'ours' and 0 < len(some) < len(part):
        rows.append(_row(who, f'{kind}, answerable: ECE', some, ece))
        rows.append(_row(who, f'{kind}, answerable: AUROC', some, auroc))
    return rows


def abstentions(who: str, given: Sequence[Given]) -> list[Row]:
    """Return abstention rates by reason, with separate rows for open answers."""
    chosen = [g for g in given if g.posed.question.candidates]
    words = [g for g in given if g.posed.kind == OWN_WORDS]
    ours = who == 'ours'
    rows = []
    for reason in REASONS:
        rows += abstained(who, reason, [g for g in chosen if g.posed.reason == reason])
    for name, part in (('', chosen), (', own words', words)):
        marks = (ABSTAINED_MARK, LOST_MARK) if ours and not name else (None, None)
        unanswerable = [g for g in part if g.posed.reason]
        answerable = [g for g in part if not g.posed.reason]
        rows += abstained(who, f'unanswerable{name}', unanswerable, marks[0])
        rows += abstained(who, f'answerable{name}', answerable, marks[1], at_most=True)
    return rows


def abstained(
    who: str, what: str, part: Sequence[Given], mark: float | None = None, at_most: bool = False
) -> list[Row]:
    """Return a row with the abstention rate; no row if no question was asked."""
    if not part:
        return []
    share = _share([g.abstained for g in part], part)
    return [Row(who, f'abstained: {what}', share, mark, at_most)]


def _row(
    who: str,
    what: str,
    part: Sequence[Given],
    figure: Figure,
    mark: float | None = None,
    at_most: bool = False,
) -> Row:
    confidence, right = np.array([g.confidence for g in part]), np.array([g.right for g in part])
    found = redrawn(lambda weight: figure(confidence, right, weight), streams_of(part))
    return Row(who, what, found.interval(), mark, at_most)


def _share(flags: Sequence[bool], part: Sequence[Given]) -> Mean:
    return mean(np.array(flags, np.float64), clusters=streams_of(part))


def streams_of(part: Sequence[Given]) -> list[str]:
    """Return the stream of each answer, the unit of resampling."""
    return [g.posed.stream.name for g in part]


def _oracle(context: Context, question: Question) -> Vectors:
    """Return the oracle's prediction: the center of the answer's training paraphrases."""
    if question.kind == CAPTION:
        return context.centre(question.meaning)
    return truth(context, question)


def _blind(context: Context, posed: Sequence[Posed]) -> Vectors:
    prompts = list(dict.fromkeys(p.question.prompt for p in posed))
    seen = blind_answers(context.vision, prompts)
    return seen[[prompts.index(p.question.prompt) for p in posed]]
