# SPDX-License-Identifier: Apache-2.0
"""`vljepa train CONFIG`: eyes, then decoder, then calibration; writes the model folder.

Checkpoints lie in `<out>/checkpoints`; a run that was stopped goes on from them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.errors import InputError
from vljepa_ros.model.language import TextLanguage
from vljepa_ros.model.registry import WEIGHTS, load, load_weights, save
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.train.calibrate import ask_all, calibrate
from vljepa_ros.train.clips import ClipSampler
from vljepa_ros.train.config import TrainConfig
from vljepa_ros.train.decoder import train_decoder
from vljepa_ros.train.eyes import PARTS, EyesStage, save_checkpoint
from vljepa_ros.train.texts import TextBank
from vljepa_ros.train.validate import accuracy, classify

log = logging.getLogger(__name__)


class Run:
    """Data, texts and net of a training run."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, Path(config.out)
        self.folder = self.out / 'checkpoints'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.train = _streams(Path(config.data) / 'train')
        self.validation = _streams(Path(config.data) / 'validation')
        tower = TextTower(config.model.text_tower, torch.device('cpu'))
        self.bank = TextBank(tower)
        self.tower = tower

    def eyes(self) -> VLJEPA:
        """Stage 1, from its checkpoint if there is one; returns the net with averaged weights."""
        config = self.config
        net = VLJEPA(config.model, PARTS)
        if config.start:
            load_weights(net, Path(config.start) / WEIGHTS, PARTS)
        path = self.folder / 'eyes.pt'
        state = torch.load(path, weights_only=True) if path.exists() else None
        seed = config.seed + (state['done'] if state else 0)
        sampler = ClipSampler(self.train, config.model.time.tubelet_frames, seed)
        stage = EyesStage(net, config, sampler, self.bank)
        self.bank.add([t for texts in stage.meanings.sentences.values() for t in texts])
        if state:
            stage.restore(state)
            log.info('eyes: going on from step %d', stage.done)
        self._train_eyes(stage, path)
        stage.use_average()
        return net.eval()

    def decoder(self, eyes: VLJEPA) -> VLJEPA:
        """Stage 2: the whole model."""
        sampler = ClipSampler(
            self.train, self.config.model.time.tubelet_frames, self.config.seed + 1_000_003
        )
        return train_decoder(eyes, self.config, self.tower, self.bank, sampler)

    def calibrate(self, net: VLJEPA) -> None:
        """Stage 3: writes the calibration into the saved model's configuration."""
        save(net, self.out)
        model = load(str(self.out), device='cpu')
        assert model.eyes is not None and isinstance(model.language, TextLanguage)
        asked = ask_all(model.eyes, self.validation, self.config.seed)
        fitted = calibrate(model.language, asked, self.config.seed)
        net.config = dataclasses.replace(net.config, calibration=fitted)
        save(net, self.out)
        self._note({'calibration': dataclasses.asdict(fitted), 'questions': len(asked)})

    def _train_eyes(self, stage: EyesStage, path: Path) -> None:
        every, start, sums = self.config.checkpoint_steps, time.monotonic(), dict[str, float]()
        first = stage.done
        while stage.done < stage.stage.steps:
            for key, value in stage.step().items():
                sums[key] = sums.get(key, 0.0) + value
            if stage.done % 20 == 0:
                pace = (time.monotonic() - start) / (stage.done - first)
                self._note(
                    {
                        'step': stage.done,
                        's/step': round(pace, 2),
                        **{k: round(v / 20, 4) for k, v in sums.items()},
                    }
                )
                sums.clear()
            if stage.done % every == 0 or stage.done == stage.stage.steps:
                save_checkpoint(path, stage.state())
            if stage.done % (4 * every) == 0 or stage.done == stage.stage.steps:
                stage.use_average()
                self._note(
                    {
                        'step': stage.done,
                        'validation top-1': round(
                            accuracy(classify(stage.net, self.bank, self.validation)), 4
                        ),
                    }
                )
                stage.use_average()

    def _note(self, values: dict[str, Any]) -> None:
        with (self.folder / 'log.jsonl').open('a') as stream:
            stream.write(json.dumps(values) + '\n')
        log.info('%s', ' '.join(f'{k} {v}' for k, v in values.items()))


def _streams(folder: Path) -> list[Stream]:
    split = open_split(folder)
    for name, reason in split.skipped:
        log.warning('skipped %s: %s', name, reason)
    if not split.streams:
        raise InputError(f'no whole stream in {folder}')
    return list(split.streams)


def train(config: TrainConfig) -> Path:
    """Run all stages that are not done yet; returns the model's folder."""
    run = Run(config)
    run.calibrate(run.decoder(run.eyes()))
    return run.out
