# SPDX-License-Identifier: Apache-2.0
"""Targets of the probes of stage 2, and questions about clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_streaming import network, tower
from torch import Tensor

from vljepa_ros.data.format import Annotation
from vljepa_ros.data.questions import LabeledQuestion
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.train.clips import STATE, Batch, Labels
from vljepa_ros.train.text_bank import TextBank
from vljepa_ros.train.vision_stage import VisionRunner

SIDE = 32  # pixels of the tiny model's images
UNANNOTATED = Annotation(0, 5, '', 'none', '', '', '')


def annotation(phase: str, **more: Any) -> Annotation:
    """Return an annotation with a blue tin."""
    values = {'object_state': 'open', 'thing': 'blue tin', **more}
    return Annotation(0, 5, f'{phase}:x', phase, 'drawer-open', 'drawer', 'red', **values)


def test_visible_labels_are_probed() -> None:
    label = CONCEPTS.label(annotation('done'))
    assert label == {
        'phase': 'done',
        'task': 'drawer-open',
        'colour': 'red',
        'object_state': 'open',
        'thing': 'tin',
        'thing_colour': 'blue',
    }
    assert label.keys() == CONCEPTS.labels.keys()
    assert all(name in CONCEPTS.labels[kind] for kind, name in label.items())
    assert CONCEPTS.label(annotation('done', thing=''))['thing'] == ''


def test_hidden_objects_are_not_probed() -> None:
    assert CONCEPTS.label(annotation('dark', light=False)) == {'phase': 'dark'}
    assert CONCEPTS.label(annotation('covered', covered=True)) == {'phase': 'covered'}
    assert 'thing' not in CONCEPTS.label(annotation('gone'))  # it disappears during the span


def posed(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, clips: list[Labels], count: int
) -> list[tuple[int, int]]:
    """Return the indices of the clip and the tubelet of every prompt of a prediction."""
    net, found = network(tiny.vision), list[tuple[int, int]]()
    answers = net.predictor.answers

    def record(prefix: Any, prompt: Tensor, mask: Tensor, clip: Tensor, at: Tensor) -> Tensor:
        found.extend(zip(clip.tolist(), at.tolist(), strict=True))
        vectors: Tensor = answers(prefix, prompt, mask, clip, at)
        return vectors

    monkeypatch.setattr(net.predictor, 'answers', record)
    shape = (len(clips), len(clips[0].annotations), 2, SIDE, SIDE, 3)
    runner = VisionRunner(net, TextBank(tower(tiny.vision)), np.random.default_rng(0), 1.0)
    with torch.no_grad():
        predictions = runner.predict(Batch(torch.zeros(shape, dtype=torch.uint8), clips), count)
    assert len(predictions.concepts) == len(predictions.vectors) == len(found)
    return sorted(found)


def labels(
    item: Annotation,
    tubelets: int,
    *questions: tuple[LabeledQuestion, list[int]],
    prompt: str = '',
) -> Labels:
    """Return the labels of a clip with one annotation."""
    state = np.zeros((tubelets, len(STATE)), np.float32)
    return Labels([item] * tubelets, state, prompt, list(questions))


@pytest.mark.parametrize('count', [1, 3, 9])
def test_questions_are_posed_only_at_tubelets_where_their_answers_hold(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    question = LabeledQuestion('Is it?', 'yes', 'yes', 'yes/no', ('yes', 'no'), 'state', '')
    clip = labels(UNANNOTATED, 6, (question, [2, 3, 5]))
    found = posed(tiny, monkeypatch, [clip, clip], count)
    for number in (0, 1):
        at = [tubelet for row, tubelet in found if row == number]
        assert set(at) <= {2, 3, 5} and len(at) == len(set(at)) == min(count, 3)


def test_tubelets_without_annotations_have_no_captions_or_questions(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between annotated spans there is no target concept."""
    nothing = LabeledQuestion('What is happening?', '', '', 'caption')
    without = labels(UNANNOTATED, 2, (nothing, [0, 1]), prompt='What is it?')
    annotated = labels(annotation('done'), 2, prompt='What is it?')
    assert posed(tiny, monkeypatch, [without, annotated], 2) == [(1, 0), (1, 1)]
