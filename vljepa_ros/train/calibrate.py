# SPDX-License-Identifier: Apache-2.0
"""Stage 3: fits on validation streams what turns cosines and log-probabilities into confidences.

Every annotation is asked about at its middle, streamed from the stream's start: its caption, and
each kind of question (BENCHMARK.md, suite calibrate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vljepa_ros.data.format import Stream
from vljepa_ros.data.mwstream.meanings import is_right
from vljepa_ros.data.mwstream.questions import Question, answers, questions
from vljepa_ros.model.config import CalibrationConfig
from vljepa_ros.model.language import TextLanguage
from vljepa_ros.stream.interfaces import Eyes
from vljepa_ros.stream.types import Decoded

WRONG_TEXTS = 4  # texts of other meanings that each prediction is compared with


@dataclass(frozen=True)
class Asked:
    """A question, and the eyes' answer."""

    question: Question
    vector: NDArray[np.float32]


def ask_all(eyes: Eyes, streams: Sequence[Stream], seed: int) -> list[Asked]:
    """Ask about every annotation of the streams, in training wordings."""
    rng, asked = np.random.default_rng(seed), list[Asked]()
    per = eyes.facts.tubelet_frames
    for stream in streams:
        state, frames, done = eyes.new_state(), stream.frames(), 0
        for item in stream.annotations:
            middle = int((item.start + item.end) / 2 * eyes.facts.rate_hz) // per
            for t in range(done, middle):
                eyes.step(state, list(np.asarray(frames[per * t : per * (t + 1)])))
            done = max(done, middle)
            if done:
                pool = questions(item, rng)
                vectors = eyes.predict(state, [q.prompt for q in pool])
                asked += [Asked(q, v) for q, v in zip(pool, vectors, strict=True)]
    return asked


def calibrate(language: TextLanguage, asked: Sequence[Asked], seed: int) -> CalibrationConfig:
    """Fit all four numbers groups; `language`'s own calibration does not matter."""
    rng, start = np.random.default_rng(seed), CalibrationConfig()
    cosine, right = _matches(language, asked, rng)
    slope, bias = fit_logistic(cosine, right)
    decoded = language.decode(np.stack([a.vector for a in asked]))
    score = np.array([_raw(d, language) for d in decoded])
    said_right = np.array(
        [_is_right(a.question, d.text) for a, d in zip(asked, decoded, strict=True)]
    )
    decode_slope, decode_bias = fit_logistic(score, said_right)
    if decode_slope <= 0.0:  # likelier sentences were no better: all get the share of right ones
        share = float(np.clip(said_right.mean(), 0.01, 0.99))
        decode_slope, decode_bias = 0.0, float(np.log(share / (1 - share)))
    return replace(
        start,
        rank_temperature=_temperature(language, asked),
        match_scale=1.0 / slope,
        match_centre=-bias / slope,
        decode_slope=decode_slope,
        decode_bias=decode_bias,
    )


def _is_right(question: Question, text: str) -> bool:
    if question.kind == 'caption':
        return is_right(question.meaning, text)
    return text in answers(question.meaning)


def _raw(decoded: Decoded, language: TextLanguage) -> float:
    """The mean log-probability behind a confidence (the inverse of the present calibration)."""
    c = language.calibration  # its own, not fitted yet: the slope is not 0
    p = min(max(decoded.confidence, 1e-9), 1 - 1e-9)
    return float((np.log(p / (1 - p)) - c.decode_bias) / c.decode_slope)


def _matches(
    language: TextLanguage, asked: Sequence[Asked], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cosines of captions with their own sentence and with others'."""
    captions = [a for a in asked if a.question.kind == 'caption']
    texts = [a.question.answer for a in captions]
    embedded = language.encode(texts)
    cosine, right = [], []
    for row, item in enumerate(captions):
        cosine.append(float(item.vector @ embedded[row]))
        right.append(True)
        for other in rng.integers(0, len(captions), WRONG_TEXTS):
            if captions[other].question.meaning != item.question.meaning:
                cosine.append(float(item.vector @ embedded[other]))
                right.append(False)
    return np.array(cosine), np.array(right)


def _temperature(language: TextLanguage, asked: Sequence[Asked]) -> float:
    """The temperature at which the right candidates are likeliest."""
    groups = [a for a in asked if a.question.candidates]
    texts = sorted({c for a in groups for c in a.question.candidates})
    row = {text: i for i, text in enumerate(texts)}
    embedded = language.encode(texts)
    best, least = 0.07, np.inf
    for temperature in np.geomspace(0.01, 0.5, 60):
        loss = 0.0
        for item in groups:
            chosen = item.question.candidates
            logit = embedded[[row[c] for c in chosen]] @ item.vector / temperature
            right = chosen.index(item.question.answer)
            loss += float(np.logaddexp.reduce(logit) - logit[right])
        if loss < least:
            best, least = float(temperature), loss
    return best


def fit_logistic(
    x: NDArray[np.float64], y: NDArray[np.bool_], ridge: float = 1e-3
) -> tuple[float, float]:
    """Slope and bias of a logistic regression of y on x, by LBFGS."""
    mean, spread = float(x.mean()), float(x.std()) or 1.0
    inputs, target = torch.tensor((x - mean) / spread), torch.tensor(y, dtype=torch.float64)
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn='strong_wolfe')

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = weights[0] * inputs + weights[1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        value = value + ridge * weights[0] ** 2
        value.backward()
        return value

    optimizer.step(loss)
    first, second = weights.detach().tolist()
    slope = first / spread
    return slope, second - slope * mean
