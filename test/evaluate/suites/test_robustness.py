# SPDX-License-Identifier: Apache-2.0
"""Suite robustness: effects on images and stamps, without other changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.toy_suites import DIM, ToyVision, annotation, context, film

from vljepa_ros.core.protocols import ModelFacts
from vljepa_ros.data.format import Annotation, Stream, StreamData, read_stream, write_stream
from vljepa_ros.data.simulators.mwstream.concepts import CONCEPTS
from vljepa_ros.evaluate.image_corruptions import (
    CORRUPTIONS,
    StampedClip,
    at_rate,
    blurred,
    jpeg,
    noisy,
    resized,
    shaken,
    unchanged,
    uneven,
)
from vljepa_ros.evaluate.moments import AnnotationMoment, moments
from vljepa_ros.evaluate.suites.robustness import robustness, seen, some_questions
from vljepa_ros.evaluate.views import answers

RNG = np.random.default_rng


def numbered_clip(count: int = 20, size: int = 8) -> StampedClip:
    """Return images 0, 1, ... at 10 frames/s."""
    stamps = tuple(7 + 100_000_000 * i for i in range(count))
    return StampedClip(stamps, tuple(np.full((size, size, 3), i, np.uint8) for i in range(count)))


def scene(size: int = 32) -> StampedClip:
    rng = RNG(3)
    image = np.kron(rng.integers(40, 216, (size // 4, size // 4, 3)), np.ones((4, 4, 1)))
    return StampedClip((0,), (image.astype(np.uint8),))


def image_numbers(clip: StampedClip) -> list[int]:
    return [int(image[0, 0, 0]) for image in clip.images]


@pytest.mark.parametrize(
    ('rate', 'expected'),
    [(10, list(range(20))), (5, list(range(1, 20, 2))), (2, [4, 9, 14, 19])],
)
def test_a_slow_camera_drops_frames_and_keeps_the_newest(rate: int, expected: list[int]) -> None:
    clip = at_rate(rate)(numbered_clip(), RNG(0))
    assert image_numbers(clip) == expected
    assert list(clip.stamps_ns) == [7 + 100_000_000 * i for i in expected]


def test_a_fast_camera_repeats_frames_at_intermediate_stamps() -> None:
    clip = at_rate(30)(numbered_clip(4), RNG(0))
    assert image_numbers(clip) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    gaps = np.diff(clip.stamps_ns)
    assert clip.stamps_ns[-1] == 300_000_007 and np.abs(gaps - 1e9 / 30).max() <= 1
    clip = at_rate(15)(numbered_clip(4), RNG(0))  # 0.033, 0.1, 0.167, 0.233, 0.3 s
    assert image_numbers(clip) == [0, 1, 1, 2, 3]


def test_resized_reduces_the_image_size_and_keeps_the_mean() -> None:
    clip = resized(4)(scene(), RNG(0))
    assert clip.images[0].shape == (4, 4, 3)
    mean = clip.images[0].mean()
    assert mean == pytest.approx(scene().images[0].mean(), abs=1.0)


def test_jpeg_error_grows_at_lower_quality_and_channels_keep_their_order() -> None:
    before = scene().images[0].astype(float)
    loss = [
        np.abs(jpeg(quality)(scene(), RNG(0)).images[0] - before).mean() for quality in (5, 30, 95)
    ]
    assert loss[0] > loss[1] > loss[2] > 0
    red = StampedClip((0,), (np.full((16, 16, 3), (200, 10, 30), np.uint8),))
    sent = jpeg(90)(red, RNG(0)).images[0]
    np.testing.assert_allclose(sent[8, 8], (200, 10, 30), atol=6)


def test_noise_has_the_requested_standard_deviation() -> None:
    gray = StampedClip((0,), (np.full((64, 64, 3), 128, np.uint8),))
    found = noisy(10)(gray, RNG(0)).images[0].astype(float)
    assert found.std() == pytest.approx(10, rel=0.05) and found.mean() == pytest.approx(128, abs=1)
    white = StampedClip((0,), (np.full((8, 8, 3), 255, np.uint8),))
    assert noisy(10)(white, RNG(0)).images[0].min() > 150  # no grey level wraps round


def test_blur_spreads_a_point_by_sigma() -> None:
    image = np.zeros((33, 33, 3), np.uint8)
    image[16, 16] = 255
    found = blurred(2.0)(StampedClip((0,), (image,)), RNG(0)).images[0][..., 0].astype(float)
    x = np.arange(33) - 16
    assert found[16].sum() > 0
    spread = np.sqrt((found.sum(axis=0) * x**2).sum() / found.sum())
    assert spread == pytest.approx(2.0, rel=0.2)


def test_shake_shifts_each_image_separately_within_its_limit() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[14:18, 14:18] = 255
    clip = shaken(3)(StampedClip(tuple(range(60)), (image,) * 60), RNG(0))
    places = [tuple(np.argwhere(i[..., 0])[0] - 14) for i in clip.images]
    assert len(set(places)) > 10
    assert np.abs(places).max() == 3 and all(i.shape == (32, 32, 3) for i in clip.images)
    assert all((i == 255).sum() == 48 for i in clip.images)
    flat = StampedClip((0,), (np.full((8, 8, 3), 99, np.uint8),))
    assert (shaken(8)(flat, RNG(0)).images[0] == 99).all()  # the edge is repeated


def test_all_documented_corruptions_are_evaluated() -> None:
    assert len(CORRUPTIONS) == 1 + 4 + 5 + 5 + 2 + 3 + 4 + 4
    assert {'24x24 pixels', 'JPEG quality 5', '30 frames/s', 'blur of 0.5 px'} <= set(CORRUPTIONS)
    assert {'noise of 40 grey levels', 'shaken by 8 px', 'as recorded'} <= set(CORRUPTIONS)


class RecordingVision:
    """Vision side that records its input images."""

    facts = ModelFacts('recording', DIM, 8, 10.0, 2, 4, 7)

    def __init__(self) -> None:
        self.images: list[Any] = []

    def new_state(self) -> None:
        self.images.clear()

    def step(self, state: None, images: Sequence[Any]) -> None:
        self.images += [np.array(image) for image in images]

    def predict(self, state: None, prompts: Sequence[str]) -> Any:
        return np.eye(DIM, dtype=np.float32)[: len(prompts)]

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Accept all."""

    def unfamiliar(self, state: None) -> float:
        return 0.0

    def unreadable(self, prompt: str) -> float:
        return 0.0


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """Return a stream of six seconds in which each image encodes its number."""
    frames = np.stack([np.full((8, 8, 3), i, np.uint8) for i in range(60)])
    annotations = (Annotation(0.0, 6.0, 'act:push:red', 'act', 'push', 'puck', 'red'),)
    stamps = 5 + np.arange(60, dtype=np.int64) * 100_000_000
    return read_stream(write_stream(tmp_path, StreamData('s', frames, stamps, annotations, {})))


def test_a_clip_without_corruption_gives_the_input_of_other_suites(stream: Stream) -> None:
    moment = AnnotationMoment(stream, stream.annotations[0])
    one, other = RecordingVision(), RecordingVision()
    vectors = seen(one, moment, ['a', 'b'], unchanged)
    np.testing.assert_array_equal(vectors, answers(other, stream, moment.at_s, ['a', 'b']))
    np.testing.assert_array_equal(one.images, other.images)
    assert len(one.images) == 20 and int(one.images[-1][0, 0, 0]) == 30


def test_frames_at_another_rate_are_resampled_to_the_models_grid(stream: Stream) -> None:
    vision, moment = RecordingVision(), AnnotationMoment(stream, stream.annotations[0])
    seen(vision, moment, ['a'], at_rate(5))
    twice = [12, 12, 14, 14, *(n for at in range(16, 29, 2) for n in (at, at + 2))]
    assert [int(image[0, 0, 0]) for image in vision.images] == twice  # see Perceiver


def test_frames_with_stamp_jitter_are_all_encoded(stream: Stream) -> None:
    clip = uneven(20)(numbered_clip(), RNG(0))
    assert (
        clip.stamps_ns != numbered_clip().stamps_ns
        and clip.stamps_ns[-1] == numbered_clip().stamps_ns[-1]
    )
    off = np.abs(np.subtract(clip.stamps_ns, numbered_clip().stamps_ns))
    assert 5_000_000 < off.max() <= 20_000_000
    vision, moment = RecordingVision(), AnnotationMoment(stream, stream.annotations[0])
    seen(vision, moment, ['a'], uneven(10))
    assert [int(image[0, 0, 0]) for image in vision.images] == list(range(11, 31))


def test_small_images_are_resized_to_the_models_size(stream: Stream) -> None:
    vision, moment = RecordingVision(), AnnotationMoment(stream, stream.annotations[0])
    seen(vision, moment, ['a'], resized(4))
    assert {image.shape for image in vision.images} == {(8, 8, 3)}


@pytest.fixture
def streams(tmp_path: Path) -> list[Stream]:
    scenes = []
    for i, thing in enumerate(('blue tin', '')):
        for phase, state in (('rest', 'closed'), ('act', ''), ('done', 'open')):
            more = {'thing': thing, 'episode': i, 'object_state': state}
            scenes.append(annotation(phase, 'drawer-open', **more))
    return [film(tmp_path, name, scenes) for name in 'abc']


def test_questions_are_balanced_for_any_count(streams: list[Stream]) -> None:
    for count in (4, 8, 12):
        found = some_questions(CONCEPTS, moments(streams, CONCEPTS.train_tasks), count)
        topics = {p.question.topic for p in found}
        answered = Counter(p.question.meaning for p in found)
        assert len(found) == count and answered['yes'] == answered['no'] == count // 2
        assert len(topics) == min(count // 2, 6)
    assert {p.question.kind for p in found} == {'yes/no'}
    assert found == some_questions(CONCEPTS, moments(streams, CONCEPTS.train_tasks), 12)


def test_each_corruption_has_both_metrics(streams: list[Stream]) -> None:
    report = robustness(context(streams, ToyVision()))
    rows = {(row.who, row.what): row.mean for row in report.rows}
    assert len(rows) == 2 * len(CORRUPTIONS)
    assert {who for who, _ in rows} == set(CORRUPTIONS)
    assert rows['as recorded', 'top-1, training paraphrases'].value == 1.0
    assert rows['as recorded', 'top-1, training paraphrases'].count == 3  # of one task
    assert rows['2 frames/s', 'top-1, training paraphrases'].value == 1.0
    assert rows['as recorded', 'yes/no'].count > 10
    assert rows['noise of 40 grey levels', 'top-1, training paraphrases'].value == 0.0
