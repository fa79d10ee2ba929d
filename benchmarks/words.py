# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/words.py DATA`: how does a decoder that learned from texts read predictions?

Decoders for a model's space learn its training sentences alone; what they know of predictions
comes from streams of DATA/train that its eyes were not trained on. Each says what it makes of the
middle of every annotation of DATA/validation: right sentences and CIDEr-D, as in the suite
caption, beside the model's own decoder, which learned from predictions, and the nearest sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import run, show
from numpy.typing import NDArray
from segmenter import open_streams

from vljepa_ros.cli.common import add_model_arguments, load_model, note
from vljepa_ros.cli.main import Parser
from vljepa_ros.data.format import Stream
from vljepa_ros.data.mwstream.meanings import sentences
from vljepa_ros.data.mwstream.tasks import TRAIN_TASKS
from vljepa_ros.errors import InputError
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.document_frequencies import scorer
from vljepa_ros.evaluate.moments import Moment, moments
from vljepa_ros.evaluate.statistics import Mean, draws
from vljepa_ros.evaluate.suites.caption import CIDER, RIGHT, group, mark
from vljepa_ros.evaluate.suites.classify import PROMPT
from vljepa_ros.evaluate.views import answers
from vljepa_ros.model.config import YDecoderConfig
from vljepa_ros.model.language import TextLanguage
from vljepa_ros.model.registry import find, read_config
from vljepa_ros.model.speaker import Speaker
from vljepa_ros.model.text_tower import TextTower
from vljepa_ros.stream.interfaces import Eyes, Model
from vljepa_ros.train.run import hold_back
from vljepa_ros.train.texts import Meanings
from vljepa_ros.train.words.config import WordsConfig
from vljepa_ros.train.words.pairs import Known, Pair
from vljepa_ros.train.words.run import Space, Words

OWN, NEAREST = "the model's own decoder", 'nearest sentence'
LENGTHS = (0.3, 0.5, 0.8)
WAYS: dict[str, dict[str, Any]] = {
    'text alone': {'recentre': False, 'noise': 'none'},
    'means': {'noise': 'none'},
    'even noise': {'recentre': False, 'noise': 'even', 'noise_length': LENGTHS},
    'measured noise': {'recentre': False, 'noise': 'measured'},
    'projection': {'recentre': False, 'noise': 'none', 'anchors': 4096},
    'means, even noise': {'noise': 'even', 'noise_length': LENGTHS},
    'means, measured noise': {'noise': 'measured'},
    'all': {'noise': 'measured', 'anchors': 4096},
}


@dataclass(frozen=True)
class Seen:
    """Moments (N,) with the eyes' predictions (N, D)."""

    moments: list[Moment]
    vectors: NDArray[np.float32]


def look(eyes: Eyes, streams: Sequence[Stream]) -> Seen:
    """Every annotated middle, as the suites look at it."""
    found = moments(streams, TRAIN_TASKS)
    if not found:
        raise InputError('these streams have nothing to caption')
    vectors = [answers(eyes, m.stream, m.at_s, [PROMPT])[0] for m in found]
    return Seen(found, np.stack(vectors))


def space_of(model: Model, folder: Path) -> Space:
    """The model's texts, in the wordpieces of its own decoder."""
    assert isinstance(model.language, TextLanguage)
    config = read_config(folder)
    tower = TextTower(config.text_tower, torch.device(model.facts.device))  # type: ignore[union-attr]
    return Space(model.language, tower.pieces, tower.tokenizer.decode)


def described(seen: Seen) -> Known:
    """Pairs: each with one of its meaning's wordings."""
    rng = np.random.default_rng(0)
    texts = [str(rng.choice(sentences(m.item.meaning))) for m in seen.moments]
    pairs = tuple(Pair(v, t, False) for v, t in zip(seen.vectors, texts, strict=True))
    return Known((seen.vectors, seen.vectors[:0]), pairs)


def speak(words: Words, seen: Seen) -> tuple[str, list[str]]:
    """The noise that a decoder was trained with, and what it says."""
    learned = words.learn()
    placed = learned.decoder.bridge(torch.from_numpy(seen.vectors), False).numpy()
    speaker = Speaker(learned.decoder.y_decoder, words.space.text_of)
    rows = speaker.said(placed, words.space.language, cosines=False)
    return learned.noise, [row[0].text if row else '' for row in rows]


def marks(texts: Sequence[str], seen: Seen, cider: Cider) -> dict[str, Mean]:
    """Every (task, phase) weighs the same."""
    groups = [group(m.item) for m in seen.moments]
    clusters = [m.stream.name for m in seen.moments]
    values = mark('', texts, seen.moments, cider).values
    return {key: draws(v, groups, clusters).interval() for key, v in values.items()}


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """With 95% intervals."""
    lines = [f'{"":<26}{"noise":<12}{"right":>20}{"CIDEr-D":>20}']
    for row in rows:
        right, cider = Mean(**row[RIGHT]), Mean(**row[CIDER])
        shares = f'{right.value:.1%} [{right.low:.1%}, {right.high:.1%}]'
        scores = f'{cider.value:.2f} [{cider.low:.2f}, {cider.high:.2f}]'
        lines.append(f'{row["way"]:<26}{row["noise"]:<12}{shares:>22}{scores:>20}')
    return '\n'.join(lines)


def compare(model: Model, words: Words, seen: Seen, cider: Cider) -> list[dict[str, Any]]:
    """A row for every way, after the model's own decoder and the nearest sentence."""
    assert isinstance(model.language, TextLanguage)
    vectors = words.vectors.cpu().numpy()
    nearest = [words.sentences[i] for i in (seen.vectors @ vectors.T).argmax(axis=1)]
    said = {
        OWN: ('', [decoded.text for decoded in model.language.decode(seen.vectors)]),
        NEAREST: ('', nearest),
    }
    basis = words.config
    for name, changed in WAYS.items():
        note(name)
        words.config = replace(basis, **changed)
        said[name] = speak(words, seen)
    rows = []
    for way, (noise, texts) in said.items():
        found = {key: asdict(mean) for key, mean in marks(texts, seen, cider).items()}
        rows.append({'way': way, 'noise': noise, **found})
    return rows


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    parser.add_argument('data', type=Path)
    parser.add_argument('--learn', type=int, default=40, metavar='N', help='streams of train')
    parser.add_argument('--judge', type=int, default=4, metavar='N', help='of validation')
    parser.add_argument('--steps', type=int, default=2600, help='of each decoder')
    add_model_arguments(parser)
    args = parser.parse_args()
    model = load_model(args)
    assert model.eyes is not None
    _, kept = hold_back(list(open_streams(args.data / 'train', 0)))
    learn = look(model.eyes, kept[: args.learn])
    judge = look(model.eyes, open_streams(args.data / 'validation', args.judge))
    folder = find(args.model)
    decoder = replace(YDecoderConfig(), vocabulary=0)  # of the size of the model's own
    config = WordsConfig(
        args.model, ('training sentences',), y_decoder=decoder, steps=args.steps, batch=64
    )
    texts = [t for said in Meanings().sentences.values() for t in said]
    words = Words(space_of(model, folder), texts, described(learn), config)
    cider, corpus = scorer([m.stream for m in judge.moments])
    rows = compare(model, words, judge, cider)
    found = {
        'learned_from': len(learn.moments),
        'judged_on': len(judge.moments),
        'steps': args.steps,
        'document_frequencies': corpus,
        'rows': rows,
    }
    show(args, model.facts, found, as_table(rows))


if __name__ == '__main__':
    sys.exit(run(main))
