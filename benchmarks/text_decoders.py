# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/text_decoders.py DATA`: evaluate text-trained decoders on predictions.

Decoders for a model's embedding space are trained on its training sentences only. Statistics of
predictions come from streams of DATA/train that its vision side was not trained on. Each decoder
captions the middle of every annotation of DATA/validation. Metrics are correct sentences and
CIDEr-D, as in the suite caption. For comparison, the table has the model's own decoder, which was
trained on predictions, and the nearest sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import open_streams, run, show
from numpy.typing import NDArray

from vljepa_ros.cli.common import add_model_arguments, load_model, note
from vljepa_ros.cli.main import Parser
from vljepa_ros.core.errors import InputError
from vljepa_ros.core.protocols import Vision
from vljepa_ros.data import concepts
from vljepa_ros.data.format import Stream
from vljepa_ros.evaluate.cider import Cider
from vljepa_ros.evaluate.document_frequencies import scorer
from vljepa_ros.evaluate.moments import AnnotationMoment, moments
from vljepa_ros.evaluate.probing import PROMPT
from vljepa_ros.evaluate.statistics import Mean, draws
from vljepa_ros.evaluate.suites.caption import CIDER, RIGHT, group, score_texts
from vljepa_ros.evaluate.views import answers
from vljepa_ros.model.config import ModelConfig
from vljepa_ros.model.language.generation import TextGenerator
from vljepa_ros.model.registry import find, read_config
from vljepa_ros.model.streaming.text import TextLanguage
from vljepa_ros.model.streaming.text_tower import TextTower
from vljepa_ros.train.run import hold_back
from vljepa_ros.train.text_bank import ConceptTexts
from vljepa_ros.train.text_decoder.config import TextDecoderTrainingConfig
from vljepa_ros.train.text_decoder.pairs import KnownPredictions, PredictionPair
from vljepa_ros.train.text_decoder.run import Space, TextDecoderTraining, TrainedTextDecoder

OWN, NEAREST, PLACED = "the model's own decoder", 'nearest sentence', 'nearest, means'
LENGTHS = (0.3, 0.7, 1.5)
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
class PredictedMoments:
    """Moments (N,) with the vision side's predictions (N, D)."""

    moments: list[AnnotationMoment]
    vectors: NDArray[np.float32]


def predict(vision: Vision, streams: Sequence[Stream]) -> PredictedMoments:
    """Predict the embedding in the middle of every annotation, as the suites do."""
    found = moments(streams, concepts.of(streams).train_tasks)
    if not found:
        raise InputError('these streams have no annotations to caption')
    vectors = [answers(vision, m.stream, m.at_s, [PROMPT])[0] for m in found]
    return PredictedMoments(found, np.stack(vectors))


def space_of(language: TextLanguage, config: ModelConfig) -> Space:
    """Return the model's texts, in the wordpieces of its own decoder."""
    tower = TextTower(config.text_tower, torch.device(language.facts.device))
    return Space(language, tower.pieces, tower.tokenizer.decode)


def described(seen: PredictedMoments) -> KnownPredictions:
    """PredictionPair each prediction with one of its concept's paraphrases."""
    rng = np.random.default_rng(0)
    known = concepts.of([m.stream for m in seen.moments])
    texts = [str(rng.choice(known.sentences(m.item.meaning))) for m in seen.moments]
    pairs = tuple(PredictionPair(v, t, False) for v, t in zip(seen.vectors, texts, strict=True))
    return KnownPredictions((seen.vectors, seen.vectors[:0]), pairs)


def decode(learned: TrainedTextDecoder, space: Space, seen: PredictedMoments) -> list[str]:
    """Decode the predictions with a trained decoder."""
    decoder = learned.decoder
    read = decoder.projected(decoder.placed(seen.vectors, asked=False))
    rows = TextGenerator(decoder.y_decoder, space.text_of).hypotheses(read, space.language)
    return [row[0].text if row else '' for row in rows]


def metrics(texts: Sequence[str], seen: PredictedMoments, cider: Cider) -> dict[str, Mean]:
    """Compute the metrics; every (task, phase) has equal weight."""
    groups = [group(m.item) for m in seen.moments]
    clusters = [m.stream.name for m in seen.moments]
    known = concepts.of([m.stream for m in seen.moments])
    values = score_texts('', texts, seen.moments, cider, known).values
    return {key: draws(v, groups, clusters).interval() for key, v in values.items()}


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the results as a table with 95% intervals."""
    lines = [f'{"":<26}{"noise":<12}{"right":>22}{"CIDEr-D":>22}']
    for row in rows:
        right, cider = Mean(**row[RIGHT]), Mean(**row[CIDER])
        shares = f'{right.value:.1%} [{right.low:.1%}, {right.high:.1%}]'
        scores = f'{cider.value:.2f} [{cider.low:.2f}, {cider.high:.2f}]'
        lines.append(f'{row["way"]:<26}{row["noise"]:<12}{shares:>22}{scores:>22}')
    return '\n'.join(lines)


def compare(
    training: TextDecoderTraining,
    own: list[str],
    learn: PredictedMoments,
    evaluated: PredictedMoments,
    cider: Cider,
) -> list[dict[str, Any]]:
    """Return a row per training variant, after the model's `own` texts and nearest sentences."""
    texts, vectors = training.sentences, training.vectors.cpu().numpy()
    known = described(learn)
    variants: dict[str, tuple[str, list[str]]] = {OWN: ('', own)}
    gap = np.mean(learn.vectors, axis=0) - np.mean(
        training.space.language.encode([p.text for p in known.pairs]), axis=0
    )
    for name, placed in ((NEAREST, evaluated.vectors), (PLACED, evaluated.vectors - gap)):
        variants[name] = ('', [texts[i] for i in (placed @ vectors.T).argmax(axis=1)])
    for name, changed in WAYS.items():
        note(name)
        learned = training.changed(**changed).train()
        variants[name] = (learned.noise, decode(learned, training.space, evaluated))
    rows = []
    for way, (noise, decoded) in variants.items():
        found = {key: asdict(mean) for key, mean in metrics(decoded, evaluated, cider).items()}
        rows.append({'way': way, 'noise': noise, **found})
    return rows


def main() -> None:
    """Measure and print. Raises VljepaError."""
    parser = Parser(description=__doc__)
    parser.add_argument('data', type=Path)
    parser.add_argument(
        '--learn', type=int, default=40, metavar='N', help='number of training streams'
    )
    parser.add_argument(
        '--judge', type=int, default=4, metavar='N', help='number of validation streams'
    )
    parser.add_argument('--steps', type=int, default=2600, help='training steps of each decoder')
    add_model_arguments(parser)
    args = parser.parse_args()
    config, model = read_config(find(args.model)), load_model(args)
    if not isinstance(config, ModelConfig) or not isinstance(model.language, TextLanguage):
        raise InputError(
            f'--model: {config.name} has no Y-Decoder to compare with; choose a model that has one'
        )
    assert model.vision is not None
    _, kept = hold_back(list(open_streams(args.data / 'train', 0)))
    learn = predict(model.vision, kept[: args.learn])
    evaluated = predict(model.vision, open_streams(args.data / 'validation', args.judge))
    asked = TextDecoderTrainingConfig(
        args.model, ('training sentences',), y_decoder=config.y_decoder, steps=args.steps, batch=64
    )
    meanings = ConceptTexts(concepts=concepts.of(kept))
    texts = [text for same in meanings.sentences.values() for text in same]
    space = space_of(model.language, config)
    training = TextDecoderTraining(space, texts, described(learn), asked)
    cider, corpus = scorer([m.stream for m in evaluated.moments])
    own = [decoded.text for decoded in model.language.decode(evaluated.vectors)]
    found = {
        'learned_from': len(learn.moments),
        'judged_on': len(evaluated.moments),
        'steps': args.steps,
        'document_frequencies': corpus,
        'rows': compare(training, own, learn, evaluated, cider),
    }
    show(args, model.facts, found, as_table(found['rows']))


if __name__ == '__main__':
    sys.exit(run(main))
