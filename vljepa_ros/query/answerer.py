# SPDX-License-Identifier: Apache-2.0
"""A predicted answer embedding -> an answer: the best candidate, or words from the Y-Decoder.

It is an abstention, with a reason (`AbstainReason`), where the model cannot read the question, too
little of the span was seen, the scene is unfamiliar to the model, nobody can tell (it asks about
what is not there, or cannot be seen), or the confidence is less than the user wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Language
from vljepa_ros.core.settings import AnswerSettings, check_text
from vljepa_ros.core.text import yes_of
from vljepa_ros.core.types import (
    WITHHELD,
    AbstainReason,
    Answer,
    Basis,
    Candidate,
    Moment,
    Seen,
    Vector,
    first_reason,
)
from vljepa_ros.core.vectors import pooled

MAX_CANDIDATES = 1000
ROUNDING = 1e-6
LEAST_SHARE = 0.5  # of a span must be seen and tell, or a no is an abstention


def check_question(prompt: object, candidates: Sequence[object] = ()) -> None:
    """Raise InputError if a question cannot be asked; before anything is computed."""
    check_text(prompt)
    if len(candidates) > MAX_CANDIDATES:
        raise InputError(f'{len(candidates)} candidates are too many (at most {MAX_CANDIDATES})')
    for candidate in candidates:
        check_text(candidate, 'candidate', may_be_empty=False)


@dataclass(frozen=True)
class _Said:
    """What is said of one vector, or why it says nothing."""

    text: str
    confidence: float
    reason: AbstainReason = AbstainReason.NONE
    ranked: tuple[Candidate, ...] = ()
    nearest: bool = False  # of a bank, not the model's own words

    @property
    def abstained(self) -> bool:
        """Whether there is a reason against it."""
        return self.reason is not AbstainReason.NONE


Told = tuple[Seen, _Said]
WITHHELD_SAID = _Said('', 0.0, AbstainReason.UNFAMILIAR)  # nothing is said of this vector


class Answerer:
    """Turns answer embeddings into answers, in the thread that owns the language half."""

    def __init__(self, language: Language, settings: AnswerSettings | None = None) -> None:
        self._language, self._settings = language, settings or AnswerSettings()

    def answer(
        self,
        prompt: str,
        vector: Vector,
        stamp_ns: int,
        candidates: Sequence[str] = (),
        basis: Basis = Basis.NOW,
        evidence: Sequence[Moment] = (),
    ) -> Answer:
        """Rank the candidates, or decode where there are none. Raises InputError."""
        seen = Seen(stamp_ns, stamp_ns, vector)
        return self._answer(prompt, seen, candidates, basis, evidence, asked=True)

    def _answer(
        self,
        prompt: str,
        seen: Seen,
        candidates: Sequence[str],
        basis: Basis,
        evidence: Sequence[Moment],
        asked: bool,
    ) -> Answer:
        check_question(prompt, candidates)
        candidates = tuple(dict.fromkeys(candidates))
        unreadable = self.is_unreadable(prompt, candidates)
        [said] = [WITHHELD_SAID] if unreadable else self._say([seen], candidates, asked)
        if said is WITHHELD_SAID:
            evidence = [replace(moment, score=0.0, text='') for moment in evidence]
        return Answer(
            said.text,
            said.confidence,
            said.abstained,
            seen.end_ns,
            self._language.facts.model_id,
            seen.vector,
            said.ranked,
            tuple(evidence),
            basis,
            said.nearest,
            AbstainReason.UNREADABLE if unreadable else said.reason,
            seen.unfamiliar,
        )

    def is_unreadable(self, prompt: str, candidates: Sequence[str] = ()) -> bool:
        """Whether the model cannot read the prompt, or none of the candidates."""
        return self._cannot_read(prompt) or (
            bool(candidates) and all(self._cannot_read(text) for text in candidates)
        )

    def _cannot_read(self, text: str) -> bool:
        return bool(text.strip()) and self._language.unreadable(text) >= WITHHELD

    def recount(
        self,
        prompt: str,
        source: str,
        seen: Sequence[Seen],
        candidates: Sequence[str] = (),
        basis: Basis = Basis.FRAMES,
        start_ns: int = 0,
        asked: bool = True,
    ) -> Answer:
        """One answer from one or several stretches of the past; its evidence is what it rests on.

        Where yes and no are candidates it is yes if it ever was so; other candidates have the mean
        of their scores; own words are those of each stretch, one after the other. Stretches that
        cannot tell do not count, but the less of them can, the less certain is a no; and the less,
        the longer before the first stretch the time begins that is asked about (`start_ns`; 0: it
        has no beginning). `asked`: the vectors are of this question, not of a standing prompt.
        Raises InputError.
        """
        held = _held(seen, start_ns)
        if len(seen) == 1 and held == 1.0:
            [only] = seen
            moment = Moment(source, only.start_ns, only.end_ns, 1.0, only.text)
            anew = replace(only, text='', nearest=False)
            return self._answer(prompt, anew, candidates, basis, [moment], asked)
        check_question(prompt, candidates)
        candidates = tuple(dict.fromkeys(candidates))
        unreadable = self.is_unreadable(prompt, candidates)
        said_of = [WITHHELD_SAID] * len(seen) if unreadable else self._say(seen, candidates, asked)
        told = list(zip(seen, said_of, strict=True))
        telling = [(s, said) for s, said in told if not said.abstained]
        rests_on, whole = _together(telling or told, len(told) / held, candidates)
        reasons = [whole.reason]
        if not telling or whole.abstained:  # or too little of the span is, or can be, judged
            reasons += [said.reason for _, said in told]
            reasons += [AbstainReason.NOT_SEEN] if held <= LEAST_SHARE else []
        if whole.confidence < self._settings.abstain_below:
            reasons.append(AbstainReason.LOW_CONFIDENCE)
        reason = AbstainReason.UNREADABLE if unreadable else first_reason(reasons)
        if reason in (AbstainReason.UNREADABLE, AbstainReason.UNFAMILIAR):
            whole, rests_on = replace(whole, text='', confidence=0.0, ranked=()), told
        return Answer(
            whole.text,
            whole.confidence,
            reason is not AbstainReason.NONE,
            rests_on[-1][0].end_ns,
            self._language.facts.model_id,
            pooled([s.vector for s, _ in rests_on]),
            whole.ranked,
            tuple(_moment(source, s, said) for s, said in rests_on),
            basis,
            whole.nearest,
            reason,
            max(s.unfamiliar for s, _ in rests_on),
        )

    def remember(
        self,
        prompt: str,
        source: str,
        seen: Sequence[Seen],
        candidates: Sequence[str] = (),
        own: bool = True,
        start_ns: int = 0,
    ) -> Answer:
        """An answer from remembered vectors; `own`: those of this prompt.

        Vectors of another prompt answer no question: it is an abstention (NOT_SEEN) that tells
        what happened, and ranks the candidates by how well they say that, unless they are yes and
        no.
        Raises InputError.
        """
        if own:
            return self.recount(prompt, source, seen, candidates, Basis.MEMORY, start_ns)
        if yes_of(candidates) is not None:
            candidates = ()
        told = self.recount(prompt, source, seen, candidates, Basis.MEMORY, asked=False)
        reason = first_reason([AbstainReason.NOT_SEEN, told.abstain_reason])
        return replace(told, abstained=True, abstain_reason=reason)

    def _say(self, seen: Sequence[Seen], candidates: Sequence[str], asked: bool) -> list[_Said]:
        known = [s for s in seen if s.unfamiliar < WITHHELD]
        said = iter(self._say_known(known, candidates, asked) if known else ())
        return [next(said) if s.unfamiliar < WITHHELD else WITHHELD_SAID for s in seen]

    def _say_known(
        self, seen: Sequence[Seen], candidates: Sequence[str], asked: bool
    ) -> list[_Said]:
        vectors = [s.vector for s in seen]
        if candidates:
            rankings = [tuple(self._language.rank(vector, candidates)) for vector in vectors]
            told = [(ranked[0].text, ranked[0].score, ranked, False) for ranked in rankings]
        else:
            words = self._language.decode(np.stack(vectors), asked=asked)
            told = [
                (
                    s.text or decoded.text,
                    decoded.confidence,
                    (),
                    s.nearest if s.text else decoded.nearest,
                )
                for s, decoded in zip(seen, words, strict=True)
            ]
        return [
            _Said(text, score, self._doubts(vector, candidates, text, score), ranked, is_nearest)
            for vector, (text, score, ranked, is_nearest) in zip(vectors, told, strict=True)
        ]

    def _doubts(
        self, vector: Vector, candidates: Sequence[str], text: str, confidence: float
    ) -> AbstainReason:
        if self._language.cannot_tell(vector, candidates, text):
            return AbstainReason.UNANSWERABLE
        unsure = confidence < self._settings.abstain_below
        return AbstainReason.LOW_CONFIDENCE if unsure else AbstainReason.NONE


def _moment(source: str, seen: Seen, said: _Said) -> Moment:
    text = '' if said is WITHHELD_SAID else seen.text or said.text
    return Moment(source, seen.start_ns, seen.end_ns, said.confidence, text)


def _held(seen: Sequence[Seen], start_ns: int) -> float:
    """How much of the time from `start_ns` to the last stretch's end there are stretches of."""
    end_ns = seen[-1].end_ns
    if not start_ns or start_ns >= seen[0].start_ns:
        return 1.0
    return max((end_ns - seen[0].start_ns) / (end_ns - start_ns), ROUNDING)


def _together(
    told: Sequence[Told], stretches: float, candidates: Sequence[str]
) -> tuple[Sequence[Told], _Said]:
    """What one answer of several rests on, and says.

    `stretches`: how many there are with those that cannot tell, and those that are not stored.
    """
    said = [item for _, item in told]
    if not candidates:
        texts = [s.text for s in said if s is not WITHHELD_SAID]
        texts = [text for i, text in enumerate(texts) if i == 0 or text != texts[i - 1]]
        least = min(s.confidence for s in said)
        return told, _Said('; '.join(texts), least, nearest=any(s.nearest for s in said))
    told = [item for item in told if item[1].ranked] or told
    said = [item for _, item in told]
    if not said[0].ranked:
        return told, WITHHELD_SAID
    scores = [{c.text: c.score for c in s.ranked} for s in said]
    yes = yes_of(candidates)
    if yes is not None:
        best = int(np.argmax([score[candidates[yes]] for score in scores]))
        if said[best].text == candidates[yes]:
            return [item for item in told if item[1].text == candidates[yes]], said[best]
        return told, _scaled(said[best], len(told) / stretches)
    mean = {text: sum(score[text] for score in scores) / len(said) for text in candidates}
    ranked = sorted((Candidate(t, mean[t]) for t in candidates), key=lambda c: -c.score)
    return told, _Said(ranked[0].text, ranked[0].score, ranked=tuple(ranked))


def _scaled(said: _Said, share: float) -> _Said:
    """The rest of the probability is that of "nobody can tell"; too much of it abstains."""
    ranked = tuple(Candidate(c.text, c.score * share) for c in said.ranked)
    reason = AbstainReason.UNANSWERABLE if share <= LEAST_SHARE else AbstainReason.NONE
    return _Said(said.text, said.confidence * share, reason, ranked)
