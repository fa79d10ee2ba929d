# SPDX-License-Identifier: Apache-2.0
"""CIDEr-D against calculated values, and against pycocoevalcap if it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vljepa_ros.evaluate.cider import Cider

CORPUS = [
    ['the robot opens the red drawer', 'the arm pulls the red drawer open'],
    ['the robot closes the blue window', 'the arm shuts the blue window'],
    ['it is dark', 'the light is off'],
    ['the arm presses the green button'],
]


def test_the_reference_itself_scores_ten() -> None:
    assert Cider(CORPUS).score('the arm presses the green button', CORPUS[3]) == pytest.approx(10)


def test_a_sentence_without_shared_words_scores_zero() -> None:
    assert Cider(CORPUS).score('purple elephants', CORPUS[0]) == 0.0


def test_the_score_falls_with_the_number_of_wrong_words() -> None:
    cider = Cider(CORPUS)
    right = cider.score('the robot opens the red drawer', CORPUS[0])
    near = cider.score('the robot opens the blue drawer', CORPUS[0])
    far = cider.score('the robot closes the blue window', CORPUS[0])
    assert right > near > far


@pytest.mark.parametrize('extra', [1, 6])
def test_the_length_penalty_equals_a_manual_calculation(extra: int) -> None:
    """All words are equally rare; n additional words give n bigrams that the reference lacks."""
    sentence = 'ash birch' + ''.join(f' w{i}' for i in range(extra))
    one = 2 / math.sqrt((2 + extra) * 2)
    two = 1 / math.sqrt(1 + extra)
    expected = 10 * math.exp(-(extra**2) / (2 * 6.0**2)) * (one + two) / 4
    found = Cider([['ash birch'], ['oak elm']]).score(sentence, ['ash birch'])
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_count_equals_repeated_items() -> None:
    counted = Cider(CORPUS[:3], [3, 1, 2])
    repeated = Cider([CORPUS[0]] * 3 + [CORPUS[1]] + [CORPUS[2]] * 2)
    for sentence in ('the robot opens the blue drawer', 'the light is off', 'the arm'):
        expected = repeated.score(sentence, CORPUS[0])
        assert counted.score(sentence, CORPUS[0]) == pytest.approx(expected)
    assert counted.score('the robot opens', CORPUS[0]) != Cider(CORPUS[:3]).score(
        'the robot opens', CORPUS[0]
    )


def test_each_item_needs_a_count() -> None:
    with pytest.raises(ValueError, match='zip'):
        Cider(CORPUS, [1, 2])


def test_scores_equal_pycocoevalcap() -> None:
    scorer = pytest.importorskip(
        'pycocoevalcap.cider.cider_scorer', reason='pip install pycocoevalcap to compare'
    )
    hypotheses = [
        'the robot opens the red drawer now',
        'the arm shuts the window',
        'it is it is off',
        'the green button',
    ]
    theirs = scorer.CiderScorer(n=4, sigma=6.0)
    for sentence, references in zip(hypotheses, CORPUS, strict=True):
        theirs += (sentence, references)
    _, expected = theirs.compute_score()
    cider = Cider(CORPUS)
    found = [cider.score(s, r) for s, r in zip(hypotheses, CORPUS, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
