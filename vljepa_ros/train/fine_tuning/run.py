# SPDX-License-Identifier: Apache-2.0
"""Complete fine-tuning run: from annotated recordings to the folder of the fine-tuned model.

It trains the Y-Encoder, the vision side and the Y-Decoder, then fits the calibration and computes
metrics. The result is an ordinary model folder. It also contains the recordings as streams, and
`tuning.json` with the configuration and the metrics before and after fine-tuning.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Model
from vljepa_ros.data.format import Stream
from vljepa_ros.model import registry
from vljepa_ros.model.config import CalibrationConfig, ModelConfig, RegionFinderConfig
from vljepa_ros.model.streaming.network import LANGUAGE, VISION, VLJEPA
from vljepa_ros.model.streaming.text import TextLanguage
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.model.weights import stored_dtype
from vljepa_ros.train.adapters import merged, require
from vljepa_ros.train.calibration_stage import predict_answers, recalibrate
from vljepa_ros.train.clips import ClipSampler
from vljepa_ros.train.decoder_stage import Vocabulary, prediction_pairs, text_pairs
from vljepa_ros.train.fine_tuning.config import FineTuningConfig
from vljepa_ros.train.fine_tuning.decoder_stage import (
    train_decoder_on_texts,
    with_larger_vocabulary,
)
from vljepa_ros.train.fine_tuning.metrics import AnnotationMetrics, evaluate_annotations
from vljepa_ros.train.fine_tuning.recordings import Importer, long_enough
from vljepa_ros.train.fine_tuning.rehearsal import known_prompts, known_sentences
from vljepa_ros.train.fine_tuning.text_stage import TextFineTuning
from vljepa_ros.train.fine_tuning.trainable_parameters import select_parameters
from vljepa_ros.train.fine_tuning.vision_stage import Nets, VisionFineTuning
from vljepa_ros.train.text_bank import ConceptTexts, TextBank, annotated_concepts
from vljepa_ros.train.training_log import Log, progress
from vljepa_ros.train.vision_stage import VisionRunner

LOGGED = 20  # steps between two log lines
PREDICTED = 120  # number of clips whose predictions the decoder is trained on

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuningResult:
    """Folder of a fine-tuned model, and its metrics before and after fine-tuning.

    `judged_on`: recordings that the metrics are computed on: 'validation', or 'recordings' (the
    training recordings) if there are no validation recordings.
    """

    folder: Path
    judged_on: str
    before: AnnotationMetrics
    after: AnnotationMetrics


def _streaming(folder: Path) -> ModelConfig:
    """Return the configuration of a starting model, without its region finder.

    Raises:
        InputError: The model is not of kind streaming.
    """
    config = registry.read_config(folder)
    if not isinstance(config, ModelConfig):
        raise InputError(
            f"start: model '{folder.name}' is of kind {config.kind}, but fine-tuning supports "
            f'only models of kind streaming'
        )
    # The finder was trained on the scenes of the starting model; other scenes are not cropped.
    return dataclasses.replace(config, region_finder=RegionFinderConfig())


class FineTuning:
    """A fine-tuning run: its data and networks, and one method per stage.

    Raises:
        InputError: The configuration or a recording is invalid, or peft is required and missing.
        ModelError: The starting model is unknown or damaged.
    """

    def __init__(self, config: FineTuningConfig) -> None:
        require(config.tune)
        torch.manual_seed(config.seed)
        self.config, self.out = config, Path(config.out)
        device = registry.pick_device(config.device)
        folder = registry.find(config.start)
        if self.out.resolve() == folder.resolve():
            raise InputError(
                f'out: {self.out} is the folder of the starting model: choose another folder'
            )
        self.model = _streaming(folder)
        self.dtype = stored_dtype(folder)
        self.tower = TextTower(self.model.text_tower, device)
        self.train, self.validation = self._streams()
        self.before = VLJEPA(self.model)
        registry.load_weights(self.before, folder / registry.WEIGHTS, VISION + LANGUAGE)
        self.before.to(device).eval().requires_grad_(False)
        self.bank = TextBank(self.tower, self.model.predictor.max_prompt_tokens)
        self.concept_texts = ConceptTexts(annotated_concepts(self.train))
        self.log = Log(self.out, self.out / 'tensorboard')

    def run(self) -> FineTuningResult:
        """Run all stages, save the fine-tuned model, and evaluate it and the starting model."""
        start = self.assembled(self.before)
        assert isinstance(start.language, TextLanguage)
        known = known_sentences(start.language, self.config.seed)
        log.info('rehearsal: found %d sentences that the starting model knows', len(known))
        net = copy.deepcopy(self.before)
        texts = TextFineTuning(net.y_encoder, self.bank, self.concept_texts, known)
        loss = texts.train(self.config.text_steps, self.config.seed)
        self.log.write('texts', self.config.text_steps, {'loss': loss})
        self._vision(net, texts)
        net = self._decoder(merged(net), known)
        calibration = self._calibration(net)
        net.config = dataclasses.replace(net.config, calibration=calibration)
        registry.save(net, self.out, self.dtype)
        return self._evaluated(start, registry.load(self.config.out, self.config.device))

    def assembled(self, net: VLJEPA) -> Model:
        """Combine a network and the text tower into a model with vision and text side."""
        return registry.assemble(net, self.tower, 'in training')

    def _streams(self) -> tuple[list[Stream], list[Stream]]:
        """Import the recordings, and return training streams and validation streams.

        Raises:
            InputError: A recording is invalid, or all training recordings are too short.
        """
        config, importer = self.config, Importer(self.model, self.tower)
        folder = self.out / 'streams'
        frames = config.clips.tubelets * self.model.time.tubelet_frames
        train = importer.read(config.recordings, folder / 'train')
        return long_enough(train, frames), importer.read(config.validation, folder / 'validation')

    def _sampler(self, seed: int) -> ClipSampler:
        return ClipSampler(self.train, self.model.time.tubelet_frames, self.config.seed + seed)

    def _vision(self, net: VLJEPA, texts: TextFineTuning) -> None:
        """Train the selected parameters of the vision side of `net`, then freeze the network."""
        config, sums = self.config, dict[str, float]()
        trained = select_parameters(net, config)
        log.info(
            'tune %s: the vision side has %d trainable parameters',
            config.tune,
            sum(p.numel() for p in trained),
        )
        others = known_prompts({q.prompt for s in self.train for q in s.questions()})
        nets = Nets(net, self.before, trained)
        stage = VisionFineTuning(nets, config, self._sampler(0), texts, others)
        with progress('vision', config.steps) as advance:
            while stage.done < config.steps:
                for key, value in stage.step().items():
                    sums[key] = sums.get(key, 0.0) + value / LOGGED
                advance(1)
                if stage.done % LOGGED == 0:
                    self.log.write('vision', stage.done, sums)
                    sums.clear()
        net.requires_grad_(False)

    def _decoder(self, net: VLJEPA, known: list[str]) -> VLJEPA:
        """Train the Y-Decoder of a copy of `net`, and return the copy with its new name.

        Args:
            net: Network with fine-tuned vision side and Y-Encoder.
            known: Known sentences for rehearsal.
        """
        config, texts = (
            self.config,
            [t for some in self.concept_texts.sentences.values() for t in some],
        )
        ids = net.y_decoder.token_ids.tolist()
        vocabulary = Vocabulary(self.tower.pieces, texts, self.model.y_decoder.max_tokens, ids)
        net = with_larger_vocabulary(net, vocabulary.ids).eval().requires_grad_(False)
        sampler = self._sampler(1)
        runner = VisionRunner(net, self.bank, sampler.rng, 1.0)
        kinds = [text_pairs(net, self.bank, some) for some in (texts, known) if some]
        kinds.append(
            prediction_pairs(
                runner, sampler, self.concept_texts, config.clips, PREDICTED, config.amp
            )
        )
        loss = train_decoder_on_texts(net, vocabulary, kinds, config.decoder_steps, config.seed)
        self.log.write('decoder', config.decoder_steps, {'cross-entropy': loss})
        description = f'{self.model.name}, fine-tuned ({config.tune})'
        net.config = dataclasses.replace(net.config, name=config.title, description=description)
        return net

    def _calibration(self, net: VLJEPA) -> CalibrationConfig:
        """Refit the calibration on the validation recordings.

        Without validation recordings, the calibration of the starting model is returned.
        """
        if not self.validation:
            log.info('no validation recordings: keeping the calibration of the starting model')
            return self.model.calibration
        model = self.assembled(net)
        assert model.vision is not None and isinstance(model.language, TextLanguage)
        answered = predict_answers(model.vision, self.validation, self.config.seed)
        return recalibrate(model.language, answered, self.config.seed)

    def _evaluated(self, start: Model, tuned: Model) -> FineTuningResult:
        streams = self.validation or self.train
        judged_on = 'validation' if self.validation else 'recordings'
        found = FineTuningResult(
            self.out,
            judged_on,
            evaluate_annotations(start, streams),
            evaluate_annotations(tuned, streams),
        )
        plain: dict[str, Any] = {
            'model_id': tuned.facts.model_id,
            'config': dataclasses.asdict(self.config),
            **as_json(found),
        }
        (self.out / 'tuning.json').write_text(json.dumps(plain, indent=1) + '\n')
        return found


def as_json(found: FineTuningResult) -> dict[str, Any]:
    """Convert a result to JSON values; metrics without data become null."""
    figures = {
        key: {k: None if math.isnan(v) else round(v, 4) for k, v in dataclasses.asdict(m).items()}
        for key, m in (('before', found.before), ('after', found.after))
    }
    return {'folder': str(found.folder), 'judged_on': found.judged_on, **figures}


def tune(config: FineTuningConfig) -> FineTuningResult:
    """Fine-tune a model according to `config`, and save it in `config.out`."""
    return FineTuning(config).run()
