# SPDX-License-Identifier: Apache-2.0
"""Top-1 over the training tasks: which act goes on in the middle of its phase?

Each act is streamed from 2 s earlier with cold caches; the candidates are the 45 tasks in their
training wordings, with the object's true colour (BENCHMARK.md, suite classify).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vljepa_ros.data.format import Annotation, Stream
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.data.mwstream.tasks import COLOUR_NAMES, TRAIN_TASKS, meaning_of
from vljepa_ros.model.vljepa import VLJEPA
from vljepa_ros.train.texts import TextBank

CONTEXT_S = 2.0
PROMPT = 'What is happening?'


@dataclass(frozen=True)
class Guess:
    """One act with what the model took it for."""

    stream: str
    task: str
    guess: str
    cosine: float


@torch.inference_mode()
def classify(
    net: VLJEPA, bank: TextBank, streams: list[Stream], which: str = 'train'
) -> list[Guess]:
    """A guess for the middle of every act of the training tasks."""
    prompt = bank.states([PROMPT])
    candidates = {
        colour: [_embed(net, bank, task, colour, which) for task in TRAIN_TASKS]
        for colour in COLOUR_NAMES
    }
    guesses = []
    for stream in streams:
        for item in stream.annotations:
            if item.phase == 'act' and item.task in TRAIN_TASKS and item.start >= CONTEXT_S:
                vector = _predict(net, stream, item, prompt)
                cosine = torch.stack([(c @ vector).mean() for c in candidates[item.colour]])
                best = int(cosine.argmax())
                guesses.append(
                    Guess(stream.name, item.task, TRAIN_TASKS[best], float(cosine[best]))
                )
    return guesses


def accuracy(guesses: list[Guess]) -> float:
    """Share of right guesses, every task weighing the same."""
    tasks = sorted({g.task for g in guesses})
    return float(
        np.mean(
            [np.mean([g.guess == g.task for g in guesses if g.task == task]) for task in tasks]
        )
    )


def _predict(
    net: VLJEPA, stream: Stream, item: Annotation, prompt: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    per = net.config.time.tubelet_frames
    tubelets = int(CONTEXT_S * 10) // per
    end = int((item.start + item.end) / 2 * 10) + 1
    frames = np.array(stream.frames()[max(0, end - tubelets * per) : end])
    frames = frames[len(frames) % per :]
    clip = torch.from_numpy(frames).unflatten(0, (-1, per))[None].to(prompt[0].device)
    at = torch.tensor([clip.shape[1] - 1], device=clip.device)
    prefix = net.predictor.prefix(net.x_encoder(clip))
    return net.predictor.answers(prefix, prompt[0][None], prompt[1][None], at)[0, 0, 0]


def _embed(net: VLJEPA, bank: TextBank, task: str, colour: str, which: str) -> torch.Tensor:
    """The embeddings (wordings, D) of a task's act."""
    vectors: torch.Tensor = net.y_encoder(
        *bank.states(sentences(meaning_of(task, 'act', colour), which))
    )
    return vectors
