# SPDX-License-Identifier: Apache-2.0
"""Stage 4: fits the conversion of cosines and log-probabilities to confidences.

Every validation stream is processed from its start. Its questions are those of the suite calibrate
(`evaluate.questions`, BENCHMARK.md) in held-out paraphrases, because users' texts are unseen too.

Shapes: N answers, C candidates (padded), F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from vljepa_ros.core.protocols import Vision
from vljepa_ros.core.text import yes_among
from vljepa_ros.data import concepts
from vljepa_ros.data.concepts import RECORDINGS, ConceptSet
from vljepa_ros.data.format import Stream
from vljepa_ros.data.questions import CAPTION, UNKNOWN, Question, answers, as_question
from vljepa_ros.evaluate.questions import pose
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.language.generation import Hypothesis
from vljepa_ros.model.streaming.text import TextLanguage

# Texts of other concepts that each prediction is compared with: watch conditions are rarely true.
WRONG_TEXTS = 64
ABSTAINED = 0.04  # largest fraction of answerable questions (the limit on the test split is 5%)
TEMPERATURES = np.geomspace(0.005, 0.5, 47)  # steps of 10%
BIASES = np.linspace(-3.0, 3.0, 25)
FOLDS = 5
FEATURES = ('slope', 'margin', 'cosine', 'words')  # of decode_* and answer_*
# Minimum number of answers, and of right, wrong or unanswerable ones, to recalibrate.
FEWEST, FEWEST_OF_A_KIND = 30, 5
BETTER = 1e-3  # minimum decrease of the log-loss for more features
RIDGE, RIDGE_OF_ALL = 1e-3, 0.1  # on slopes of standardized features; if the vector is included
ROWS_A_COLUMN = 4  # minimum rows per column if the vector is included
DIGITS = 4  # decimal digits of a stored direction

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Fitted = dict[str, Any]  # fields of CalibrationConfig: key -> number, or numbers


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, the predicted answer embedding, the name of the stream and its concepts."""

    question: Question
    vector: NDArray[np.float32]
    stream: str = ''
    concepts: ConceptSet = RECORDINGS

    @property
    def answerable(self) -> bool:
        """Whether the stream shows the answer."""
        return self.question.meaning != UNKNOWN

    def is_answered_by(self, text: str) -> bool:
        """Return whether a text is a correct answer."""
        return self.concepts.expresses(self.question.meaning, text)


def predict_answers(
    vision: Vision, streams: Sequence[Stream], seed: int
) -> list[AnsweredQuestion]:
    """Predict answers to questions about every annotation, and to annotated questions.

    Args:
        vision: Vision side of the model.
        streams: Annotated streams.
        seed: Seed of the choice of questions.
    """
    rng, answered = np.random.default_rng(seed), list[AnsweredQuestion]()
    known = concepts.of(streams)
    per, rate_hz = vision.facts.tubelet_frames, vision.facts.rate_hz
    for stream in streams:
        state, frames, done = vision.new_state(), stream.frames(), 0
        for at_s, pool in _moments(known, stream, rng):
            last = int(at_s * rate_hz) // per
            for t in range(done, last):
                vision.step(state, list(np.asarray(frames[per * t : per * (t + 1)])))
            done = max(done, last)
            if done:
                vectors = vision.predict(state, [q.prompt for q in pool])
                answered += [
                    AnsweredQuestion(q, v, stream.name, known)
                    for q, v in zip(pool, vectors, strict=True)
                ]
    return answered


def _moments(
    known: ConceptSet, stream: Stream, rng: np.random.Generator
) -> list[tuple[float, list[Question]]]:
    """Return (time in seconds, questions at that time), sorted by time."""
    found = [moment for item in stream.annotations for moment in pose(known, item, rng)]
    found += [((told.start + told.end) / 2, [as_question(told)]) for told in stream.questions()]
    return sorted(found, key=lambda moment: moment[0])


def calibrate(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], seed: int
) -> CalibrationConfig:
    """Fit the whole calibration and assign it to `language`.

    Args:
        language: Text side of the model.
        answered: Questions with predicted answers.
        seed: Seed of the choice of wrong texts.
    """
    unknown = '' if all(a.answerable for a in answered) else answers(UNKNOWN)[0]
    fitted = CalibrationConfig(unknown=unknown)
    fitted = replace(fitted, **_scales(language, answered, unknown))
    fitted = replace(fitted, **_match(language, answered, np.random.default_rng(seed)))
    hypotheses = language.hypotheses(np.stack([a.vector for a in answered]))
    captions = [
        (a, row) for a, row in zip(answered, hypotheses, strict=True) if a.question.kind == CAPTION
    ]
    fitted = replace(fitted, **_text_confidence('decode', captions))
    fitted = replace(
        fitted, **_text_confidence('answer', list(zip(answered, hypotheses, strict=True)))
    )
    language.calibration = fitted
    if not unknown:
        return fitted
    fitted = replace(fitted, **_abstention(language, answered, hypotheses))
    language.calibration = fitted
    return fitted


def recalibrate(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], seed: int
) -> CalibrationConfig:
    """Refit the parts of the calibration for which there are enough questions.

    Use it for few questions, of which few or none are unanswerable. The other parts keep their
    values, which remain valid where the model answers as before. Directions are valid for the
    previous vectors only, so they are refitted or removed. The result is assigned to `language`.

    Args:
        language: Text side of the model.
        answered: Questions with predicted answers.
        seed: Seed of the choice of wrong texts.
    """
    before = fitted = language.calibration
    hypotheses = language.hypotheses(np.stack([a.vector for a in answered]))
    pairs = list(zip(answered, hypotheses, strict=True))
    captions = [(a, row) for a, row in pairs if a.question.kind == CAPTION]
    if len(captions) >= FEWEST:
        own = [a for a, _ in captions]
        fitted = replace(fitted, **_match(language, own, np.random.default_rng(seed)))
    for name, some in (('decode', captions), ('answer', pairs)):
        right = sum(bool(row) and a.is_answered_by(row[0].text) for a, row in some)
        if min(right, len(some) - right) >= FEWEST_OF_A_KIND and len(some) >= FEWEST:
            fitted = replace(fitted, **_text_confidence(name, some))
        else:
            fitted = replace(fitted, **_without_direction(name, fitted, [a for a, _ in some]))
    chosen = [a for a in answered if a.question.candidates]
    unanswerable = sum(not a.answerable for a in chosen)
    if len(chosen) >= FEWEST and (not before.unknown or unanswerable >= FEWEST_OF_A_KIND):
        fitted = replace(fitted, **_scales(language, chosen, before.unknown))
    language.calibration = fitted
    return fitted


# Candidates.


def _scales(language: TextLanguage, answered: Sequence[AnsweredQuestion], unknown: str) -> Fitted:
    """Fit the temperatures and biases with the highest likelihood of the correct candidates."""
    given = [a for a in answered if a.question.candidates]
    pairs = [a for a in given if yes_among(a.question.candidates) is not None]
    others = [a for a in given if yes_among(a.question.candidates) is None]
    found: Fitted = {}
    if (own := scale(language, pairs, unknown)) is not None:
        found = {'yes_no_temperature': own[0], 'yes_no_unknown_bias': own[1]}
        found |= {'yes_bias': yes_bias(language, pairs, own[0])}
    if (ranked := scale(language, others, unknown) or own) is not None:
        found |= {'rank_temperature': ranked[0], 'unknown_bias': ranked[1]}
    return found


def scale(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], unknown: str
) -> tuple[float, float] | None:
    """Return the best temperature and bias of `TEMPERATURES` and `BIASES`.

    Args:
        language: Embeds the candidates.
        answered: Questions with candidates.
        unknown: The text for "cannot tell" ('': none).

    Returns:
        None if no question has a correct candidate.
    """
    answered = [
        a for a in answered if not a.answerable or a.question.answer in a.question.candidates
    ]
    if not answered:
        return None
    texts = sorted({c for a in answered for c in a.question.candidates} | ({unknown} - {''}))
    row, embedded = {text: i for i, text in enumerate(texts)}, language.encode(texts)
    most = max(len(a.question.candidates) for a in answered) + 1
    cosine, right = np.full((len(answered), most), -np.inf), np.zeros(len(answered), np.int64)
    for i, a in enumerate(answered):
        competing = [*([unknown] if unknown else []), *a.question.candidates]  # unknown at 0
        cosine[i, : len(competing)] = embedded[[row[text] for text in competing]] @ a.vector
        right[i] = competing.index(a.question.answer if a.answerable else unknown)
    first = np.eye(1, most)
    return min(
        ((float(t), float(b)) for t in TEMPERATURES for b in (BIASES if unknown else (0.0,))),
        key=lambda fit: negative_log_likelihood(cosine / fit[0] + fit[1] * first, right),
    )


def yes_bias(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], temperature: float
) -> float:
    """Return the bias of `BIASES` that balances the answers yes and no best.

    Every (topic, answer) has the same weight, so the fit does not depend on their frequencies.

    Args:
        language: Embeds the candidates.
        answered: Questions with candidates yes and no.
        temperature: Temperature of their softmax.
    """
    answered = [a for a in answered if a.answerable]
    texts = sorted({c for a in answered for c in a.question.candidates})
    embedded = dict(zip(texts, language.encode(texts), strict=True))
    margin, groups = np.zeros(len(answered)), list[tuple[str, bool]]()
    for i, a in enumerate(answered):
        candidates = a.question.candidates
        yes = candidates[yes_among(candidates) or 0]
        (no,) = set(candidates) - {yes}
        margin[i] = (embedded[yes] - embedded[no]) @ a.vector / temperature
        groups.append((a.question.topic, a.question.answer == yes))
    sign = np.array([1.0 if is_yes else -1.0 for _, is_yes in groups])
    count = Counter(groups)
    weight = np.array([1 / count[group] for group in groups])
    return min(
        (float(b) for b in BIASES), key=lambda b: weight @ np.logaddexp(0.0, -sign * (margin + b))
    )


def negative_log_likelihood(logits: Array, right: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of the correct candidates.

    Args:
        logits: (N, C), padded with -inf.
        right: Index of the correct candidate (N,).
    """
    own = np.take_along_axis(logits, right[:, None], axis=1)[:, 0]
    return float((np.logaddexp.reduce(logits, axis=1) - own).mean())


# Abstention.


def _abstention(
    language: TextLanguage,
    answered: Sequence[AnsweredQuestion],
    hypotheses: Sequence[Sequence[Hypothesis]],
) -> Fitted:
    """Fit the thresholds of abstention, for candidates and for decoded answers."""
    given = [a for a in answered if a.question.candidates]
    beside = [language.unknown_share(a.vector, a.question.candidates) for a in given]
    words = [
        language.unknown_share(a.vector, [row[0].text] if row else [])
        for a, row in zip(answered, hypotheses, strict=True)
    ]
    return {
        'abstain_above': threshold(np.array(beside), _answerable(given)),
        'abstain_words_above': threshold(np.array(words), _answerable(answered)),
    }


def _answerable(answered: Sequence[AnsweredQuestion]) -> Flags:
    return np.array([a.answerable for a in answered], bool)


def threshold(share: Array, answerable: Flags, most: float = ABSTAINED) -> float:
    """Return the threshold that separates unanswerable from answerable questions best.

    It maximizes the difference of the abstention rates of the two kinds, with an abstention rate
    of answerable questions of at most `most`; among equals the highest threshold is chosen.

    Args:
        share: Share of `unknown` (N,).
        answerable: (N,).
        most: Largest abstention rate of answerable questions.

    Returns:
        The threshold; 1 if one of the kinds is missing.
    """
    if answerable.all() or not answerable.any():
        return 1.0
    values = np.unique(np.append(share, 1.0))[::-1]
    between = np.append((values[:-1] + values[1:]) / 2, 0.0)
    best, gained = 1.0, 0.0
    for value in between:
        lost = float((share[answerable] > value).mean())
        gain = float((share[~answerable] > value).mean()) - lost
        if lost <= most and gain > gained:
            best, gained = float(value), gain
    return best


# One text, and decoded texts.


def _match(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], rng: np.random.Generator
) -> Fitted:
    """Fit the logistic regression that separates matching from other texts; {} if impossible."""
    cosine, right = _matches(language, answered, rng)
    if right.all() or not right.any():
        return {}
    (slope,), bias = fit_logistic_regression(cosine[:, None], right)
    return {'match_scale': 1.0 / slope, 'match_centre': -bias / slope} if slope > 0.0 else {}


def _matches(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], rng: np.random.Generator
) -> tuple[Array, Flags]:
    """Return cosines of captions with their own text and with others, and which are own."""
    captions = [a for a in answered if a.question.kind == CAPTION]
    embedded = language.encode([a.question.answer for a in captions])
    cosine, right = [], []
    for row, item in enumerate(captions):
        cosine.append(float(item.vector @ embedded[row]))
        right.append(True)
        for other in rng.integers(0, len(captions), WRONG_TEXTS):
            if captions[other].question.meaning != item.question.meaning:
                cosine.append(float(item.vector @ embedded[other]))
                right.append(False)
    return np.array(cosine), np.array(right, bool)


def _text_confidence(
    name: str, pairs: Sequence[tuple[AnsweredQuestion, Sequence[Hypothesis]]]
) -> Fitted:
    """Fit the probability that a decoded text is right, with the features chosen on held-out data.

    These are some of `FEATURES`, or all of them and the vector itself (a linear probe like P(IK),
    Kadavath et al., arXiv 2207.05221).
    """
    rows = [(a, row[0]) for a, row in pairs if row]
    if not rows:
        return {}
    x = np.array([[s.log_probability, s.margin, s.cosine, s.words] for _, s in rows])
    x = np.concatenate([x, [a.vector for a, _ in rows]], axis=1)
    right, count = np.array([a.is_answered_by(s.text) for a, s in rows]), len(FEATURES)
    chosen = choose(x, right, [a.stream for a, _ in rows], count)
    slopes, bias = fit_logistic_regression(x[:, chosen], right, ridge_of(chosen))
    weights = np.zeros(x.shape[1])
    weights[chosen] = slopes
    direction = tuple(round(weight, DIGITS) for weight in weights[count:].tolist())
    found: Fitted = dict(zip(FEATURES, weights[:count].tolist(), strict=True))
    found |= {'bias': bias, 'direction': direction if any(direction) else ()}
    return {f'{name}_{part}': value for part, value in found.items()}


def _without_direction(
    name: str, fitted: CalibrationConfig, answered: Sequence[AnsweredQuestion]
) -> Fitted:
    """Replace a direction by the mean of its contribution, which is added to the bias."""
    direction = np.array(getattr(fitted, f'{name}_direction'))
    if not len(direction) or not answered:
        return {}
    added = float(np.mean(np.stack([a.vector for a in answered]) @ direction))
    return {f'{name}_direction': (), f'{name}_bias': getattr(fitted, f'{name}_bias') + added}


def choose(x: Array, right: Flags, streams: Sequence[str], few: int) -> list[int]:
    """Return the columns of x with the lowest log-loss in cross-validation over streams.

    The result is the smallest sufficient subset of the first `few` columns, or all columns. The
    latter is tried only if there are enough rows and streams.

    Args:
        x: Features (N, F).
        right: Labels (N,).
        streams: Name of the stream of each row.
        few: Number of columns whose subsets are tried.
    """
    names = sorted(set(streams))
    fold = np.array([names.index(name) % FOLDS for name in streams])
    some = [c for n in range(few + 1) for c in map(list, combinations(range(few), n))]
    best, least = list[int](), float('inf')
    if len(names) >= FOLDS and len(x) >= ROWS_A_COLUMN * x.shape[1]:
        some.append(list(range(x.shape[1])))
    for columns in some:
        loss = cross_validated_loss(x[:, columns], right, fold, ridge_of(columns))
        if loss < least - BETTER:
            best, least = columns, loss
    return best


def ridge_of(columns: Sequence[int]) -> float:
    """Return the ridge penalty; it is stronger if the vector is included."""
    return RIDGE if len(columns) <= len(FEATURES) else RIDGE_OF_ALL


def cross_validated_loss(
    x: Array, right: Flags, fold: NDArray[np.int64], ridge: float = RIDGE
) -> float:
    """Return the mean log-loss of a logistic regression in cross-validation.

    Args:
        x: Features (N, F).
        right: Labels (N,).
        fold: Number of the fold of each row (N,).
        ridge: Ridge penalty.
    """
    loss = np.zeros(len(x))
    for number in np.unique(fold):
        out = fold == number
        others = ~out if not out.all() else out  # with a single fold, nothing can be left out
        slopes, bias = fit_logistic_regression(x[others], right[others], ridge)
        logit = x[out] @ np.array(slopes) + bias
        loss[out] = np.logaddexp(0.0, np.where(right[out], -logit, logit))
    return float(loss.mean())


def fit_logistic_regression(x: Array, y: Flags, ridge: float = RIDGE) -> tuple[list[float], float]:
    """Fit a logistic regression of y (N,) on x (N, F) by LBFGS; returns slopes (F,) and bias.

    One additional positive and one negative sample at the mean of x (Laplace smoothing) keep the
    result finite.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    inputs, target = torch.tensor((x - mean) / spread), torch.tensor(y, dtype=torch.float64)
    weights = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights[:-1] + weights[-1]
        value = binary_cross_entropy_with_logits(logits, target)
        value = value + ridge * (weights[:-1] ** 2).sum()
        value = value + softplus(torch.stack([weights[-1], -weights[-1]])).sum() / len(x)
        value.backward()
        return value

    optimizer.step(loss)
    *scaled, bias = weights.detach().tolist()
    slopes = np.array(scaled) / spread
    return slopes.tolist(), float(bias - slopes @ mean)
