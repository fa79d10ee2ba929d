# SPDX-License-Identifier: Apache-2.0
"""Training of a streaming model with `vljepa train`: runs all stages and writes the model folder.

The stages are: texts, region finder, vision, decoder, calibration and familiarity (detectors of
unfamiliar scenes and unreadable texts). Checkpoints are written to `<out>/checkpoints`; an
interrupted run resumes from them.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vljepa_ros.core.errors import InputError
from vljepa_ros.data import concepts, unfamiliar
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.model.registry import load, pick_device, save
from vljepa_ros.model.streaming.network import FINDER, VISION, VLJEPA
from vljepa_ros.model.streaming.text import TextLanguage
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train import checkpoint
from vljepa_ros.train.calibration_stage import calibrate, predict_answers
from vljepa_ros.train.clip_loader import StepBatches
from vljepa_ros.train.clips import RATE_HZ, Batch, ClipSampler, Crops
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.data_parallelism import Workers
from vljepa_ros.train.decoder_stage import Vocabulary, train_decoder
from vljepa_ros.train.familiarity import calibrate_familiarity
from vljepa_ros.train.optimizer import prepare_gpu
from vljepa_ros.train.region_stage import RegionStage
from vljepa_ros.train.text_bank import ConceptTexts, TextBank, annotated_concepts
from vljepa_ros.train.text_stage import TextStage, concept_vectors
from vljepa_ros.train.training_log import Log, progress
from vljepa_ros.train.validation_curves import validate
from vljepa_ros.train.vision_stage import VisionStage
from vljepa_ros.train.warm_start import start_from

PARTS = (FINDER, *VISION, 'y_encoder')
LOGGED, LOGGED_REGIONS = 20, 200  # steps between two log lines
VALIDATED = 16  # number of validation streams that are evaluated during training
HELD_BACK = 10  # every tenth stream is held back from the training of the vision side

log = logging.getLogger(__name__)


class TrainingRun:
    """A training run: its data and texts, and one method per stage."""

    def __init__(self, config: TrainConfig) -> None:
        unfamiliar.require(config.familiarity.unfamiliar)  # fails before training, not after it
        torch.manual_seed(config.seed)
        self.workers = Workers(pick_device(config.device))
        if self.workers.device.type == 'cuda':
            prepare_gpu()
        self.config, self.out = config, Path(config.out)
        self.folder = self.out / 'checkpoints'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.train, self.held_back = hold_back(_streams(config, config.train))
        self.validation = _streams(config, config.validation)
        self.tower = TextTower(config.model.text_tower, self.workers.device)
        self.bank, self.concept_texts = TextBank(self.tower), self._concept_texts()
        self.log = Log(self.folder, self.out / 'tensorboard', self.workers.first)
        self.sentences = [t for texts in self.concept_texts.sentences.values() for t in texts]
        limit = config.model.y_decoder.max_tokens
        finder = config.model.region_finder
        self.crops = (
            Crops(config.model.x_encoder.image_size, finder.smallest)
            if finder.image_size
            else None
        )
        self.vocabulary = Vocabulary(self.tower.pieces, self.sentences, limit)

    def _concept_texts(self) -> ConceptTexts:
        """Collect the concepts of the streams' training tasks, and their annotated texts."""
        streams = [*self.train, *self.held_back]
        known = concepts.of(streams)
        shown = {item.task for stream in streams for item in stream.annotations}
        tasks = [task for task in known.train_tasks if task in shown]
        return ConceptTexts(annotated_concepts(streams), known, tasks)

    def texts(self) -> VLJEPA:
        """Train the Y-Encoder (stage 1), or load its checkpoint, and return the network.

        With `config.start`, the network has the weights of that model instead.
        """
        config, path = self.config, self.folder / 'texts.pt'
        state = checkpoint.read(path, config)
        net = VLJEPA(config.model, PARTS).to(self.workers.device)
        self.bank.prepare(self.sentences, self.folder / 'token_states.pt', self.workers)
        if config.start:
            start_from(net, Path(config.start), PARTS)
        elif state:
            net.y_encoder.load_state_dict(state)
        else:
            self._train_texts(
                TextStage(net.y_encoder, config, self.bank, self.concept_texts, self.workers)
            )
            if self.workers.first:
                checkpoint.write(path, config, net.y_encoder.state_dict())
        net.y_encoder.requires_grad_(False).eval()
        return net

    def regions(self, net: VLJEPA) -> None:
        """Train the region finder of `net`, or load it from its checkpoint.

        Nothing is done if the model has no region finder.
        """
        finder, path = net.region_finder, self.folder / 'region_finder.pt'
        if finder is None:
            return
        if self.workers.first and checkpoint.read(path, self.config) is None:
            self._train_regions(RegionStage(finder, self.train, self.config))
            checkpoint.write(path, self.config, finder.state_dict())
        self.workers.barrier()
        state = checkpoint.read(path, self.config)
        assert state is not None
        finder.load_state_dict(state)
        finder.requires_grad_(False).eval()

    def vision(self, net: VLJEPA) -> VLJEPA:
        """Train the vision side of `net` (stage 2) and return `net` with the averaged weights.

        Training resumes from the checkpoint if there is one.
        """
        config, path = self.config, self.folder / 'vision.pt'
        state = checkpoint.read(path, config)
        targets = concept_vectors(net.y_encoder, self.bank, self.concept_texts).clone()
        stage = VisionStage(net, targets, self.concept_texts, config, self.bank, self.workers)
        if state:
            stage.restore(state)
            log.info('vision: resuming from step %d', stage.done)
        seed = config.seed + stage.done + 1_000_000 * self.workers.rank
        streams, per = self.workers.own_items(self.train), config.model.time.tubelet_frames
        steps = StepBatches(streams, per, seed, config.vision, stage.done, self.crops)
        self._train_vision(stage, steps.loaded(config.loaders), path)
        stage.average.copy_to_module()
        return net.eval()

    def decoder(self, vision: VLJEPA) -> VLJEPA:
        """Train the Y-Decoder (stage 3) and return the complete network."""
        sampler = ClipSampler(
            self.held_back,
            self.config.model.time.tubelet_frames,
            self.config.seed + 1_000_003,
            self.crops,
        )
        return train_decoder(
            vision,
            self.config,
            self.vocabulary,
            self.tower.sha256,
            self.bank,
            self.concept_texts,
            sampler,
            self.log,
        )

    def calibrate(self, net: VLJEPA) -> None:
        """Fit the calibration on the validation streams (stage 4) and save the model."""
        save(net, self.out)
        model = load(str(self.out), device=self.config.device)
        assert model.vision is not None and isinstance(model.language, TextLanguage)
        answered = predict_answers(model.vision, self.validation, self.config.seed)
        fitted = calibrate(model.language, answered, self.config.seed)
        net.config = dataclasses.replace(net.config, calibration=fitted)
        save(net, self.out)
        numbers = {k: v for k, v in dataclasses.asdict(fitted).items() if isinstance(v, float)}
        self.log.write('calibration', 0, numbers | {'questions': len(answered)})

    def familiarity(self) -> None:
        """Fit and save the detectors of unfamiliar scenes and unreadable texts (stage 5).

        Nothing is done if the stage is disabled.
        """
        stage = self.config.familiarity
        if not stage.enabled:
            return
        fitted = calibrate_familiarity(
            self.out, self.validation, stage.unfamiliar, self.config.device
        )
        self.log.write('familiarity', 0, {'refused': max(fitted.refused.values())})

    def _train_texts(self, stage: TextStage) -> None:
        total = 0.0
        with progress('texts', stage.config.steps, shown=self.workers.first) as advance:
            while stage.done < stage.config.steps:
                total += stage.step()
                advance(1)
                if stage.done % 100 == 0:
                    self.log.write('texts', stage.done, {'loss': total / 100})
                    total = 0.0

    def _train_regions(self, stage: RegionStage) -> None:
        with progress('region finder', stage.steps) as advance:
            for step in range(1, stage.steps + 1):
                loss = stage.step()
                advance(1)
                if step % LOGGED_REGIONS == 0:
                    self.log.write('region finder', step, {'loss': loss})
        stage.average.copy_to_module()

    def _train_vision(self, stage: VisionStage, batches: Iterable[Batch], path: Path) -> None:
        every, start, sums = self.config.checkpoint_steps, time.monotonic(), dict[str, Tensor]()
        first, steps = stage.done, stage.stage.steps
        with progress('vision', steps, first, self.workers.first) as advance:
            for batch in batches:
                for key, value in stage.step(batch).items():
                    sums[key] = sums.get(key, 0.0) + value
                advance(1)
                last = stage.done == steps
                if stage.done % LOGGED == 0:
                    pace = (time.monotonic() - start) / (stage.done - first)
                    means = {key: value.item() / LOGGED for key, value in sums.items()}
                    self.log.write('vision', stage.done, {'s/step': pace, **means})
                    sums.clear()
                if self.workers.first and (stage.done % every == 0 or last):
                    checkpoint.write(path, self.config, stage.state())
                if stage.done % self.config.validation_steps == 0 or last:
                    self._validate(stage)

    def _validate(self, stage: VisionStage) -> None:
        if self.workers.first:
            with stage.average.in_use():
                found = validate(stage.net, self.tower, evenly(self.validation, VALIDATED))
            self.log.write('validation', stage.done, found)
        self.workers.barrier()


def evenly(streams: Sequence[Stream], count: int) -> list[Stream]:
    """Select at most `count` streams at even distances in the list, to represent all splits."""
    if len(streams) <= count:
        return list(streams)
    return [streams[i * len(streams) // count] for i in range(count)]


def hold_back(streams: list[Stream]) -> tuple[list[Stream], list[Stream]]:
    """Hold back every tenth stream from the training of the vision side, for the decoder.

    Returns:
        Streams for the vision side, and streams for the decoder. With fewer than ten streams, both
        lists contain all of them.
    """
    if len(streams) < HELD_BACK:
        return streams, streams
    train = [stream for i, stream in enumerate(streams) if i % HELD_BACK != HELD_BACK - 1]
    return train, streams[HELD_BACK - 1 :: HELD_BACK]


def _streams(config: TrainConfig, splits: Sequence[str]) -> list[Stream]:
    """Open all complete streams of some splits that are at least as long as the longest clip.

    Raises:
        InputError: A split has no such stream, or a stream does not have the frame rate and image
            size of the model.
    """
    return [stream for split in splits for stream in _split(config, split)]


def _split(config: TrainConfig, split: str) -> list[Stream]:
    folder, model = Path(config.data) / split, config.model
    found = open_split(folder)
    for name, reason in found.skipped:
        log.warning('skipped %s: %s', name, reason)
    for stream in found.streams:
        rate, side = stream.meta.get('rate_hz', RATE_HZ), stream.frames().shape[1]
        if rate != model.time.rate_hz or side != model.image_size:
            raise InputError(
                f'{stream.folder} has {rate:g} frames/s of {side} px, but the model expects '
                f'{model.time.rate_hz:g} frames/s of {model.image_size} px: generate or import '
                f'the data with this rate and size'
            )
    longest = config.vision.longest_tubelets * model.time.tubelet_frames
    long = [stream for stream in found.streams if stream.frame_count >= longest]
    for stream in found.streams:
        if stream.frame_count < longest:
            log.warning('skipped %s: it is shorter than a clip of %d frames', stream.name, longest)
    if not long:
        raise InputError(f'found no complete stream of {longest} frames or more in {folder}')
    return long


def train(config: TrainConfig) -> Path:
    """Run all stages that are not finished yet, and return the folder of the model.

    In a run with several processes, every process must call this function.
    """
    run = TrainingRun(config)
    net = run.texts()
    run.regions(net)
    net = run.vision(net)
    if run.workers.first:
        run.calibrate(run.decoder(net))
        run.familiarity()
    return run.out
