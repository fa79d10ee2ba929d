# SPDX-License-Identifier: Apache-2.0
"""A whole training run on a tiny model and streams of colored squares: learning and resuming."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.synthetic_streams import SCENES, SIZE, film
from helpers.tiny_streaming import network
from numpy.typing import NDArray

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.types import Frame
from vljepa_ros.data.format import Stream, open_split, write_stream
from vljepa_ros.data.simulators.mwstream.meanings import sentences
from vljepa_ros.data.workspace import WORKSPACE
from vljepa_ros.model import registry
from vljepa_ros.model.config import (
    ModelConfig,
    PredictorConfig,
    RegionFinderConfig,
    TimeConfig,
    XEncoderConfig,
    YDecoderConfig,
)
from vljepa_ros.stream.perceiver import Perceiver
from vljepa_ros.train.config import (
    Clips,
    DecoderTraining,
    FamiliarityTraining,
    RegionTraining,
    TextTraining,
    TrainConfig,
    VisionTraining,
)
from vljepa_ros.train.run import TrainingRun, hold_back, train


def configuration(data: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        data=str(data),
        out=str(out),
        model=ModelConfig(
            name='tiny',
            embedding_dim=64,
            time=TimeConfig(window_tubelets=4),
            x_encoder=XEncoderConfig(image_size=SIZE, stem=(8, 16), width=32, layers=1, heads=2),
            predictor=PredictorConfig(width=32, layers=1, heads=2, answer_tokens=2),
            y_decoder=YDecoderConfig(width=32, layers=1, heads=2, max_tokens=24),
        ),
        seed=3,
        amp=False,
        text=TextTraining(steps=15, meanings=48, warmup_steps=3),
        vision=VisionTraining(
            steps=120,
            short=Clips(16, 1, 1, 1),
            medium=Clips(3, 4, 1, 2),
            long=Clips(2, 6, 1, 2),
            learning_rate=3e-3,
            warmup_steps=10,
            ema=0.95,
        ),
        decoder=DecoderTraining(steps=10, batch=16, clips=6, warmup_steps=2),
        checkpoint_steps=60,
        validation_steps=120,
    )


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('squares')
    for split, first, count in (('train', 0, 6), ('validation', 100, 1), ('test', 200, 1)):
        for seed in range(first, first + count):
            write_stream(folder / split, film(f'{split}-{seed:05d}', seed))
    return folder


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return train(configuration(data, tmp_path_factory.mktemp('trained')))


def test_the_trained_model_retrieves_the_right_scene(trained: Path, data: Path) -> None:
    """Retrieve the middle of every act among all scenes; chance level is 1/6."""
    model = registry.load(str(trained), device='cpu')
    assert model.vision is not None and model.language is not None
    names = [f'act:{task}:{colour}' for task, _, colour in SCENES]
    centers = np.stack([model.language.encode(sentences(name)).mean(axis=0) for name in names])
    right = []
    for stream in open_split(data / 'test').streams:
        vectors = embeddings(stream, Perceiver(model.vision))
        for item in stream.annotations:
            if item.phase == 'act':
                vector = vectors[round((item.start + item.end) / 2, 1)]
                right.append(names[int(np.argmax(centers @ vector))] == item.meaning)
    assert np.mean(right) >= 0.6


def embeddings(stream: Stream, perceiver: Perceiver) -> dict[float, NDArray[np.float32]]:
    """Return each hop's vector by the times of its newest frame and of the next frame."""
    found = {}
    for stamp_ns, image in zip(stream.stamps_ns(), stream.frames(), strict=True):
        for hop in perceiver.push(Frame(int(stamp_ns), np.asarray(image))):
            found[round(hop.stamp_ns / 1e9, 1)] = hop.vector
            found[round(hop.stamp_ns / 1e9 + 0.1, 1)] = hop.vector
    return found


def test_the_model_folder_has_the_calibration_and_the_text_tower_hash(trained: Path) -> None:
    config = registry.read_config(trained)
    assert config.calibration != type(config.calibration)()
    assert len(config.text_tower.sha256) == 64 and config.y_decoder.vocabulary > 100


def test_finished_stages_are_not_trained_again(trained: Path, data: Path, tmp_path: Path) -> None:
    config = configuration(data, trained)
    run = TrainingRun(config)
    net = run.texts()
    text = torch.load(trained / 'checkpoints' / 'texts.pt', weights_only=True)['state']
    assert all(torch.equal(text[k], v) for k, v in net.y_encoder.state_dict().items())
    lines = (trained / 'checkpoints' / 'log.jsonl').read_text()
    run.vision(net)  # all steps are done: nothing is trained, nothing is logged
    assert (trained / 'checkpoints' / 'log.jsonl').read_text() == lines


def test_run_with_region_finder_trains_and_saves_it(data: Path, tmp_path: Path) -> None:
    """Frames of 32 pixels are cropped to 16; a second run restores the finder."""
    for split in ('train', 'validation'):
        for stream in open_split(data / split).streams:
            count = stream.frame_count
            state = {'light': np.ones(count), 'cover': np.zeros(count)}
            state |= {name: np.full(count, 0.6) for name in WORKSPACE}
            frames, folder = np.asarray(stream.frames()[:]), tmp_path / split
            whole = film(stream.name, 0)
            write_stream(folder, replace(whole, frames=frames, state=state))
    config = configuration(tmp_path, tmp_path / 'out')
    model = dataclasses.replace(
        config.model,
        region_finder=RegionFinderConfig(SIZE, (8, 8)),
        x_encoder=dataclasses.replace(config.model.x_encoder, image_size=SIZE // 2),
    )
    config = dataclasses.replace(
        config,
        model=model,
        text=dataclasses.replace(config.text, steps=2),
        regions=RegionTraining(steps=3, batch=4, warmup_steps=1),
        vision=dataclasses.replace(config.vision, steps=3),
        decoder=dataclasses.replace(config.decoder, steps=2),
        familiarity=FamiliarityTraining(enabled=False),
        validation_steps=1000,
    )
    saved = registry.load(str(train(config)), device='cpu')
    assert saved.facts.image_size == SIZE
    assert saved.vision is not None
    finder = network(saved.vision).region_finder
    again = TrainingRun(config)
    net = again.texts()
    assert net.region_finder is not None
    again.regions(net)
    for key, value in net.region_finder.state_dict().items():
        torch.testing.assert_close(finder.state_dict()[key], value, atol=1e-3, rtol=1e-2)


def test_a_checkpoint_of_another_configuration_is_refused(trained: Path, data: Path) -> None:
    config = configuration(data, trained)
    other = dataclasses.replace(config, vision=dataclasses.replace(config.vision, gap_weight=0.25))
    run = TrainingRun(other)
    net = run.texts()  # does not depend on the vision stage
    with pytest.raises(InputError, match=r'vision\.gap_weight.* 0\.5.* 0\.25'):
        run.vision(net)


def test_a_damaged_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    run = TrainingRun(configuration(data, tmp_path))
    (tmp_path / 'checkpoints' / 'texts.pt').write_bytes(b'PK\x03\x04 not a checkpoint')
    with pytest.raises(InputError, match=r'texts\.pt'):
        run.texts()


def test_a_tenth_of_the_streams_is_held_out_from_vision_training(data: Path) -> None:
    few = list(open_split(data / 'train').streams)
    assert hold_back(few) == (few, few)
    many = (few * 4)[:20]
    vision, decoder = hold_back(many)
    assert decoder == [many[9], many[19]] and len(vision) == 18


def test_a_sentence_too_long_for_the_decoder_is_reported_before_training(
    data: Path, tmp_path: Path
) -> None:
    config = configuration(data, tmp_path)
    short = dataclasses.replace(config.model.y_decoder, max_tokens=8)
    with pytest.raises(InputError, match=r'y_decoder\.max_tokens.*8'):
        TrainingRun(
            dataclasses.replace(config, model=dataclasses.replace(config.model, y_decoder=short))
        )


def test_streams_with_another_frame_rate_are_named(data: Path, tmp_path: Path) -> None:
    write_stream(tmp_path / 'train', replace(film('fast', 1), meta={'rate_hz': 20}))
    with pytest.raises(InputError, match=r'fast has 20 .* 32 px.* 10'):
        TrainingRun(configuration(tmp_path, tmp_path / 'out'))


def test_streams_shorter_than_a_clip_are_left_out(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = film('whole', 1)
    short = replace(
        whole,
        name='short',
        frames=whole.frames[:11],
        stamps_ns=whole.stamps_ns[:11],
        annotations=(replace(whole.annotations[0], end=1.1),),
    )
    for made in (whole, short):
        write_stream(tmp_path / 'train', made)
    (tmp_path / 'validation').symlink_to(data / 'validation')
    run = TrainingRun(configuration(tmp_path, tmp_path / 'out'))
    assert [stream.name for stream in run.train] == ['whole']
    assert 'short' in caplog.text and '12 frames' in caplog.text


def test_missing_data_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='folder'):
        train(configuration(tmp_path / 'nowhere', tmp_path / 'out'))
