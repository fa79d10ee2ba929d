# SPDX-License-Identifier: Apache-2.0
"""Training of a bidirectional model: runs all stages in order, in one process on one device.

The weights after each stage are stored in `<out>/checkpoints`; an interrupted run resumes at the
start of the unfinished stage.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from vljepa_ros.core.errors import InputError
from vljepa_ros.data.format import Stream, open_split
from vljepa_ros.model import registry
from vljepa_ros.model.bidirectional.config import BidirectionalConfig
from vljepa_ros.model.bidirectional.network import LANGUAGE, VISION, BidirectionalVLJEPA
from vljepa_ros.model.config import CONFIG
from vljepa_ros.model.language import text_decoder
from vljepa_ros.model.language.tokenizer import Tokens
from vljepa_ros.model.weights import WEIGHTS, place_weights
from vljepa_ros.train.adapters import merged, require
from vljepa_ros.train.recipe.config import RecipeConfig, StageConfig
from vljepa_ros.train.recipe.pairs import PairSampler
from vljepa_ros.train.recipe.step import RecipeStage
from vljepa_ros.train.training_log import Log, progress

NAME = re.compile('^name: .*$', re.MULTILINE)  # line in model.yaml with the name of the model
LOGGED = 20  # steps between two log lines


@dataclass
class _RecipeRun:
    """Configuration, network, data and log, which all stages of a run share."""

    config: RecipeConfig
    model: BidirectionalConfig
    folder: Path  # folder of the initial model
    net: BidirectionalVLJEPA
    sampler: PairSampler
    log: Log

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, with one file of weights per finished stage."""
        return Path(self.config.out) / 'checkpoints'


def train(config: RecipeConfig) -> Path:
    """Run all stages that are not finished yet, and return the folder of the trained model."""
    run = _prepared(config)
    for stage in run.config.stages:
        done = run.checkpoints / f'{stage.name}.safetensors'
        if not done.is_file():
            _train_stage(run, stage)
            _save(run.net, done)
        else:
            _read(run.net, done)
    out = Path(config.out)
    # These files are written below, or are only valid for the vectors of the initial model.
    left_out = (CONFIG, WEIGHTS, text_decoder.CONFIG, text_decoder.WEIGHTS)
    for path in run.folder.iterdir():
        if path.is_file() and path.name not in left_out:
            shutil.copyfile(path, out / path.name)
    config_text = (run.folder / CONFIG).read_text()
    name_line = f'name: {json.dumps(out.resolve().name)}'
    (out / CONFIG).write_text(NAME.sub(lambda _: name_line, config_text, count=1))
    _save(run.net, out / WEIGHTS)
    return out


def _prepared(config: RecipeConfig) -> _RecipeRun:
    require(config.tune)
    folder = registry.find(config.model)
    model = registry.read_config(folder)
    if not isinstance(model, BidirectionalConfig):
        raise InputError(
            f'{folder} is a model of kind {model.kind}, but recipes train only kind bidirectional'
        )
    streams = _streams(config, model)
    out = Path(config.out)
    (out / 'checkpoints').mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    net = BidirectionalVLJEPA(model).to(registry.prepare(config.device, 'float32'))
    _read(net, folder / WEIGHTS)
    log = Log(out / 'checkpoints', out / 'tensorboard')
    return _RecipeRun(
        config, model, folder, net, PairSampler(streams, config.seed, config.prompt), log
    )


def _streams(config: RecipeConfig, model: BidirectionalConfig) -> list[Stream]:
    """Open all complete streams of the split `train`.

    Raises:
        InputError: There is no stream, or a stream does not have the frame rate and image size of
            the model.
    """
    found = list(open_split(Path(config.data) / 'train').streams)
    for stream in found:
        rate, side = stream.meta.get('rate_hz', 0), stream.frames().shape[1]
        if (rate, side) != (model.time.rate_hz, model.x_encoder.image_size):
            raise InputError(
                f'{stream.folder} has {rate:g} frames/s of {side} px, but the model expects '
                f'{model.time.rate_hz:g} frames/s of {model.x_encoder.image_size} px: generate or '
                f'import the data with this rate and size'
            )
    if not found:
        raise InputError(f'found no complete stream in {Path(config.data) / "train"}')
    return found


def _train_stage(run: _RecipeRun, stage: StageConfig) -> None:
    predictor, y_encoder = run.model.predictor, run.model.y_encoder
    prompts = Tokens(run.folder, predictor.tokenizer, predictor.max_prompt_tokens)
    texts = Tokens(run.folder, y_encoder.tokenizer, y_encoder.max_tokens)
    state, total = RecipeStage(run.net, prompts, texts, run.config, stage), 0.0
    run.net.train()
    run.net.x_encoder.eval()
    with progress(stage.name, stage.steps) as advance:
        while state.done < stage.steps:
            total += state.step(run.sampler.draw(stage.batch, stage.frames, stage.questions))
            advance(1)
            if state.done % LOGGED == 0:
                run.log.write(stage.name, state.done, {'loss': total / LOGGED})
                total = 0.0
    merged(run.net).eval()


def _read(net: BidirectionalVLJEPA, path: Path) -> None:
    device = next(net.parameters()).device
    place_weights(net, path, VISION + LANGUAGE, device, torch.float32)


def _save(net: BidirectionalVLJEPA, path: Path) -> None:
    """Write the weights of a network atomically, by renaming a temporary file."""
    partial = path.with_name(f'{path.name}.part')
    save_file({k: v.contiguous().cpu() for k, v in net.state_dict().items()}, partial)
    partial.replace(path)
