# SPDX-License-Identifier: Apache-2.0
"""Stage 4: fits the calibration, which converts cosines and log-probabilities to confidences.

The questions about the validation streams are those of the suite `calibrate` of `vljepa evaluate`
(`evaluate.questions`). Prompts and answers are held-out paraphrases, because users
do not phrase their texts as in the training data either.

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
from vljepa_ros.data.questions import CAPTION, UNKNOWN, LabeledQuestion, answers, as_question
from vljepa_ros.evaluate.questions import pose
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.language.generation import Hypothesis
from vljepa_ros.model.streaming.text import TextLanguage

# Number of wrong texts that each prediction is compared with. It is large, because most of the
# conditions that users watch for are false most of the time.
WRONG_TEXTS = 64
ABSTAINED = 0.04  # maximum abstention rate on answerable questions (limit on the test split: 5%)
TEMPERATURES = np.geomspace(0.005, 0.5, 47)  # steps of 10%
BIASES = np.linspace(-3.0, 3.0, 25)
FOLDS = 5
FEATURES = ('slope', 'margin', 'cosine', 'words')  # suffixes of decode_* and answer_*
# Minimum number of answers, and of right, of wrong and of unanswerable answers, to recalibrate.
FEWEST, FEWEST_OF_A_KIND = 30, 5
BETTER = 1e-3  # minimum decrease of the log-loss for more features
# Ridge penalties on the slopes of standardized features: without and with the vector as a feature.
RIDGE, RIDGE_OF_ALL = 1e-3, 0.1
ROWS_A_COLUMN = 4  # minimum number of rows per column if the vector is a feature
DIGITS = 4  # number of decimals of a stored direction

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Fitted = dict[str, Any]  # fields of CalibrationConfig: key -> number, or numbers


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question about a stream, with the answer embedding that the model predicts for it.

    `vector`: answer embedding (D,). `stream`: name of the stream. `concepts`: its concept set.
    """

    question: LabeledQuestion
    vector: NDArray[np.float32]
    stream: str = ''
    concepts: ConceptSet = RECORDINGS

    @property
    def answerable(self) -> bool:
        """Whether the stream allows an answer other than "cannot tell"."""
        return self.question.meaning != UNKNOWN

    def is_answered_by(self, text: str) -> bool:
        """Return whether a text is a correct answer to the question."""
        return self.concepts.expresses(self.question.meaning, text)


def predict_answers(
    vision: Vision, streams: Sequence[Stream], seed: int
) -> list[AnsweredQuestion]:
    """Predict answer embeddings for questions about every annotation, and annotated questions.

    Every stream is processed from its start to the time of each question.

    Args:
        vision: Vision side of the model.
        streams: Annotated streams.
        seed: Seed for the choice of questions.
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
) -> list[tuple[float, list[LabeledQuestion]]]:
    """Return the questions about a stream as pairs (seconds, questions), sorted by time."""
    found = [moment for item in stream.annotations for moment in pose(known, item, rng)]
    found += [((q.start + q.end) / 2, [as_question(q)]) for q in stream.questions()]
    return sorted(found, key=lambda moment: moment[0])


def calibrate(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], seed: int
) -> CalibrationConfig:
    """Fit the complete calibration, assign it to `language` and return it.

    Args:
        language: Text side of the model.
        answered: Questions with predicted answers.
        seed: Seed for the choice of wrong texts.
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
    """Refit those values of the calibration for which there are enough questions.

    This is for fine-tuned models: there are few questions, and few or none are unanswerable. All
    other values are kept, because they remain valid as far as the model answers as before. The
    directions are an exception: they are valid for the previous embeddings only, so they are
    refitted or removed.

    Args:
        language: Text side of the model, to which the result is assigned.
        answered: Questions with predicted answers.
        seed: Seed for the choice of wrong texts.

    Returns:
        The new calibration.
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
    chosen = _with_right_candidate(answered, before.unknown)
    unanswerable = sum(not a.answerable for a in chosen)
    if len(chosen) >= FEWEST and (not before.unknown or unanswerable >= FEWEST_OF_A_KIND):
        fitted = replace(fitted, **_scales(language, chosen, before.unknown))
    language.calibration = fitted
    return fitted


# Candidates.


def _scales(language: TextLanguage, answered: Sequence[AnsweredQuestion], unknown: str) -> Fitted:
    """Fit the temperatures and biases of the softmax over candidates by maximum likelihood.

    Args:
        language: Text side of the model, which embeds the candidates.
        answered: Questions; those without candidates are ignored.
        unknown: Text for "cannot tell", which competes with the candidates ('': none).
    """
    given = [a for a in answered if a.question.candidates]
    pairs = [a for a in given if yes_among(a.question.candidates) is not None]
    others = [a for a in given if yes_among(a.question.candidates) is None]
    found: Fitted = {}
    if (own := scale(language, pairs, unknown)) is not None:
        found = {'yes_no_temperature': own[0], 'yes_no_unknown_bias': own[1]}
        if any(a.answerable for a in pairs):
            found |= {'yes_bias': yes_bias(language, pairs, own[0])}
    if (ranked := scale(language, others, unknown) or own) is not None:
        found |= {'rank_temperature': ranked[0], 'unknown_bias': ranked[1]}
    return found


def scale(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], unknown: str
) -> tuple[float, float] | None:
    """Find the temperature and the bias of `unknown` with the highest likelihood by grid search.

    The grid is `TEMPERATURES` x `BIASES`. Questions without a correct candidate are ignored; if
    `unknown` is empty, these include unanswerable questions.

    Args:
        language: Text side of the model, which embeds the candidates.
        answered: Questions with candidates.
        unknown: Text for "cannot tell", which competes with the candidates ('': none).

    Returns:
        Temperature and bias; None if no question can be used.
    """
    answered = _with_right_candidate(answered, unknown)
    if not answered:
        return None
    texts = sorted({c for a in answered for c in a.question.candidates} | ({unknown} - {''}))
    row, embedded = {text: i for i, text in enumerate(texts)}, language.encode(texts)
    most = max(len(a.question.candidates) for a in answered) + 1
    cosine, right = np.full((len(answered), most), -np.inf), np.zeros(len(answered), np.int64)
    for i, a in enumerate(answered):
        others = [text for text in a.question.candidates if text != unknown]
        competing = [unknown, *others] if unknown else others
        cosine[i, : len(competing)] = embedded[[row[text] for text in competing]] @ a.vector
        right[i] = competing.index(_right_candidate(a, unknown))
    first = np.eye(1, most)
    return min(
        ((float(t), float(b)) for t in TEMPERATURES for b in (BIASES if unknown else (0.0,))),
        key=lambda fit: negative_log_likelihood(cosine / fit[0] + fit[1] * first, right),
    )


def _with_right_candidate(
    answered: Sequence[AnsweredQuestion], unknown: str
) -> list[AnsweredQuestion]:
    """Return the questions whose correct answer is one of their candidates, or `unknown`."""
    return [
        a
        for a in answered
        if a.question.candidates
        and _right_candidate(a, unknown) in (unknown, *a.question.candidates)
    ]


def _right_candidate(answered: AnsweredQuestion, unknown: str) -> str:
    """Return the correct answer, which is `unknown`, if not empty, to unanswerable questions."""
    return unknown if unknown and not answered.answerable else answered.question.answer


def yes_bias(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], temperature: float
) -> float:
    """Return the bias of the logit of yes, one of `BIASES`, with the highest likelihood.

    All pairs (topic, answer) have the same weight, so the fit does not depend on how frequent the
    answers yes and no are. Unanswerable questions are ignored.

    Args:
        language: Text side of the model, which embeds the candidates.
        answered: Questions with the two candidates yes and no.
        temperature: Temperature of the softmax over candidates.
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
        logits: Logits of the candidates (N, C), padded with -inf.
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
    """Fit the abstention thresholds, for questions with candidates and for decoded answers.

    Args:
        language: Text side of the model, with all other calibration values.
        answered: Questions with predicted answers.
        hypotheses: Decoded texts of each predicted answer, best first.
    """
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
    """Find the abstention threshold that best separates unanswerable from answerable questions.

    It maximizes the difference between the abstention rates on unanswerable and on answerable
    questions. Of several such thresholds, the highest is returned.

    Args:
        share: Probability of "cannot tell" for each question (N,).
        answerable: Whether each question is answerable (N,).
        most: Maximum abstention rate on answerable questions.

    Returns:
        The threshold in 0..1; 1 (never abstain) if all or none of the questions are answerable.
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
    """Fit the score of one text: a logistic regression on cosines of right and wrong captions.

    Args:
        language: Text side of the model.
        answered: Questions with predicted answers; only captions are used.
        rng: Draws the wrong captions.

    Returns:
        The calibration values `match_*` by key. They are missing if there are no right or no wrong
        captions, or if right captions do not have higher cosines than wrong ones.
    """
    cosine, right = _matches(language, answered, rng)
    if right.all() or not right.any():
        return {}
    (slope,), bias = fit_logistic_regression(cosine[:, None], right)
    return {'match_scale': 1.0 / slope, 'match_centre': -bias / slope} if slope > 0.0 else {}


def _matches(
    language: TextLanguage, answered: Sequence[AnsweredQuestion], rng: np.random.Generator
) -> tuple[Array, Flags]:
    """Return cosines between predicted captions and texts, and whether each text is right.

    Every prediction is compared with its own caption and with up to `WRONG_TEXTS` random captions
    of other concepts.
    """
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
    """Fit a logistic regression for the probability that a decoded text is right.

    Its inputs are chosen by cross-validation: a subset of `FEATURES`, or all of them and the
    predicted vector (a linear probe like P(IK), Kadavath et al., arXiv 2207.05221).

    Args:
        name: Prefix of the calibration keys: 'decode' or 'answer'.
        pairs: Questions with the decoded texts of their predicted answers, best first.

    Returns:
        Calibration values by key; empty if no text was decoded.
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
    """Remove the direction from a calibration, and add its mean contribution to the bias.

    Args:
        name: Prefix of the calibration keys: 'decode' or 'answer'.
        fitted: Calibration with the direction.
        answered: Questions whose predicted answers determine the mean.

    Returns:
        Changed calibration values by key; empty if there is no direction, or no question.
    """
    direction = np.array(getattr(fitted, f'{name}_direction'))
    if not len(direction) or not answered:
        return {}
    added = float(np.mean(np.stack([a.vector for a in answered]) @ direction))
    return {f'{name}_direction': (), f'{name}_bias': getattr(fitted, f'{name}_bias') + added}


def choose(x: Array, right: Flags, streams: Sequence[str], few: int) -> list[int]:
    """Select the columns of x that predict `right` best in cross-validation over streams.

    All subsets of the first `few` columns are tried, smallest first, then all columns together (if
    there are enough rows and streams). A later choice must reduce the log-loss by more than
    `BETTER`.

    Args:
        x: Features (N, F).
        right: Labels (N,).
        streams: Name of the stream of each row (N).
        few: Number of columns whose subsets are tried.

    Returns:
        Indices of the selected columns.
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
    """Return the ridge penalty for the selected columns: larger if they include the vector."""
    return RIDGE if len(columns) <= len(FEATURES) else RIDGE_OF_ALL


def cross_validated_loss(
    x: Array, right: Flags, fold: NDArray[np.int64], ridge: float = RIDGE
) -> float:
    """Return the mean log-loss (in nats) of a logistic regression on held-out folds.

    Args:
        x: Features (N, F).
        right: Labels (N,).
        fold: Index of the fold of each row (N,).
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
    """Fit a logistic regression by L-BFGS.

    One additional positive and one additional negative sample at the mean of x (Laplace smoothing)
    keep the bias finite, and the ridge penalty keeps the slopes finite.

    Args:
        x: Features (N, F).
        y: Labels (N,).
        ridge: Ridge penalty on the slopes of standardized features.

    Returns:
        The slopes (F,) and the bias.
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
